"""How long the same server has answered, with a clock that goes as ours does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qvd.model.host import Steadiness, lost_sentence, watch
from qvd.model.records import ServerClock

TOLERANCE = 2.5
AHEAD = 1_000_000.0
"""The server's clock, less ours."""


def answer(at: float, ahead: float = AHEAD, server: str = "one") -> ServerClock:
    return ServerClock(server, at + ahead)


def seen(*answers: tuple[float, ServerClock]) -> Steadiness:
    """Each with our time, none of which passes between question and answer."""
    steady: Steadiness | None = None
    for at, clock in answers:
        steady = watch(steady, clock, at, at, TOLERANCE)
    assert steady is not None
    return steady


def test_it_begins_with_the_first_answer() -> None:
    assert watch(None, answer(8.0), 7.0, 9.0, TOLERANCE).seconds(9.0) == 0.0


def test_it_lasts_while_nothing_changes() -> None:
    assert seen(*((at, answer(at)) for at in (0.0, 5.0, 10.0, 15.0))).seconds(15.0) == 15.0


def test_another_run_of_the_server_begins_anew() -> None:
    assert seen((0.0, answer(0.0)), (5.0, answer(5.0, server="two"))).seconds(7.0) == 2.0


def test_a_step_of_its_clock_begins_anew() -> None:
    for step in (-3600.0, -3.0, 3.0, 3600.0):
        assert seen((0.0, answer(0.0)), (5.0, answer(5.0, AHEAD + step))).since == 5.0, step


def test_many_small_steps_are_one_large_one() -> None:
    steps = ((float(at), answer(at, AHEAD + at)) for at in range(5))
    assert seen(*steps).since == 3.0


def test_a_slow_answer_is_no_step() -> None:
    steady = watch(None, answer(0.0), 0.0, 0.0, TOLERANCE)
    for asked, made, arrived in ((5.0, 5.0, 14.0), (20.0, 29.0, 29.0), (30.0, 30.0, 30.0)):
        steady = watch(steady, answer(made), asked, arrived, TOLERANCE)
    assert steady.since == 0.0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(-TOLERANCE, TOLERANCE)), max_size=20))
def test_no_delay_within_the_tolerance_is_a_step(answers: list[tuple[float, float, float]]) -> None:
    steady = watch(None, answer(0.0), 0.0, 0.0, TOLERANCE * 1.001)
    now = 0.0
    for before, after, error in answers:
        steady = watch(steady, answer(now + before, AHEAD + error), now, now + before + after, TOLERANCE * 1.001)
        now += before + after
    assert steady.since == 0.0


def test_the_sentence() -> None:
    assert lost_sentence("n2", "on which this desktop ran") == (
        "The node n2, on which this desktop ran, does not answer any more"
    )
