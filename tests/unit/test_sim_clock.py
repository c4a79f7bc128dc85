"""Simulated time, and a simulated process that stands still or dies."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock

from qvd.sim.clock import NodeReactor, VirtualClock


class Descriptor:
    """Something with a socket."""

    def __init__(self, number: int = 3) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


def node() -> tuple[VirtualClock, Any, list[str]]:
    clock = VirtualClock()
    return clock, NodeReactor(clock, MemoryReactorClock()), []  # type: ignore[no-untyped-call]


def test_calls_come_in_order_and_at_their_time() -> None:
    clock, seen = VirtualClock(), list[tuple[str, float]]()
    for name, delay in (("late", 3.0), ("first", 1.0), ("second", 1.0)):
        clock.callLater(delay, lambda name=name: seen.append((name, clock.seconds())))
    clock.run_until(2.0)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert clock.seconds() == 2.0
    assert clock.due() == 3.0


def test_cancelled_and_delayed_calls() -> None:
    clock, seen = VirtualClock(), list[float]()
    clock.callLater(1.0, seen.append, 0.0).cancel()
    delayed, sooner = (clock.callLater(2.0, lambda: seen.append(clock.seconds())) for _ in range(2))
    delayed.delay(3.0)
    sooner.reset(0.5)
    assert len(clock.getDelayedCalls()) == 2
    clock.run_until(10.0)
    assert seen == [0.5, 5.0]
    assert clock.due() is None


def test_one_call_that_fails_keeps_no_other_from_being_made() -> None:
    clock, seen = VirtualClock(), list[int]()
    clock.callLater(1.0, lambda: int("none"))
    clock.callLater(2.0, seen.append, 1)
    clock.run_until(3.0)
    assert seen == [1]


def test_what_is_to_be_done_at_once_is_told() -> None:
    clock, told = VirtualClock(), list[int]()
    clock.urgent = lambda: told.append(1)
    clock.callLater(0.1, lambda: None)
    assert told == []
    clock.callLater(0, lambda: None)
    assert told == [1]


def test_a_process_that_was_stopped_catches_up() -> None:
    clock, reactor, seen = node()
    reactor.callLater(1.0, seen.append, "one")
    second = reactor.callLater(2.0, seen.append, "two")
    reactor.callLater(1.5, second.cancel)
    reactor.callLater(4.0, seen.append, "four")
    reactor.stop_process()
    clock.run_until(3.0)
    assert seen == []
    reactor.continue_process()
    clock.run_until(3.0)
    assert seen == ["one"], "the second was cancelled by what came before it"
    clock.run_until(4.0)
    assert seen == ["one", "four"]


def test_a_dead_process_does_nothing() -> None:
    clock, reactor, seen = node()
    reactor.callLater(1.0, seen.append, "one")
    reactor.die()
    reactor.callLater(1.0, seen.append, "two")
    clock.run_until(5.0)
    assert seen == []


def test_a_node_that_is_cut_off_reads_nothing() -> None:
    clock, reactor, seen = node()
    reactor.addReader(first := Descriptor())
    reactor.cut(True)
    reactor.addWriter(second := Descriptor(4))
    assert reactor._real.getReaders() == [] == reactor._real.getWriters()
    reactor.callLater(1.0, seen.append, "its time goes on")
    clock.run_until(1.0)
    assert seen == ["its time goes on"]
    reactor.cut(False)
    assert (reactor._real.getReaders(), reactor._real.getWriters()) == ([first], [second])


def test_what_was_closed_meanwhile_is_not_read_again() -> None:
    _, reactor, _ = node()
    reactor.addReader(gone := Descriptor())
    reactor.cut(True)
    gone.number = -1
    reactor.cut(False)
    assert reactor._real.getReaders() == []
    assert reactor.descriptors == set()
