"""Why a VM is in its state, as an administrator reads it."""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import evolve

from qvd.model.explanation import explain
from qvd.model.ids import Generation, HostId, SessionId
from qvd.model.placement import Wanted, Weights, decide
from qvd.model.records import Desired, Explanation
from qvd.model.vm import VMState
from tests.fakes.ownership import vm_row
from tests.unit.test_model_placement import GOOD

SINCE = datetime(2026, 11, 24, 8, 55, tzinfo=UTC)
STOPPED = evolve(vm_row(4), name="desktop", login="alice", since=SINCE)
PLACED = decide([GOOD], Wanted(1 << 29), Weights(), lambda: 0.0).document()


def test_one_that_was_never_started() -> None:
    assert explain(Explanation(STOPPED, "demo", None, None)) == [
        "VM 4 'desktop' of alice@demo",
        "  is stopped on no node since 2026-11-24 08:55:00 UTC",
        f"  is wanted stopped: order {STOPPED.generation}, taken up",
        "  nobody is connected",
        "  was never placed on a node",
    ]


def test_one_that_crashes_in_a_loop() -> None:
    looping = evolve(STOPPED, failures=4, retry_in=19.5, last_error="The guest does not answer")
    lines = explain(Explanation(looping, "demo", None, None))
    assert "  ended with: The guest does not answer" in lines
    assert "  has failed 4 times in a row: may be started in 20 s, or at once after qvd-node reset 4" in lines


def test_one_that_has_failed_and_may_be_tried() -> None:
    lines = explain(Explanation(evolve(STOPPED, failures=1, retry_in=0.0), "demo", None, None))
    assert "  has failed 1 time in a row" in lines


def test_one_that_runs() -> None:
    running = evolve(
        STOPPED,
        state=VMState.RUNNING,
        desired=Desired.RUNNING,
        host_id=HostId(1),
        detail="Running",
        session_id=SessionId("s"),
        last_error="of an earlier run",
    )
    lines = explain(Explanation(running, "demo", "n1", PLACED))
    assert lines[1] == "  is running on n1 since 2026-11-24 08:55:00 UTC: Running"
    assert lines[3:5] == ["  somebody is connected", "  last placement:"]
    assert lines[5].startswith("    n1: score 0.75, the highest: taken")


def test_one_that_ended_says_why() -> None:
    ended = evolve(STOPPED, blocked=True, last_error="The guest does not answer", generation=Generation(9))
    lines = explain(Explanation(ended, "demo", None, PLACED))
    assert lines[0].endswith(", blocked")
    assert lines[2].endswith("not taken up by its node yet")
    assert "  ended with: The guest does not answer" in lines
