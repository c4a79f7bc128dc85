"""One epoch of the node, from registration to the loss of the lease or the stop."""

from __future__ import annotations

from twisted.internet.task import Clock

from qvd.hkd.cluster import ClusterTimes
from qvd.hkd.expiry import ExpiryParts
from qvd.hkd.heartbeat import LeaseTimes
from qvd.hkd.images import ImageParts
from qvd.hkd.tenure import NodeName, Tenure, TenureParts
from qvd.model.errors import DatabaseUnavailable, NotFound, TransientError, Unavailable
from qvd.model.ids import DIId, Epoch, SessionId, VMId
from qvd.model.records import Capacity, Desired, Domain, Drain, HostState, Lease
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from qvd.protocols.channels import host_changed, images_changed, session_on_host, vm_on_host
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.deadline import FakeDeadline
from tests.fakes.driver import FakeDriver, guest_of
from tests.fakes.expiry import FakeExpiry
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.hosts import FakeHosts
from tests.fakes.images import FakeImages
from tests.fakes.ownership import HOST, FakeOwnership, FakeVMs, Rows, vm_row
from tests.fakes.sessions import FakeKiller, FakeSessions
from tests.unit.test_hkd_fleet import ports
from tests.unit.test_hkd_sessionwatch import session

AWAY = DatabaseUnavailable("The database does not answer")


class World:
    """All that an epoch needs, in memory; one VM runs since the epoch before."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        self.hosts = FakeHosts("n1", self.conduct)
        self.hosts.time = self.clock.seconds
        self.deadline = FakeDeadline()
        self.sessions = FakeSessions(self.conduct)
        self.killer = FakeKiller()
        self.bells = FakeBells()
        self.rows = Rows(
            vm_row(
                1,
                state=VMState.RUNNING,
                desired=Desired.RUNNING,
                host_id=HOST,
                epoch=Epoch(0),
                guest=guest_of(1),
            ),
            vm_row(2),
        )
        self.ownership = FakeOwnership(self.rows, self.conduct)
        self.driver = FakeDriver(self.conduct)
        self.driver.domains[VMId(1)] = Domain(VMId(1), True, guest_of(1))
        self.guest = FakeGuest(self.conduct)
        self.images = FakeImages(self.conduct)
        self.expiry = FakeExpiry(self.clock, self.conduct)

    def parts(self, name: str = "n1") -> TenureParts:
        return TenureParts(
            clock=self.clock,
            node=NodeName(name, "192.0.2.7"),
            hosts=self.hosts,
            vms=FakeVMs(self.rows, self.conduct),
            deadline=self.deadline,
            sessions=self.sessions,
            killer=self.killer,
            bells=self.bells,
            ports=ports(self.clock, self.driver, self.ownership, self.guest),
            times=LeaseTimes(lease=40.0, renew=5.0),
            cluster=ClusterTimes(interval=5.0, margin=5.0, lease=40.0),
            images=ImageParts(self.images, self.images.names, 60.0),
            expiry=ExpiryParts(self.expiry, FakeDialer(self.guest), look=5.0, warning=300.0),
            look_seconds=5.0,
            capacity=lambda: Capacity(1 << 30, 2.0, 1 << 29, 1.5),
            new_secret=lambda: Secret("new"),
        )


class TenureCase(Case):
    def setUp(self) -> None:
        self.world = World()
        self.conduct = self.world.conduct
        self.clock = self.world.clock
        self.hosts = self.world.hosts
        self.tenure = Tenure(self.world.parts())

    def state(self, vm_id: int) -> str:
        return self.world.rows[vm_id].state.value


class BeginTests(TenureCase):
    def test_all_that_may_fail_is_done_before_anything_runs(self) -> None:
        held = self.conduct.hold("set_state")
        beginning = self.begin(self.tenure.begin())
        assert self.conduct.names() == [
            "register",
            "bound",
            "list",
            "adopt",
            "end_stale_sessions",
            "names",
            "registered",
            "publish_images",
            "set_state",
        ]
        assert self.clock.getDelayedCalls() == []
        held.go_on()
        self.result(beginning)
        assert self.conduct.names("renew", "save", "pending", "unended")[:1] == ["renew"]

    def test_the_driver_is_published(self) -> None:
        self.result(self.tenure.begin())
        assert self.hosts.hypervisor == self.world.driver.name != ""

    def test_the_watchdog_knows_of_the_lease_before_anything_is_taken_over(self) -> None:
        self.clock.advance(1000)
        held = self.conduct.hold("register", after=True)
        beginning = self.begin(self.tenure.begin())
        self.clock.advance(7)
        assert self.world.deadline.told == []
        self.conduct.hold("bound")
        held.go_on()
        assert self.world.deadline.told == [(Lease(HOST, Epoch(1)), self.world.parts().times.deadline(1000.0))]
        assert self.waits(beginning)

    def test_without_a_watchdog_nothing_is_taken_over(self) -> None:
        self.world.deadline.error = TransientError("no space left on device")
        self.failure(self.tenure.begin(), TransientError)
        assert self.conduct.names() == ["register"]

    def test_nothing_is_started_once_the_lease_is_over(self) -> None:
        self.result(self.tenure.begin())
        held = self.conduct.hold("prepare")
        self.world.rows.order(2, Desired.RUNNING)
        self.world.bells.ring(vm_on_host(HOST))
        assert held.reached
        # The process is stopped; when it goes on, the driver is heard before any timer.
        self.clock.rightNow += 100
        held.go_on()
        assert self.conduct.count("start") == 0
        self.result(self.tenure.over)

    def test_it_takes_its_place(self) -> None:
        self.hosts.stale = 2
        self.result(self.tenure.begin())
        assert self.conduct.of("register") == [("n1", "192.0.2.7", 40.0)]
        assert self.hosts.states == [HostState.STARTING, HostState.RUNNING]
        assert self.hosts.stale == 0
        assert self.tenure.status.lease() == Lease(HOST, Epoch(1))
        assert self.tenure.status.refusal() is None

    def test_what_ran_goes_on_and_orders_are_taken_up(self) -> None:
        self.world.rows.order(2, Desired.RUNNING)
        self.result(self.tenure.begin())
        assert self.world.rows[1].epoch == 1
        assert (self.state(1), self.state(2)) == ("running", "running")

    def test_sessions_that_are_superseded_are_closed(self) -> None:
        self.result(self.world.sessions.claim(session("old")))
        self.result(self.tenure.begin())
        self.result(self.world.sessions.claim(session("new")))
        self.world.bells.ring(session_on_host(HOST))
        assert [closed for closed, _ in self.world.killer.closed] == [SessionId("old")]

    def test_vms_that_are_too_old_are_stopped(self) -> None:
        self.result(self.tenure.begin())
        self.world.expiry.set(1, hard=3)
        self.clock.pump([1.0] * 6)
        assert self.world.expiry.stopped == {VMId(1): 5.0}

    def test_images_that_come_are_told_of(self) -> None:
        self.result(self.tenure.begin())
        assert self.world.images.published == []
        self.world.images.paths[DIId(4)] = "desk"
        self.world.images.here.add("desk")
        self.world.bells.ring(images_changed())
        assert self.world.images.published == [4]

    def test_an_unknown_node_is_told_so(self) -> None:
        error = self.failure(Tenure(self.world.parts("n2")).begin(), NotFound)
        assert "'n2'" in error.text

    def test_a_failure_at_any_point_leaves_nothing_running(self) -> None:
        for name in ("register", "bound", "adopt", "end_stale_sessions", "registered", "publish_images", "set_state"):
            self.conduct.fail(name, AWAY)
            self.failure(Tenure(self.world.parts()).begin(), DatabaseUnavailable)
        self.conduct.fail("list", TransientError("no answer"))
        self.failure(Tenure(self.world.parts()).begin(), TransientError)
        assert self.clock.getDelayedCalls() == []
        assert not self.world.driver.watched
        assert self.conduct.names("save", "kill", "ping", "renew") == []
        self.result(Tenure(self.world.parts()).begin())
        assert self.state(1) == "running"

    def test_answers_of_guests_are_written_with_the_renewals(self) -> None:
        self.result(self.tenure.begin())
        self.clock.pump([1.0] * 10)
        assert self.world.ownership.seen_together[0] == [1]


class LossTests(TenureCase):
    def setUp(self) -> None:
        super().setUp()
        self.result(self.tenure.begin())

    def test_the_vms_are_killed_before_the_lease_is_over(self) -> None:
        self.conduct.always_fail("renew", AWAY)
        self.clock.pump([1.0] * 29)
        assert self.conduct.count("kill") == 0
        self.clock.advance(1)
        assert self.conduct.count("kill") == 1
        assert self.result(self.tenure.over) == "The lease could not be renewed in time"

    def test_the_row_is_left_as_it_is(self) -> None:
        self.hosts.be_lost()
        self.clock.advance(5)
        assert self.state(1) == "running"
        self.result(self.tenure.over)

    def test_the_node_serves_nobody_any_more(self) -> None:
        self.hosts.be_lost()
        self.clock.advance(5)
        self.result(self.tenure.over)
        assert self.tenure.status.refusal() == "Server is lost"

    def test_its_sessions_are_ended(self) -> None:
        self.hosts.be_lost()
        self.clock.advance(5)
        assert len(self.world.killer.closed_all) == 1
        assert "lost its place" in self.world.killer.closed_all[0]

    def test_it_judges_nobody_any_more(self) -> None:
        self.clock.pump([1.0] * 42)
        assert self.conduct.count("declare_lost") == 1
        self.hosts.be_lost()
        self.clock.advance(5)
        self.result(self.tenure.over)
        self.result(self.tenure.abandon())
        looks = self.conduct.count("read_clock")
        self.clock.pump([1.0] * 60)
        assert self.conduct.count("read_clock") == looks

    def test_abandoning_waits_until_every_vm_is_gone(self) -> None:
        held = self.conduct.hold("kill")
        self.hosts.be_lost()
        self.clock.advance(5)
        self.result(self.tenure.over)
        abandoning = self.begin(self.tenure.abandon())
        assert self.waits(abandoning)
        held.go_on()
        self.result(abandoning)
        assert self.clock.getDelayedCalls() == []
        assert not self.world.driver.watched
        assert self.world.bells.heard(vm_on_host(HOST)) == 0
        assert self.world.bells.heard(session_on_host(HOST)) == 0
        assert self.world.bells.heard(host_changed(HOST)) == 0


class DrainTests(TenureCase):
    def setUp(self) -> None:
        super().setUp()
        self.result(self.tenure.begin())

    def test_a_flag_counts_from_its_bell_on(self) -> None:
        self.hosts.blocked = True
        self.world.bells.ring(host_changed(HOST))
        assert self.tenure.status.refusal() == "Server is blocked"

    def test_it_drains_at_each_renewal(self) -> None:
        """What a user orders meanwhile is stopped again."""
        self.clock.advance(5)
        assert self.conduct.count("drain") == 0
        self.hosts.drain_mode = Drain.STOP
        self.hosts.to_drain = 1
        self.world.bells.ring(host_changed(HOST))
        assert self.conduct.of("drain") == [(Lease(HOST, Epoch(1)),)]
        self.clock.advance(5)
        assert self.conduct.count("drain") == 2
        self.hosts.drain_mode = None
        self.clock.advance(5)
        assert self.conduct.count("drain") == 2

    def test_a_database_that_is_away_puts_it_off(self) -> None:
        self.hosts.drain_mode = Drain.STOP
        self.conduct.fail("drain", AWAY)
        self.clock.advance(5)
        self.clock.advance(5)
        assert self.conduct.count("drain") == 2

    def test_nobody_listens_after_the_end(self) -> None:
        self.result(self.tenure.close(stop_vms=False))
        assert self.world.bells.heard(host_changed(HOST)) == 0

    def test_a_node_whose_row_forgets_that_it_runs_says_so_again(self) -> None:
        self.clock.advance(5)
        self.hosts.state = HostState.STARTING
        self.clock.advance(5)
        assert self.hosts.state is HostState.RUNNING
        assert self.tenure.status.refusal() is None

    def test_but_not_while_it_stops(self) -> None:
        saying = self.conduct.hold("set_state")
        closing = self.begin(self.tenure.close(stop_vms=False))
        self.hosts.state = HostState.STARTING
        self.clock.advance(5)
        assert self.conduct.of("set_state")[1:] == [(HostState.STOPPING,)]
        saying.go_on()
        self.result(closing)


class CloseTests(TenureCase):
    def setUp(self) -> None:
        super().setUp()
        self.result(self.tenure.begin())

    def test_the_vms_wait_for_the_next_daemon(self) -> None:
        self.result(self.tenure.close(stop_vms=False))
        assert self.state(1) == "running"
        assert self.conduct.names("kill", "poweroff", "shutdown", "destroy") == []
        assert self.hosts.states[-2:] == [HostState.STOPPING, HostState.STOPPED]

    def test_nothing_is_left_that_still_turns(self) -> None:
        self.result(self.tenure.close(stop_vms=False))
        assert self.clock.getDelayedCalls() == []
        assert not self.world.driver.watched

    def test_the_vms_are_stopped_in_order_where_that_is_wanted(self) -> None:
        closing = self.begin(self.tenure.close(stop_vms=True))
        assert self.conduct.count("poweroff") == 1
        assert self.waits(closing)
        assert self.hosts.state is HostState.STOPPING
        self.world.driver.exit(VMId(1))
        self.result(closing)
        assert self.state(1) == "stopped"
        assert self.hosts.states[-1] is HostState.STOPPED
        assert self.clock.getDelayedCalls() == []

    def test_the_lease_is_kept_while_they_are_being_stopped(self) -> None:
        closing = self.begin(self.tenure.close(stop_vms=True))
        before = self.conduct.count("renew")
        self.clock.pump([1.0] * 10)
        assert self.conduct.count("renew") > before
        self.world.driver.exit(VMId(1))
        self.result(closing)

    def test_no_start_is_taken_up_meanwhile(self) -> None:
        closing = self.begin(self.tenure.close(stop_vms=True))
        self.world.rows.order(2, Desired.RUNNING)
        self.world.bells.ring(vm_on_host(HOST))
        self.clock.pump([1.0] * 6)
        assert self.state(2) == "stopped"
        self.world.driver.exit(VMId(1))
        self.result(closing)

    def test_a_database_that_is_away_does_not_keep_it(self) -> None:
        for name in ("set_state", "renew", "pending", "unended"):
            self.conduct.always_fail(name, AWAY)
        self.result(self.tenure.close(stop_vms=False))

    def test_a_new_client_is_refused_from_the_next_renewal_on(self) -> None:
        closing = self.begin(self.tenure.close(stop_vms=True))
        self.clock.advance(5)
        try:
            assert self.tenure.status.refusal() == "Server is stopping"
        except Unavailable:
            self.fail("the lease is still held")
        self.world.driver.exit(VMId(1))
        self.result(closing)
