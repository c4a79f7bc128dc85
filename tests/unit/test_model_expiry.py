"""Which of a VM's dates has come, and what is to be done then."""

from __future__ import annotations

import pytest

from qvd.model.expiry import Expiring, ExpiryDate, Notice, is_over, next_look, notices
from qvd.model.ids import VMId
from tests.fakes.driver import guest_of

WARNING = 300.0


def vm(
    soft: float | None = None, hard: float | None = None, taken: bool = True, connected: bool = True, told: bool = False
) -> Expiring:
    dates = [None if seconds is None else ExpiryDate(seconds, f"{seconds:g}", told) for seconds in (soft, hard)]
    return Expiring(VMId(1), guest_of(1), dates[0], dates[1], taken, connected)


@pytest.mark.parametrize(
    ("expiring", "over"),
    [
        (vm(soft=0.0), False),
        (vm(soft=0.0, taken=False), True),
        (vm(soft=0.1, taken=False), False),
        (vm(hard=0.0), True),
        (vm(hard=0.1), False),
        (vm(soft=-9.0, hard=0.1), False),
        (vm(soft=9.0, hard=-1.0, taken=False), True),
    ],
)
def test_when_it_stops(expiring: Expiring, over: bool) -> None:
    assert is_over(expiring, 0.0) is over


def test_time_that_has_passed_since_counts() -> None:
    assert not is_over(vm(hard=5.0), 4.9)
    assert is_over(vm(hard=5.0), 5.0)
    assert notices(vm(hard=305.0), 5.0, WARNING) == (Notice.HARD,)
    assert next_look(vm(hard=305.0), 4.0, WARNING) == 1.0


@pytest.mark.parametrize(
    ("expiring", "told"),
    [
        (vm(soft=0.0), (Notice.SOFT,)),
        (vm(soft=0.1), ()),
        (vm(soft=0.0, connected=False), ()),
        (vm(soft=0.0, told=True), ()),
        (vm(hard=WARNING), (Notice.HARD,)),
        (vm(hard=WARNING + 0.1), ()),
        (vm(hard=WARNING, told=True), ()),
        (vm(soft=-1.0, hard=1.0), (Notice.SOFT, Notice.HARD)),
    ],
)
def test_what_is_told(expiring: Expiring, told: tuple[Notice, ...]) -> None:
    assert notices(expiring, 0.0, WARNING) == told


@pytest.mark.parametrize(
    ("expiring", "seconds"),
    [
        (vm(), None),
        (vm(soft=10.0), 10.0),
        (vm(soft=-1.0), None),
        (vm(hard=1000.0), 700.0),
        (vm(hard=200.0), 200.0),
        (vm(soft=250.0, hard=1000.0), 250.0),
    ],
)
def test_when_to_look_again(expiring: Expiring, seconds: float | None) -> None:
    assert next_look(expiring, 0.0, WARNING) == seconds


def test_the_agent_gets_the_dates_that_there_are() -> None:
    assert vm(soft=1.0).parameters == {"vm.expiration.soft": "1"}
    assert vm(1.0, 2.0).parameters == {"vm.expiration.soft": "1", "vm.expiration.hard": "2"}
