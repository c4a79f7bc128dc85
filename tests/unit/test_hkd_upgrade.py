"""From one process of a node to the next: both sides of it, and what becomes of it when either fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve

from qvd.hkd.node import RETRY, SETTLE, Node, NodeTimes, Upgrade
from qvd.hkd.retired import LOOK, Clients, Retired
from qvd.hkd.serving import Listener
from qvd.hkd.succession import ANSWER, NEWS, TAKE_OVER, TICK, ControlPart, HandOverFailed, Place, Succession
from qvd.hkd.tenure import session_watch
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import Epoch, VMId
from qvd.model.records import Desired, HostState, Lease
from qvd.protocols.adapters.control import ControlLine
from qvd.protocols.handover import End, Follow, Handed, HandOver, NoLease, Refused, Serving
from tests.fakes.case import Case
from tests.fakes.line import FakeLine
from tests.fakes.ownership import HOST
from tests.unit.test_hkd_serving import FakePort
from tests.unit.test_hkd_tenure import World

AWAY = DatabaseUnavailable("The database does not answer")


class FakePlace(Place):
    """Where the test says who runs."""

    runs: FakeLine | None = None

    def dial(self) -> ControlLine | None:
        return FakePlace.runs


class UpgradeCase(Case):
    """A node, which the other process, played by the test, follows or precedes."""

    def setUp(self) -> None:
        self.world = World()
        self.clock, self.conduct = self.world.clock, self.world.conduct
        FakePlace.runs = None
        self.l7r, self.other = FakePort(), FakePort()
        for port in (self.l7r, self.other):
            port.closed.callback(None)
        self.given: list[int | None] = []
        self.busy, self.others = True, False
        self.ends: list[str] = []
        self.told: list[str] = []
        self.succession = Succession(
            FakePlace(self.clock, Path("/nowhere"), "mine", "n1"),
            {"l7r": Listener(self.open(self.l7r), "clients")},
            3.0,
            lambda: self.others,
        )
        self.succession.control = Listener(self.open(self.other), "daemons")
        self.node = Node(
            self.clock,
            below=(),
            parts=evolve(self.world.parts(), living=lambda: ["mine", "retired"]),
            above=(self.succession.listeners["l7r"], ControlPart(self.succession)),
            times=NodeTimes(stop=30.0, stop_vms=True),
            check=lambda: self.conduct.before("check"),
            ready=lambda: self.told.append("ready"),
            failed=lambda: self.told.append("failed"),
            upgrade=Upgrade(self.succession, self.retired, lambda: self.told.append("finished")),
        )
        self.succession.holder = self.node
        self.addCleanup(self.end_life)

    def end_life(self) -> None:
        """What waits would be ended when its memory is wanted, in another test."""
        if self.node._life is not None:
            self.node._life.cancel()

    def open(self, port: FakePort) -> Callable[[int | None], Any]:
        def open_port(inherited: int | None) -> Any:
            self.given.append(inherited)
            return port

        return open_port

    def retired(self, told: Serving) -> Retired:
        watch = session_watch(self.world.parts(), told.lease)
        clients = Clients(lambda: self.busy, self.ends.append)
        return Retired(self.clock, "mine", self.succession.place.dial, watch, clients, told, 1000.0)

    def dialled(self, message: HandOver | Follow) -> FakeLine:
        """Another process dials, and says that."""
        line = FakeLine(self.clock)
        self.succession._dialled(line)
        line.hear(message)
        return line

    def adopted(self) -> int:
        """The epoch that the VM's row has."""
        epoch = self.world.rows[1].epoch
        assert epoch is not None
        return int(epoch)


class NewTests(UpgradeCase):
    confirms = True

    def setUp(self) -> None:
        super().setUp()
        self.line = FakePlace.runs = FakeLine(self.clock)
        self.line.descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
        self.world.hosts.epoch = Epoch(4)
        self.world.hosts.state = HostState.RUNNING

    def tearDown(self) -> None:
        for descriptor in self.given:
            if descriptor is not None:
                os.close(descriptor)

    def handed(self) -> None:
        self.line.hear(Handed(("control", "l7r", "of another release")))
        if self.confirms and isinstance(self.line.sent[-1], Serving):
            self.line.end()

    def test_it_asks_once_all_that_may_fail_is_done(self) -> None:
        self.conduct.fail("check", AWAY)
        self.node.startService()
        assert self.line.sent == []
        self.clock.advance(RETRY)
        assert self.line.sent == [HandOver("mine", "n1")]
        assert self.conduct.count("register") == 0

    def test_it_is_ready_once_the_other_one_has_heard_of_it(self) -> None:
        self.confirms = False
        self.node.startService()
        self.handed()
        assert isinstance(self.line.sent[-1], Serving)
        assert self.told == []
        self.line.end()
        assert self.told == ["ready"]

    def test_one_that_is_stopped_does_not_keep_it(self) -> None:
        self.confirms = False
        self.node.startService()
        self.handed()
        self.clock.pump([1.0] * int(TAKE_OVER))
        assert self.told == ["ready"]

    def test_it_goes_on_where_the_other_one_was(self) -> None:
        self.node.startService()
        descriptors = list(self.line.descriptors)
        self.handed()
        assert self.given == [descriptors[1], descriptors[0]]
        assert self.told == ["ready"]
        assert self.line.sent[1:] == [Serving(HOST, 5, self.world.parts().times.fence(0.0))]
        assert self.adopted() == 5
        assert self.world.hosts.states == [HostState.RUNNING], "other nodes must not take it for one that only starts"
        assert self.node.refusal() is None, "no client must either"
        assert self.world.hosts.living == ["mine", "retired"]

    def test_it_serves_on_the_former_sockets_only_when_it_can(self) -> None:
        held = self.conduct.hold("register")
        self.node.startService()
        self.handed()
        assert self.given == [] and self.line.sent == [HandOver("mine", "n1")]
        held.go_on()
        assert len(self.given) == 2

    def test_where_it_fails_the_other_one_goes_on_with_its_vms(self) -> None:
        for name in ("register", "bound", "adopt", "end_stale_sessions", "renew"):
            self.setUp()
            self.conduct.fail(name, AWAY)
            self.node.startService()
            self.handed()
            assert self.told == ["failed"], name
            assert self.logged(DatabaseUnavailable) == 1
            assert not self.is_gone(), "not before it has let go"
            self.result(self.node.stopService())
            assert self.is_gone()
            assert self.conduct.names("kill", "poweroff", "shutdown", "destroy") == []
            assert HostState.STOPPED not in self.world.hosts.states
            assert self.clock.getDelayedCalls() == []

    def test_where_it_cannot_listen_it_lets_go_of_the_vms(self) -> None:
        self.succession.listeners["l7r"]._open_port = self.fail_to_open
        self.node.startService()
        self.handed()
        assert self.logged(OSError) == 1
        assert self.told == ["failed"]
        self.result(self.node.stopService())
        assert self.world.driver.domains[VMId(1)].running
        assert self.conduct.names("kill", "poweroff") == []
        assert self.line.is_gone

    def is_gone(self) -> bool:
        return self.line.is_gone

    def fail_to_open(self, inherited: int | None) -> Any:
        self.given.append(inherited)
        raise OSError("no such socket")

    def test_an_answer_that_is_none_ends_it(self) -> None:
        acts: tuple[Callable[[], object], ...] = (
            lambda: self.line.hear(Refused("it is starting")),
            lambda: self.line.hear(Handed(("l7r",))),
            lambda: self.line.hear(End("stopped")),
            lambda: self.line.end(),
            lambda: self.clock.pump([ANSWER]),
        )
        for act in acts:
            self.setUp()
            self.node.startService()
            act()
            assert self.told == ["failed"]
            assert self.logged(HandOverFailed) == 1
            assert self.conduct.count("register") == 0

    def test_without_another_one_it_simply_starts(self) -> None:
        FakePlace.runs = None
        self.node.startService()
        assert self.told == ["ready"]
        assert self.given == [None, None]
        assert self.world.hosts.states == [HostState.STARTING, HostState.RUNNING]

    def test_once_it_serves_a_stop_is_an_ordinary_one(self) -> None:
        self.node.startService()
        self.handed()
        stopping = self.node.stopService()
        assert self.conduct.count("poweroff") == 1
        self.world.driver.exit(VMId(1))
        self.result(stopping)


class OldTests(UpgradeCase):
    def setUp(self) -> None:
        super().setUp()
        self.node.startService()

    def tearDown(self) -> None:
        self.node.stopService()
        self.clock.pump([1.0] * 40)
        self.flushLoggedErrors(TimeoutError)  # type: ignore[no-untyped-call]

    def ask(self) -> FakeLine:
        return self.dialled(HandOver("new"))

    def serves(self, line: FakeLine, epoch: int = 2) -> None:
        """The new process has registered and serves."""
        self.world.hosts.epoch = Epoch(epoch)
        line.hear(Serving(HOST, epoch, self.clock.seconds() + 30))

    def test_it_gives_its_sockets_and_keeps_its_clients(self) -> None:
        line = self.ask()
        assert line.sent == [Handed(("l7r", "control"))] and line.given == [17, 17]
        assert self.l7r.reading == ["stop"]
        self.serves(line)
        assert line.is_gone, "which confirms it"
        assert (self.l7r.asked, self.other.asked) == (1, 1), "both are closed here"
        assert self.node.lease() == Lease(HOST, Epoch(2))
        assert self.node.refusal() is None
        self.clock.pump([LOOK] * 20)
        assert self.told == ["ready"]
        self.busy = False
        self.clock.advance(LOOK)
        assert self.told == ["ready", "finished"]
        self.result(self.node.stopService())
        assert self.world.driver.domains[VMId(1)].running
        assert HostState.STOPPED not in self.world.hosts.states
        assert self.clock.getDelayedCalls() == []

    def test_it_touches_neither_vms_nor_the_lease_any_more(self) -> None:
        self.serves(self.ask())
        calls = len(self.conduct.names("renew", "save", "pending", "ping", "read_clock", "end_stale_sessions"))
        told = len(self.world.deadline.told)
        self.clock.pump([1.0] * 25)
        after = self.conduct.names("renew", "save", "pending", "ping", "read_clock", "end_stale_sessions")
        assert len(after) == calls
        assert len(self.world.deadline.told) == told
        assert not self.world.driver.watched

    def test_a_boot_under_way_is_waited_for(self) -> None:
        held = self.conduct.hold("start")
        self.world.rows.order(2, Desired.RUNNING)
        self.clock.advance(5)
        assert held.reached
        line = self.ask()
        assert line.sent == []
        held.go_on()
        self.clock.advance(0.05)
        assert line.sent == [Handed(("l7r", "control"))]

    def test_who_comes_meanwhile_waits_until_it_is_settled(self) -> None:
        self.result(self.node.settled())
        line = self.ask()
        waiting = self.begin(self.node.settled())
        assert self.waits(waiting)
        self.serves(line)
        self.result(waiting)

    def test_nobody_waits_for_ever(self) -> None:
        self.conduct.always_fail("check", AWAY)
        line = self.ask()
        waiting = self.begin(self.node.settled())
        line.end()
        self.clock.pump([1.0] * int(SETTLE))
        self.result(waiting)

    def test_a_new_one_that_dies_leaves_all_as_it_was(self) -> None:
        line = self.ask()
        line.end()
        assert self.l7r.reading == ["stop", "start"]
        assert self.node.lease() == Lease(HOST, Epoch(2))
        assert self.adopted() == 2
        assert (self.world.killer.closed_all, self.ends) == ([], [])
        assert self.world.driver.domains[VMId(1)].running
        assert HostState.STOPPED not in self.world.hosts.states
        self.clock.pump([1.0] * 60)
        assert self.node.refusal() is None, "it renews its lease"
        assert self.world.driver.watched

    def test_one_that_had_registered_before_it_died_leaves_all_as_it_was(self) -> None:
        line = self.ask()
        self.world.hosts.epoch = Epoch(2)
        line.end()
        assert self.node.lease() == Lease(HOST, Epoch(3))
        assert self.adopted() == 3

    def test_one_that_hangs_is_killed_first(self) -> None:
        line = self.ask()
        self.clock.pump([TICK] * (int(TAKE_OVER / TICK) + 1))
        assert line.killed
        assert self.node.lease() == Lease(HOST, Epoch(2))
        assert self.l7r.reading == ["stop", "start"]

    def test_one_that_the_kernel_does_not_bury_is_given_up(self) -> None:
        line = self.ask()
        line.undead = True
        self.clock.pump([TICK] * (2 * int(TAKE_OVER / TICK) + 2))
        assert line.killed
        assert self.l7r.reading == ["stop", "start"]

    def test_what_was_said_while_this_process_was_stopped_counts(self) -> None:
        line = self.ask()
        self.clock.rightNow += 9.5
        self.serves(line)
        self.clock.advance(TICK)
        assert not line.killed
        assert self.node.lease() == Lease(HOST, Epoch(2))

    def test_a_second_one_that_asks_is_refused(self) -> None:
        held = self.conduct.hold("start")
        self.world.rows.order(2, Desired.RUNNING)
        self.clock.advance(5)
        first, second = self.ask(), self.ask()
        (refusal,) = second.sent
        assert isinstance(refusal, Refused) and "upgraded already" in refusal.reason
        assert second.is_gone
        held.go_on()
        self.clock.advance(0.05)
        assert isinstance(first.sent[0], Handed)

    def test_another_node_is_refused(self) -> None:
        """Somebody has changed nodename: of all that runs here nothing would be the new one's."""
        line = self.dialled(HandOver("new", "n2"))
        (refusal,) = line.sent
        assert isinstance(refusal, Refused) and "n1" in refusal.reason and "n2" in refusal.reason
        assert line.is_gone
        assert self.l7r.reading == []
        assert isinstance(self.dialled(HandOver("new", "n1")).sent[0], Handed)

    def test_a_loss_of_the_lease_meanwhile_goes_before(self) -> None:
        held = self.conduct.hold("start")
        self.world.rows.order(2, Desired.RUNNING)
        self.clock.advance(5)
        line = self.ask()
        self.world.hosts.be_lost()
        self.clock.advance(5)
        assert self.conduct.count("kill") >= 1
        held_again = held.cancelled
        assert held_again and isinstance(line.sent[0], Refused)
        assert line.is_gone

    def test_a_loss_of_the_lease_meanwhile_still_ends_the_vms(self) -> None:
        self.conduct.hold("start")
        self.world.rows.order(2, Desired.RUNNING)
        self.clock.advance(5)
        self.ask()
        kills = [self.conduct.hold("kill"), self.conduct.hold("kill")]
        self.world.hosts.be_lost()
        self.clock.pump([0.5] * 12)
        assert [kill.reached for kill in kills] == [True, True]
        assert [kill.cancelled for kill in kills] == [False, False], "nobody else ends them"
        assert self.conduct.count("register") == 1, "not before they are gone"
        for kill in kills:
            kill.go_on()
        assert self.conduct.count("register") == 2

    def test_the_fence_ends_the_sessions_where_neither_gets_on(self) -> None:
        self.conduct.always_fail("check", AWAY)
        line = self.ask()
        line.end()
        self.clock.pump([1.0] * 29)
        assert self.world.killer.closed_all == []
        self.clock.pump([1.0] * 2)
        assert len(self.world.killer.closed_all) == 1

    def test_a_stop_in_the_middle(self) -> None:
        self.ask()
        self.result(self.node.stopService())
        assert self.world.driver.domains[VMId(1)].running, "another process may have it by now"
        assert self.clock.getDelayedCalls() == []


class FollowerTests(UpgradeCase):
    """Processes of before the upgrade, as seen by the one that serves."""

    def setUp(self) -> None:
        super().setUp()
        self.node.startService()

    def test_they_are_told_of_each_renewal(self) -> None:
        line = self.dialled(Follow("old"))
        first = line.sent[0]
        assert first == Serving(HOST, 1, self.world.parts().times.fence(0.0))
        self.clock.pump([1.0] * 6)
        latest = line.sent[-1]
        assert isinstance(latest, Serving) and isinstance(first, Serving)
        assert latest.until > first.until

    def test_they_are_told_of_the_loss(self) -> None:
        line = self.dialled(Follow("old"))
        self.conduct.always_fail("check", AWAY)
        self.world.hosts.be_lost()
        self.clock.pump([NEWS] * 6)
        assert isinstance(line.sent[-1], NoLease)

    def test_when_one_ends_what_it_left_open_is_looked_for(self) -> None:
        line = self.dialled(Follow("old"))
        looks = self.conduct.count("end_stale_sessions")
        line.end()
        assert self.conduct.count("end_stale_sessions") == looks + 1
        self.clock.advance(NEWS)

    def test_a_stop_of_the_node_waits_for_them(self) -> None:
        line = self.dialled(Follow("old"))
        self.others = True
        stopping = self.node.stopService()
        assert line.sent[-1] == End("The node is being stopped")
        late = self.dialled(Follow("older"))
        assert late.sent == [End("The node is being stopped")]
        (refusal,) = self.dialled(HandOver("new")).sent
        assert isinstance(refusal, Refused)
        assert self.waits(stopping) and self.conduct.count("poweroff") == 0
        self.others = False
        self.clock.advance(NEWS)
        assert self.conduct.count("poweroff") == 1
        self.world.driver.exit(VMId(1))
        self.result(stopping)

    def test_but_not_for_ever(self) -> None:
        self.dialled(Follow("old"))
        self.others = True
        stopping = self.node.stopService()
        self.clock.pump([TICK] * 13)
        assert self.conduct.count("poweroff") == 1
        self.world.driver.exit(VMId(1))
        self.result(stopping)

    def test_the_next_upgrade_sends_them_to_the_next_process(self) -> None:
        older = self.dialled(Follow("older"))
        line = self.dialled(HandOver("new"))
        assert not older.is_gone
        line.hear(Serving(HOST, 2, 30.0))
        assert older.is_gone

    def test_one_that_says_nothing_or_something_else_is_let_go(self) -> None:
        silent, odd = FakeLine(self.clock), FakeLine(self.clock)
        self.succession._dialled(silent)
        self.succession._dialled(odd)
        odd.hear(End("?"))
        assert odd.is_gone
        self.clock.advance(TAKE_OVER)
        assert silent.is_gone
