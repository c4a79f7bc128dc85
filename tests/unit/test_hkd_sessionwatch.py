"""A session that a newer client has superseded is closed as soon as the bell rings."""

from __future__ import annotations

from twisted.internet.task import Clock

from qvd.db.sessions import TAKEN
from qvd.hkd.sessionwatch import FORGOTTEN, GIVEN_UP, SessionWatch
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import Epoch, HostId, SessionId, TenantId, UserId, VMId
from qvd.model.records import Lease, SessionSpec
from qvd.protocols.channels import session_on_host
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.sessions import FakeKiller, FakeSessions

HOST = HostId(7)


def session(name: str, host: int = 7) -> SessionSpec:
    return SessionSpec(
        SessionId(name), VMId(1), TenantId(1), UserId(3), Lease(HostId(host), Epoch(1)), "192.0.2.1:4711"
    )


class SessionWatchTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = FakeSessions()
        self.killer = FakeKiller()
        self.bells = FakeBells()
        self.watch = SessionWatch(self.clock, HOST, self.sessions, self.killer, self.bells, 5.0)

    def claim(self, name: str, host: int = 7) -> None:
        self.result(self.sessions.claim(session(name, host)))

    def test_the_older_one_is_closed_on_the_bell(self) -> None:
        self.claim("old")
        self.watch.start()
        assert self.killer.closed == []
        self.claim("new", host=8)
        self.bells.ring(session_on_host(HOST))
        assert self.killer.closed == [(SessionId("old"), TAKEN)]

    def test_the_older_one_is_closed_without_a_bell_in_time(self) -> None:
        self.watch.start()
        self.claim("old")
        self.claim("new")
        self.clock.advance(5)
        assert self.killer.closed == [(SessionId("old"), TAKEN)]

    def test_one_whose_vm_is_lost_is_closed_with_the_reason(self) -> None:
        self.claim("old")
        self.watch.start()
        self.sessions.lost[SessionId("old")] = "The node n2, on which this desktop ran, does not answer any more"
        self.bells.ring(session_on_host(HOST))
        assert self.killer.closed == [(SessionId("old"), self.sessions.lost[SessionId("old")])]

    def test_one_that_an_administrator_wants_to_end_is_closed_with_the_reason(self) -> None:
        self.claim("mine")
        self.watch.start()
        self.sessions.unwanted[SessionId("mine")] = "An administrator has ended this session"
        self.bells.ring(session_on_host(HOST))
        assert self.killer.closed == [(SessionId("mine"), "An administrator has ended this session")]

    def test_sessions_of_other_nodes_and_other_bells_are_left_alone(self) -> None:
        self.watch.start()
        self.claim("old", host=8)
        self.claim("new")
        self.bells.ring(session_on_host(HOST))
        assert self.killer.closed == []
        looks = self.sessions.conduct.count("unended")
        self.bells.ring(session_on_host(HostId(8)))
        assert self.sessions.conduct.count("unended") == looks

    def test_a_row_that_nobody_serves_is_ended(self) -> None:
        self.claim("given up")
        self.killer.unknown.add(SessionId("given up"))
        self.watch.start()
        assert self.killer.closed == [(SessionId("given up"), GIVEN_UP)]

    def test_one_that_the_database_has_forgotten_is_closed(self) -> None:
        self.claim("mine")
        self.killer.known = {SessionId("mine"), SessionId("forgotten")}
        self.watch.start()
        assert self.killer.closed == [(SessionId("forgotten"), FORGOTTEN)]

    def test_one_that_ends_while_the_database_is_asked_is_not_closed_again(self) -> None:
        self.killer.known = {SessionId("ending")}
        held = self.sessions.conduct.hold("unended")
        self.watch.start()
        self.killer.unknown = {SessionId("ending")}
        held.go_on()
        assert self.killer.closed == []

    def test_one_that_goes_on_is_left_alone(self) -> None:
        self.claim("mine")
        self.watch.start()
        assert self.killer.closed == []

    def test_a_database_that_is_away_is_asked_again(self) -> None:
        self.sessions.conduct.fail("unended", DatabaseUnavailable("away"))
        self.claim("old")
        self.claim("new")
        self.watch.start()
        assert self.killer.closed == []
        self.clock.advance(5)
        assert len(self.killer.closed) == 1

    def test_stop_hears_nothing_more(self) -> None:
        self.watch.start()
        self.result(self.watch.stop())
        assert self.bells.heard(session_on_host(HOST)) == 0
        assert self.clock.getDelayedCalls() == []

    def test_stop_before_the_start(self) -> None:
        self.result(self.watch.stop())
