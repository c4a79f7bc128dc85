"""Each session's end reaches the database, whatever it takes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from qvd.l7r.ledger import RETRY, Ledger
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import SessionId
from tests.fakes.case import Case
from tests.fakes.sessions import FakeSessions

ONE, TWO = SessionId("one"), SessionId("two")
AWAY = DatabaseUnavailable("The database does not answer")


class LedgerTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = FakeSessions()
        self.ledger = Ledger(self.clock, self.sessions)
        self.closed: list[tuple[str, str]] = []
        for session in (ONE, TWO):
            self.ledger.open(session, self.closer(session))

    def closer(self, name: str) -> Callable[[str], None]:
        return lambda reason: self.closed.append((name, reason))

    def test_one_is_closed_from_outside(self) -> None:
        self.ledger.close(ONE, "taken")
        assert self.closed == [("one", "taken")]

    def test_of_one_that_is_not_served_the_row_is_closed(self) -> None:
        self.ledger.close(SessionId("three"), "taken")
        self.ledger.end(ONE, "over")
        self.ledger.close(ONE, "taken")
        assert self.closed == []
        assert self.sessions.ended == {"three": "taken", ONE: "over"}

    def test_what_is_confirmed_goes_on(self) -> None:
        assert self.ledger.confirmed() == set()
        self.ledger.confirm(ONE)
        assert self.ledger.confirmed() == {ONE}
        self.ledger.end(ONE, "over")
        self.ledger.confirm(ONE)
        assert self.ledger.confirmed() == set()

    def test_all_are_closed_when_the_node_stops(self) -> None:
        self.ledger.close_all("stop")
        assert sorted(self.closed) == [("one", "stop"), ("two", "stop")]

    def test_closing_may_end_them_meanwhile(self) -> None:
        self.ledger.open(ONE, lambda reason: self.ledger.end(ONE, reason))
        self.ledger.close_all("stop")
        assert self.ledger.count == 1

    def test_an_end_is_written(self) -> None:
        self.ledger.end(ONE, "over")
        assert self.sessions.ended == {ONE: "over"}
        assert self.ledger.count == 1

    def test_an_end_is_tried_again_until_the_database_is_back(self) -> None:
        self.sessions.conduct.always_fail("end", AWAY)
        self.ledger.end(ONE, "over")
        self.clock.pump([RETRY] * 5)
        assert self.sessions.ended == {}
        self.sessions.conduct.recover("end")
        self.clock.advance(RETRY)
        assert self.sessions.ended == {ONE: "over"}
        assert self.clock.getDelayedCalls() == []

    def test_an_end_whose_answer_was_lost(self) -> None:
        self.sessions.conduct.fail("end", AWAY, after=True)
        self.ledger.end(ONE, "over")
        self.clock.advance(RETRY)
        assert self.sessions.ended == {ONE: "over"}
        assert self.clock.getDelayedCalls() == []

    def test_an_end_that_fails_otherwise_is_logged_and_tried_again(self) -> None:
        self.sessions.conduct.fail("end", OSError("No space left on device"))
        self.ledger.end(ONE, "over")
        assert self.logged(OSError) == 1
        assert self.sessions.ended == {}
        self.clock.advance(RETRY)
        assert self.sessions.ended == {ONE: "over"}
        self.result(self.ledger.settled(10))

    def test_an_end_is_written_once_however_often_it_is_asked_for(self) -> None:
        self.sessions.conduct.always_fail("end", AWAY)
        for _ in range(5):
            self.ledger.close(SessionId("three"), "taken")
        assert len(self.clock.getDelayedCalls()) == 1
        self.sessions.conduct.recover("end")
        self.clock.advance(RETRY)
        assert self.sessions.ended == {"three": "taken"}
        assert self.clock.getDelayedCalls() == []

    def test_settled_waits_for_the_ends(self) -> None:
        held = self.sessions.conduct.hold("end")
        self.ledger.end(ONE, "over")
        settled = self.begin(self.ledger.settled(10))
        self.clock.pump([0.05] * 20)
        assert self.waits(settled)
        held.go_on()
        self.clock.advance(0.05)
        self.result(settled)
        assert self.sessions.ended == {ONE: "over"}

    def test_settled_gives_the_rest_up(self) -> None:
        self.sessions.conduct.always_fail("end", AWAY)
        self.ledger.end(ONE, "over")
        settled = self.begin(self.ledger.settled(1))
        self.clock.pump([0.05] * 21)
        self.result(settled)
        self.clock.pump([RETRY] * 3)
        assert self.clock.getDelayedCalls() == []

    def test_settled_without_ends(self) -> None:
        self.result(self.ledger.settled(10))
