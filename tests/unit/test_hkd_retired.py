"""A daemon that was upgraded: how long it lives, and on whose lease."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.hkd.retired import FAREWELL, LOOK, OUT_OF_TIME, SILENCE, Clients, Retired
from qvd.hkd.sessionwatch import SessionWatch
from qvd.model.errors import Unavailable
from qvd.model.ids import Epoch, HostId, SessionId
from qvd.model.records import Lease
from qvd.protocols.channels import session_on_host
from qvd.protocols.handover import End, Follow, NoLease, Refused, Serving
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.line import FakeLine
from tests.fakes.sessions import FakeKiller, FakeSessions
from tests.unit.test_hkd_sessionwatch import session

HOST = HostId(7)


class RetiredCase(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bells = FakeBells()
        self.sessions = FakeSessions()
        self.killer = FakeKiller()
        self.lines: list[FakeLine] = []
        self.reachable = self.busy = True
        self.reasons: list[str] = []
        self.retired = Retired(
            self.clock,
            "mine",
            self.dial,
            SessionWatch(self.clock, HOST, self.sessions, self.killer, self.bells, 5.0),
            Clients(lambda: self.busy, self.reasons.append),
            Serving(7, 2, 20.0),
            1000.0,
        )
        self.life: Deferred[None] = self.begin(self.retired.live())

    def tearDown(self) -> None:
        self.life.addErrback(lambda failure: None)
        self.life.cancel()

    def dial(self) -> FakeLine | None:
        if not self.reachable:
            return None
        self.lines.append(FakeLine(self.clock))
        return self.lines[-1]

    def wait(self, seconds: float) -> None:
        """In small steps, with a successor that renews."""
        for _ in range(int(seconds / LOOK)):
            self.clock.advance(LOOK)

    def renew(self, epoch: int = 2) -> None:
        self.lines[-1].hear(Serving(7, epoch, self.clock.seconds() + 20))


class LifeTests(RetiredCase):
    def test_it_lives_as_long_as_its_clients(self) -> None:
        self.wait(10)
        assert self.waits(self.life)
        self.busy = False
        self.wait(LOOK)
        self.result(self.life)
        assert self.lines[0].is_gone
        assert self.reasons == []
        assert self.clock.getDelayedCalls() == []
        assert self.bells.heard(session_on_host(HOST)) == 0

    def test_a_session_that_is_taken_over_is_closed(self) -> None:
        self.result(self.sessions.claim(session("old")))
        self.result(self.sessions.claim(session("new")))
        self.bells.ring(session_on_host(HOST))
        assert [closed for closed, _ in self.killer.closed] == [SessionId("old")]

    def test_in_the_end_it_sends_its_clients_away(self) -> None:
        while self.clock.seconds() < 1000:
            self.renew()
            self.wait(10)
            assert self.reasons == [] or self.clock.seconds() >= 1000
        assert self.reasons == [OUT_OF_TIME]
        assert self.waits(self.life)
        self.renew()
        self.wait(FAREWELL - 1)
        assert self.waits(self.life)
        self.wait(2)
        self.result(self.life)
        assert self.reasons == [OUT_OF_TIME]

    def test_a_stop_leaves_nothing_that_turns(self) -> None:
        self.life.addErrback(lambda failure: None)
        self.life.cancel()
        self.result(self.life)
        assert self.clock.getDelayedCalls() == []
        assert self.lines[0].is_gone


class LeaseTests(RetiredCase):
    def test_it_has_that_of_its_successor(self) -> None:
        assert self.retired.lease() == Lease(HOST, Epoch(2))
        assert self.retired.refusal() is None
        assert self.lines[0].sent == [Follow("mine")]
        self.lines[0].hear(Serving(7, 2, 30.0, "Server is blocked"))
        assert self.retired.refusal() == "Server is blocked"
        self.result(self.retired.settled())

    def test_each_renewal_is_heard(self) -> None:
        for _ in range(10):
            self.wait(10)
            self.renew()
        assert self.reasons == []
        assert self.retired.lease() == Lease(HOST, Epoch(2))

    def test_without_renewals_the_sessions_end_at_the_fence(self) -> None:
        self.wait(19.5)
        assert self.reasons == []
        self.wait(0.75)
        (reason,) = self.reasons
        assert "lost its place" in reason
        assert self.retired.refusal() == "Server is lost"

    def test_a_lease_that_is_over_is_not_given_to_anybody(self) -> None:
        """The process was stopped, and a client is heard before any timer."""
        self.clock.rightNow += 50
        self.failure(self.ask(), Unavailable)

    async def ask(self) -> Lease:
        return self.retired.lease()

    def test_the_loss_of_the_lease_ends_the_sessions_once(self) -> None:
        self.lines[0].hear(NoLease("the lease of the new daemon is over"))
        self.lines[0].hear(NoLease("the lease of the new daemon is over"))
        assert len(self.reasons) == 1
        self.renew(3)
        assert self.retired.lease() == Lease(HOST, Epoch(3))

    def test_a_successor_that_is_restarted_in_time_is_found_again(self) -> None:
        self.reachable = False
        self.lines[0].end()
        self.wait(10)
        assert len(self.lines) == 1 and self.reasons == []
        self.reachable = True
        self.wait(1)
        assert len(self.lines) == 2
        self.renew(3)
        self.wait(15)
        assert self.retired.lease() == Lease(HOST, Epoch(3))
        assert self.reasons == []

    def test_one_that_is_silent_is_dialled_anew(self) -> None:
        self.wait(SILENCE + 2 * LOOK)
        assert [line.is_gone for line in self.lines] == [True, False]

    def test_a_stop_of_the_node_is_its_stop(self) -> None:
        self.lines[0].hear(End("The node is being stopped"))
        assert self.reasons == ["The node is being stopped"]
        self.wait(FAREWELL + 1)
        self.result(self.life)

    def test_nonsense_is_logged(self) -> None:
        self.lines[0].hear(Refused("what?"))
        self.renew()
        assert self.reasons == []
