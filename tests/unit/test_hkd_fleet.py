"""Orders are taken up once and never forgotten; what a former daemon left is adopted, reaped or released."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from qvd.hkd.deadlines import Deadlines
from qvd.hkd.fleet import AT_ONCE, CLAIMS, Fleet
from qvd.hkd.runnerports import Ports
from qvd.hkd.slots import Slots, SlotSizes
from qvd.hkd.watch import WatchTimes
from qvd.model.errors import DatabaseUnavailable, PermanentError, TransientError
from qvd.model.ids import Epoch, HostId, Run, TenantId, VMId
from qvd.model.records import Desired, Domain, Guest, Lease
from qvd.model.recovery import ENDED, INTERRUPTED
from qvd.model.secret import Secret
from qvd.model.vm import Step, VMState
from qvd.protocols.channels import vm_on_host
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.driver import FakeDriver, guest_of
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST, FakeOwnership, Rows, vm_row

LEASE = Lease(HOST, Epoch(4))
OLD = Epoch(3)
AWAY = DatabaseUnavailable("The database does not answer")
LOOK = 5.0
DEADLINES = Deadlines(start=60.0, shutdown=30.0, kill=5.0)


def ports(clock: Clock, driver: FakeDriver, ownership: FakeOwnership, guest: FakeGuest) -> Ports:
    return Ports(
        clock=clock,
        driver=driver,
        ownership=ownership,
        dialer=FakeDialer(guest),
        deadlines=DEADLINES,
        watch=WatchTimes(boot=0.5, interval=5.0, failures=3),
        forget=lambda vm_id: None,
        seen=lambda vm_id: None,
    )


class FleetCase(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        self.rows = Rows(vm_row(1), vm_row(2), vm_row(3))
        self.ownership = FakeOwnership(self.rows, self.conduct)
        self.driver = FakeDriver(self.conduct)
        self.guest = FakeGuest(self.conduct)
        self.bells = FakeBells()
        self.fleet = Fleet(
            self.clock,
            LEASE,
            ports(self.clock, self.driver, self.ownership, self.guest),
            self.bells,
            LOOK,
            lambda: Secret("new"),
        )

    def tearDown(self) -> None:
        # What goes on would do so when its memory is wanted, in another test.
        self.begin(self.fleet.stop())

    def start(self) -> None:
        self.result(self.fleet.judge())
        self.fleet.start()

    def order(self, vm_id: int, desired: Desired) -> None:
        """As the L7R does: a row and a bell."""
        self.rows.order(vm_id, desired)
        self.bells.ring(vm_on_host(HOST))
        self.clock.advance(0)

    def put_up(self, vm_id: int, state: VMState = VMState.RUNNING, **changes: Any) -> None:
        """A VM of a former epoch of this node."""
        given = {"desired": Desired.RUNNING, "epoch": OLD, "guest": guest_of(vm_id), **changes}
        self.rows.write(vm_id, state=state, host_id=HOST, **given)
        self.driver.domains[VMId(vm_id)] = Domain(VMId(vm_id), True, guest_of(vm_id))

    def states(self) -> list[str]:
        return [vm.state.value for vm in self.rows.table.values()]


class JudgeTests(FleetCase):
    def test_one_that_fails_waits_for_the_others(self) -> None:
        """An adoption that came late would be one under an epoch that is over."""
        self.put_up(1)
        self.put_up(2)
        self.conduct.fail("adopt", DatabaseUnavailable("away"))
        held = self.conduct.hold("adopt")
        judging = self.begin(self.fleet.judge())
        assert held.reached and self.waits(judging)
        held.go_on()
        self.failure(judging, DatabaseUnavailable)

    def test_many_are_judged_a_few_at_a_time(self) -> None:
        for number in range(1, AT_ONCE + 3):
            self.rows.table[VMId(number)] = vm_row(number)
            self.put_up(number)
        held = self.conduct.hold("adopt")
        judging = self.begin(self.fleet.judge())
        assert self.conduct.count("adopt") == AT_ONCE
        held.go_on()
        self.result(judging)
        assert self.conduct.count("adopt") == AT_ONCE + 2
        self.fleet.start()
        assert len(self.fleet.running) == AT_ONCE + 2

    def test_a_hypervisor_that_says_nothing_is_not_waited_for_for_ever(self) -> None:
        self.conduct.hold("list")
        judged = self.begin(self.fleet.judge())
        self.clock.advance(DEADLINES.clean)
        assert "does not say" in self.failure(judged, TransientError).text
        self.start()


class ForgottenTests(FleetCase):
    """The database has failed over to a server that does not know the last seconds."""

    def test_a_vm_that_its_row_does_not_grant_any_more_is_killed_without_a_write(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(2, Desired.RUNNING)
        written = len(self.ownership.saves)
        self.rows.write(1, state=VMState.STOPPED, host_id=None, epoch=None)
        self.clock.advance(LOOK)
        assert list(self.driver.domains) == [VMId(2)]
        assert len(self.ownership.saves) == written
        assert list(self.fleet.running) == [VMId(2)]

    def test_one_whose_row_is_an_older_one_is_killed_and_its_row_released(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.ownership.familiar = False
        self.rows.write(1, state=VMState.STARTING, guest=None)
        self.clock.advance(LOOK)
        assert self.conduct.count("kill") > 0
        self.clock.advance(LOOK)
        assert (self.rows[1].state, self.rows[1].host_id) == (VMState.STOPPED, None)
        assert self.rows[1].last_error == INTERRUPTED

    def test_one_whose_state_is_being_written_is_let_be(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.conduct.hold("save")
        self.order(1, Desired.STOPPED)
        self.ownership.familiar = False
        self.clock.advance(LOOK)
        assert self.rows[1].state is VMState.RUNNING
        assert self.conduct.count("kill") == 0
        assert list(self.fleet.running) == [VMId(1)]

    def test_a_release_that_is_under_way_is_let_be(self) -> None:
        """Daemon and database were restarted together, while the VM waited in the queue."""
        self.rows.write(1, state=VMState.STARTING, phase="queued", host_id=HOST, epoch=OLD, desired=Desired.RUNNING)
        self.ownership.familiar = False
        held = self.conduct.hold("release")
        self.start()
        assert held.reached and not held.cancelled
        held.go_on()
        self.clock.advance(0)
        assert self.rows[1].state is VMState.RUNNING, "it is taken up once more"
        assert self.rows[1].last_error is None

    def test_it_is_said_once_of_one_that_does_not_end(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.rows.write(1, state=VMState.STOPPED, host_id=None, epoch=None)
        self.conduct.hold("kill")
        with capturedLogs() as logged:
            self.clock.advance(LOOK)
            self.clock.advance(LOOK)
        assert len([event for event in logged if "its row does not say" in (event["log_format"] or "")]) == 1


class OrderTests(FleetCase):
    def test_a_start_is_taken_up_on_the_bell(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        assert self.states() == ["running", "stopped", "stopped"]
        assert self.rows[1].acked == self.rows[1].generation == 1
        assert self.rows[1].epoch == LEASE.epoch
        assert list(self.fleet.running) == [VMId(1)]

    def test_a_start_is_taken_up_without_a_bell_in_time(self) -> None:
        self.start()
        self.rows.order(1, Desired.RUNNING)
        self.clock.advance(LOOK)
        assert self.states()[0] == "running"

    def test_a_start_ordered_before_the_daemon_came_up_is_taken_up(self) -> None:
        self.rows.order(1, Desired.RUNNING)
        self.start()
        assert self.states()[0] == "running"

    def test_a_stop_that_a_former_daemon_acknowledges_late_is_carried_out(self) -> None:
        """Its statement was under way when this daemon judged the VM, as one with an order to come."""
        self.put_up(1, desired=Desired.STOPPED, generation=2, acked=1)
        self.result(self.fleet.judge())
        self.rows.write(1, acked=2)
        self.fleet.start()
        assert self.states()[0] == "stopping"

    def test_an_order_is_taken_up_once(self) -> None:
        self.conduct.hold("prepare")
        self.start()
        self.order(1, Desired.RUNNING)
        for _ in range(3):
            self.bells.ring(vm_on_host(HOST))
            self.clock.advance(LOOK)
        assert self.conduct.count("claim_start") == 1
        assert self.conduct.count("prepare") == 1

    def test_orders_for_other_nodes_are_not_ours(self) -> None:
        self.start()
        self.rows.write(1, desired=Desired.RUNNING, generation=1, host_id=HostId(8))
        self.clock.advance(LOOK)
        assert self.conduct.count("claim_start") == 0

    def test_a_stop_ends_a_running_vm(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.STOPPED)
        assert self.conduct.count("poweroff") == 1
        self.driver.exit(VMId(1))
        assert self.states()[0] == "stopped"
        assert self.rows[1].acked == self.rows[1].generation == 2
        assert self.fleet.running == []

    def test_a_forced_stop_asks_nobody(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.rows.write(1, forced=True)
        self.order(1, Desired.STOPPED)
        assert (self.conduct.count("poweroff"), self.conduct.count("kill")) == (0, 1)
        assert self.states()[0] == "stopped"

    def test_a_stop_that_hangs_is_forced(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.STOPPED)
        assert self.states()[0] == "stopping"
        self.rows.write(1, forced=True)
        self.order(1, Desired.STOPPED)
        assert self.conduct.count("kill") == 1
        assert self.states()[0] == "stopped"

    def test_a_stop_before_the_start_was_taken_up_is_acknowledged(self) -> None:
        self.rows.order(1, Desired.RUNNING)
        self.rows.order(1, Desired.STOPPED)
        self.start()
        assert self.conduct.count("claim_start") == 0
        assert self.rows[1].acked == 2
        assert self.rows[1].host_id is None

    def test_a_stop_does_not_queue_behind_a_start(self) -> None:
        preparing = self.conduct.hold("prepare")
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.STOPPED)
        assert preparing.cancelled
        assert self.states()[0] == "stopped"

    def test_a_start_while_it_goes_down_is_taken_up_after_its_release(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.STOPPED)
        self.order(1, Desired.RUNNING)
        assert self.states()[0] == "stopping"
        assert self.rows[1].acked == 2
        self.driver.exit(VMId(1))
        self.clock.advance(0)
        assert self.states()[0] == "running"
        assert self.rows[1].acked == 3
        assert self.conduct.count("start") == 2

    def test_a_start_after_a_stop_that_still_waits_for_the_boot_is_not_forgotten(self) -> None:
        """The row says "starting", and yet the VM is on its way down."""
        booting = self.conduct.hold("start")
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.STOPPED)
        self.order(1, Desired.RUNNING)
        self.guest.alive = False
        booting.go_on()
        self.guest.alive = True
        self.clock.pump([0.5] * 20)
        assert self.states()[0] == "running"
        assert self.conduct.count("start") == 2

    def test_a_start_of_a_vm_that_runs_is_acknowledged(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(1, Desired.RUNNING)
        assert self.rows[1].acked == 2
        assert self.conduct.count("claim_start") == 1

    def test_a_node_that_is_being_drained_gives_the_order_up(self) -> None:
        self.rows.draining = True
        self.start()
        self.order(1, Desired.RUNNING)
        assert self.states()[0] == "stopped"
        assert self.rows[1].host_id is None
        assert self.rows[1].acked == 0, "it waits for another node"
        assert self.fleet.running == []

    def test_a_vm_without_an_image_is_refused_with_the_reason(self) -> None:
        self.rows.imageless.add(VMId(1))
        self.start()
        self.order(1, Desired.RUNNING)
        assert self.states()[0] == "stopped"
        assert self.rows[1].host_id is None
        assert self.rows[1].last_error == "No usable disk image"
        assert self.rows[1].acked == 1
        assert self.fleet.running == []

    def test_orders_of_several_vms_are_carried_out_side_by_side(self) -> None:
        self.conduct.hold("prepare")
        self.rows.order(1, Desired.RUNNING)
        self.rows.order(2, Desired.RUNNING)
        self.start()
        assert self.states() == ["starting", "running", "stopped"]

    def test_a_failed_start_can_be_ordered_again(self) -> None:
        self.conduct.fail("prepare", PermanentError("No space is left"))
        self.start()
        self.order(1, Desired.RUNNING)
        assert self.rows[1].last_error == "No space is left"
        self.order(1, Desired.RUNNING)
        assert self.states()[0] == "running"

    def test_orders_wait_while_the_database_is_away(self) -> None:
        self.conduct.fail("pending", AWAY, AWAY)
        self.rows.order(1, Desired.RUNNING)
        self.start()
        assert self.states()[0] == "stopped"
        self.clock.advance(LOOK)
        self.clock.advance(LOOK)
        assert self.states()[0] == "running"

    def test_a_claim_whose_answer_was_lost_leaves_no_orphan(self) -> None:
        """The row says "starting" under our epoch, and nobody carries it out."""
        self.conduct.fail("claim_start", AWAY, after=True)
        self.start()
        self.order(1, Desired.RUNNING)
        self.clock.pump([LOOK] * 3)
        assert self.rows[1].state is VMState.RUNNING or VMId(1) in self.fleet.running or self.rows[1].last_error

    def test_nor_does_one_that_is_committed_long_after(self) -> None:
        self.conduct.fail("claim_start", AWAY)
        self.start()
        self.order(1, Desired.RUNNING)
        self.rows.write(1, state=VMState.STARTING, epoch=LEASE.epoch, acked=self.rows[1].generation)
        self.clock.pump([LOOK] * 3)
        assert self.states()[0] == "stopped"
        assert self.rows[1].last_error == INTERRUPTED

    def test_nor_does_what_a_former_daemon_adopts_too_late(self) -> None:
        """It takes effect between this one's look at the rows and its own adoption, which finds another epoch."""
        self.rows.write(1, state=VMState.RUNNING, host_id=HOST, epoch=Epoch(2), desired=Desired.RUNNING)
        held = self.conduct.hold("adopt")
        judging = self.begin(self.fleet.judge())
        self.rows.write(1, epoch=OLD)
        held.go_on()
        self.result(judging)
        self.fleet.start()
        self.clock.pump([LOOK] * 3)
        assert (self.states()[0], self.rows[1].host_id) == ("stopped", None)
        assert self.rows[1].last_error == ENDED

    def test_what_is_written_is_about_the_run_that_was_claimed(self) -> None:
        """The row is at the VM's next run, for whatever reason: this one is over."""
        self.start()
        self.order(1, Desired.RUNNING)
        assert self.rows[1].run == 1 and self.states()[0] == "running"
        self.rows.write(1, run=Run(2))
        killing = self.conduct.hold("kill")
        self.order(1, Desired.STOPPED)
        assert killing.reached
        assert self.states()[0] == "running", "not a word about it was written"

    def test_of_a_vm_that_was_found_it_is_about_the_run_that_was_found(self) -> None:
        self.put_up(1, run=Run(7))
        self.start()
        self.order(1, Desired.STOPPED)
        self.driver.exit(VMId(1))
        assert self.states()[0] == "stopped"
        assert self.conduct.count("kill") == 0

    def test_a_stop_whose_acknowledgement_was_lost_is_carried_out(self) -> None:
        self.start()
        self.order(1, Desired.RUNNING)
        self.conduct.fail("acknowledge", AWAY, after=True)
        self.order(1, Desired.STOPPED)
        self.clock.pump([LOOK] * 2)
        assert self.conduct.count("poweroff") == 1

    def test_an_order_that_cannot_be_read_does_not_hold_up_the_others(self) -> None:
        self.conduct.fail("claim_start", ValueError("a constraint"))
        self.rows.order(1, Desired.RUNNING)
        self.rows.order(2, Desired.RUNNING)
        self.start()
        self.clock.pump([LOOK] * 2)
        assert self.logged(ValueError) == 1
        assert self.states() == ["running", "running", "stopped"]


class QueueTests(FleetCase):
    def setUp(self) -> None:
        super().setUp()
        self.rows = Rows(*(vm_row(number, tenant_id=TenantId(1 + number // 100)) for number in (1, 2, 3, 4, 101)))
        self.ownership.rows = self.rows
        given = ports(self.clock, self.driver, self.ownership, self.guest)
        self.limited = evolve(given, slots=Slots(SlotSizes(boot=1)), node="n2")
        self.fleet = Fleet(self.clock, LEASE, self.limited, self.bells, LOOK, lambda: Secret("new"))

    def test_all_orders_are_claimed_and_those_without_a_slot_told_their_place(self) -> None:
        self.conduct.hold("start")
        self.start()
        for number in (1, 2, 3, 101):
            self.order(number, Desired.RUNNING)
        assert {vm.state for vm in self.rows.table.values() if vm.vm_id != 4} == {VMState.STARTING}
        self.clock.advance(1)
        places = {vm.vm_id: vm.detail.split(",")[0] for vm in self.rows.table.values()}
        assert places == {
            1: "Booting",
            2: "Position 1 in the queue of node n2",
            3: "Position 3 in the queue of node n2",
            4: "",
            101: "Position 2 in the queue of node n2",
        }

    def test_who_waits_is_left_to_the_successor_once_its_row_says_so(self) -> None:
        boot = self.conduct.hold("start")
        self.start()
        self.order(1, Desired.RUNNING)
        saved = self.conduct.hold("save")
        self.order(2, Desired.RUNNING)
        assert saved.reached and self.rows[2].phase != Step.PREPARED.value
        quiet = self.begin(self.fleet.quiet(10.0))
        self.clock.advance(1)
        assert not saved.cancelled
        saved.go_on()
        self.clock.advance(1)
        assert self.rows[2].phase == Step.PREPARED.value
        assert list(self.fleet.running) == [VMId(1)]
        assert self.waits(quiet)
        boot.go_on()
        self.clock.advance(1)
        self.result(quiet)
        assert list(self.fleet.running) == [VMId(1)], "which goes on"

    def test_a_stop_goes_through_while_boots_wait(self) -> None:
        self.start()
        self.order(4, Desired.RUNNING)
        self.conduct.hold("start")
        for number in (1, 2, 3):
            self.order(number, Desired.RUNNING)
        self.order(4, Desired.STOPPED)
        assert self.conduct.count("poweroff") == 1
        self.order(2, Desired.STOPPED)
        assert self.rows[2].state is VMState.STOPPED
        assert self.rows[2].host_id is None

    def test_a_stop_does_not_wait_for_the_claims_of_a_storm(self) -> None:
        many = [vm_row(number) for number in range(1, 3 * CLAIMS)]
        self.rows.table = {vm.vm_id: vm for vm in many}
        for vm in many:
            self.rows.order(vm.vm_id, Desired.RUNNING)
        # A real database answers later.
        looks = [self.conduct.hold("pending") for _ in range(3)]
        self.start()
        looks[0].go_on()
        assert self.conduct.count("claim_start") == CLAIMS
        self.rows.order(1, Desired.STOPPED)
        self.clock.advance(0)
        looks[1].go_on()
        assert self.conduct.count("poweroff") == 1
        assert self.conduct.count("claim_start") == 2 * CLAIMS
        self.clock.advance(0)
        looks[2].go_on()
        assert self.conduct.count("claim_start") == len(many)

    def test_an_order_that_can_never_be_taken_up_starves_nobody(self) -> None:
        self.conduct.fail("claim_start", ValueError("a constraint"))
        self.rows.order(1, Desired.RUNNING)
        self.rows.order(2, Desired.RUNNING)
        self.start()
        assert self.states()[:2] == ["stopped", "running"]
        assert self.logged(ValueError) == 1

    def test_an_order_in_its_back_off_is_taken_up_after_it(self) -> None:
        self.rows.order(1, Desired.RUNNING)
        self.rows.write(1, failures=4, retry_in=20.0)
        self.start()
        assert self.states()[0] == "stopped"
        self.rows.write(1, retry_in=None)
        self.clock.advance(LOOK)
        assert self.states()[0] == "running"

    def test_a_lost_lease_starts_nothing_that_waited(self) -> None:
        self.conduct.hold("start")
        self.start()
        for number in (1, 2, 3):
            self.order(number, Desired.RUNNING)
        self.fleet.lose("over")
        assert self.conduct.count("start") == 1
        self.result(self.fleet.idle())

    def test_a_daemon_that_leaves_starts_nothing_that_waited(self) -> None:
        self.conduct.hold("start")
        self.start()
        for number in (1, 2, 3):
            self.order(number, Desired.RUNNING)
        self.result(self.fleet.stop())
        assert self.conduct.count("start") == 1
        assert self.rows[3].phase == "queued to boot"

    def test_a_daemon_that_stops_its_vms_lets_none_wait(self) -> None:
        self.limited = evolve(self.limited, slots=Slots(SlotSizes(stop=1)))
        self.fleet = Fleet(self.clock, LEASE, self.limited, self.bells, LOOK, lambda: Secret("new"))
        self.start()
        for number in (1, 2, 3):
            self.order(number, Desired.RUNNING)
        self.fleet.stop_all("end of day")
        assert self.conduct.count("poweroff") == 3

    def test_one_that_waited_when_its_daemon_was_killed_waits_again(self) -> None:
        queued = {"host_id": HOST, "epoch": OLD, "desired": Desired.RUNNING, "generation": 5, "acked": 5}
        self.rows.write(1, state=VMState.STARTING, phase=Step.QUEUED.value, **queued)
        self.rows.write(2, state=VMState.STARTING, phase=Step.PREPARED.value, **queued)
        self.driver.domains[VMId(2)] = Domain(VMId(2), False, None)
        self.start()
        self.clock.advance(0)
        assert self.states()[:2] == ["running", "running"]
        assert self.rows[1].acked == self.rows[1].generation == 5
        assert self.conduct.of("destroy") == [(2,)]


class RecoveryTests(FleetCase):
    def test_a_running_vm_is_adopted_under_the_new_epoch(self) -> None:
        self.put_up(1)
        self.start()
        assert self.states()[0] == "running"
        assert self.rows[1].epoch == LEASE.epoch
        assert self.conduct.names("prepare", "start", "kill") == []
        self.order(1, Desired.STOPPED)
        self.driver.exit(VMId(1))
        assert self.states()[0] == "stopped"

    def test_one_that_ended_meanwhile_is_released_with_the_reason(self) -> None:
        self.put_up(1)
        del self.driver.domains[VMId(1)]
        self.start()
        assert self.states()[0] == "stopped"
        assert self.rows[1].host_id is None
        assert self.rows[1].last_error == ENDED

    def test_a_start_that_was_interrupted_is_cleaned_up(self) -> None:
        self.put_up(1, VMState.STARTING, guest=None)
        self.driver.domains[VMId(1)] = Domain(VMId(1), False, None)
        self.start()
        assert self.rows[1].last_error == INTERRUPTED
        assert self.driver.domains == {}

    def test_a_start_that_went_on_without_the_daemon_is_adopted(self) -> None:
        self.put_up(1, VMState.STARTING, guest=None)
        self.start()
        assert self.states()[0] == "running"
        assert self.rows[1].guest == guest_of(1)

    def test_a_domain_without_a_row_is_reaped(self) -> None:
        self.driver.domains[VMId(99)] = Domain(VMId(99), True, guest_of(99))
        self.start()
        assert self.driver.domains == {}
        assert self.fleet.running == []
        assert self.conduct.count("save") == 0

    def test_another_run_of_the_vm_is_killed(self) -> None:
        self.put_up(1)
        self.driver.domains[VMId(1)] = Domain(VMId(1), True, Guest("127.0.0.1", 1, 2, Secret("other")))
        self.start()
        assert self.conduct.count("kill") == 1
        assert self.rows[1].last_error == ENDED

    def test_a_row_that_is_taken_away_meanwhile_is_killed_without_a_write(self) -> None:
        self.put_up(1)
        held = self.conduct.hold("adopt")
        judging = self.begin(self.fleet.judge())
        self.ownership.take_away(1)
        held.go_on()
        self.result(judging)
        self.fleet.start()
        assert self.conduct.count("kill") == 1
        assert self.conduct.count("save") == 0
        assert self.states()[0] == "running"

    def test_a_stop_that_came_while_the_daemon_was_down(self) -> None:
        self.put_up(1, desired=Desired.STOPPED, generation=1)
        self.start()
        assert self.conduct.count("poweroff") == 1

    def test_a_stop_that_was_taken_up_but_not_carried_out(self) -> None:
        self.put_up(1, desired=Desired.STOPPED)
        self.start()
        assert self.conduct.count("poweroff") == 1

    def test_nothing_is_started_before_all_is_judged(self) -> None:
        self.put_up(1)
        self.put_up(2)
        self.conduct.fail("adopt", AWAY, after=True)
        self.failure(self.fleet.judge(), DatabaseUnavailable)
        assert self.fleet.running == []
        assert self.conduct.names("kill", "ping", "save") == []
        self.start()
        assert sorted(self.fleet.running) == [1, 2]


class EndTests(FleetCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.order(1, Desired.RUNNING)
        self.order(2, Desired.RUNNING)

    def test_losing_the_lease_kills_every_vm_without_a_write(self) -> None:
        writes = self.conduct.count("save")
        self.fleet.lose("over")
        assert self.conduct.names("kill", "poweroff", "release") == ["kill", "kill"]
        assert self.conduct.count("save") == writes
        self.result(self.fleet.idle())

    def test_a_start_claimed_while_the_lease_is_lost_is_not_carried_out(self) -> None:
        held = self.conduct.hold("claim_start", after=True)
        self.order(3, Desired.RUNNING)
        self.fleet.lose("over")
        held.go_on()
        assert self.conduct.of("start") == [(1,), (2,)]
        self.result(self.fleet.idle())

    def test_stopping_all_is_orderly(self) -> None:
        idle = self.begin(self.fleet.idle())
        self.fleet.stop_all("end of day")
        assert self.conduct.count("poweroff") == 2
        self.driver.exit(VMId(1))
        assert self.waits(idle)
        self.driver.exit(VMId(2))
        self.result(idle)
        assert self.states() == ["stopped", "stopped", "stopped"]
        assert [vm.last_error for vm in self.rows.table.values()] == ["end of day", "end of day", None]

    def test_a_stop_that_was_ordered_needs_no_other_reason(self) -> None:
        self.order(1, Desired.STOPPED)
        self.fleet.stop_all("end of day")
        self.driver.exit(VMId(1))
        assert (self.states()[0], self.rows[1].last_error) == ("stopped", None)

    def test_a_start_that_is_cut_short_says_why(self) -> None:
        held = self.conduct.hold("start")
        self.order(3, Desired.RUNNING)
        self.fleet.stop_all("end of day")
        held.go_on()
        self.driver.exit(VMId(3))
        assert (self.states()[2], self.rows[3].last_error) == ("stopped", "end of day")

    def test_waiting_for_all_to_end_can_be_given_up(self) -> None:
        idle: Deferred[None] = self.begin(self.fleet.idle())
        idle.addErrback(lambda failure: None)
        idle.cancel()
        self.fleet.stop_all("end of day")
        for vm_id in (1, 2):
            self.driver.exit(VMId(vm_id))
        self.result(self.fleet.idle())

    def test_a_runner_that_fails_does_not_hold_up_the_end(self) -> None:
        self.conduct.always_fail("save", ValueError("a constraint"))
        self.fleet.stop_all("end of day")
        self.conduct.recover("save")
        assert self.logged(ValueError)
        # A runner that is over and not forgotten would make "idle" wait, without a pause, for what has happened.
        over = [vm_id for vm_id, runner in self.fleet._runners.items() if runner.done.called]
        assert over == []

    def test_no_orders_are_taken_up_after_the_stop_of_orders(self) -> None:
        self.result(self.fleet.stop_orders())
        self.order(3, Desired.RUNNING)
        self.clock.advance(LOOK)
        assert self.states()[2] == "stopped"

    def test_exits_are_still_heard_then(self) -> None:
        self.result(self.fleet.stop_orders())
        self.driver.exit(VMId(1))
        assert self.states()[0] == "stopped"

    def test_stop_hears_nothing_and_leaves_the_vms(self) -> None:
        self.result(self.fleet.stop())
        assert not self.driver.watched
        assert self.bells.heard(vm_on_host(HOST)) == 0
        assert self.states() == ["running", "running", "stopped"]
        assert self.conduct.names("kill", "poweroff", "shutdown") == []

    def test_stop_leaves_nothing_that_still_turns(self) -> None:
        """A runner that goes on would write into a database that is closed."""
        self.result(self.fleet.stop())
        assert self.clock.getDelayedCalls() == []

    def test_exits_of_strangers_are_ignored(self) -> None:
        self.driver.ring(VMId(77))
        assert self.states() == ["running", "running", "stopped"]


class SeenTests(FleetCase):
    def test_all_answers_are_written_at_once_and_once(self) -> None:
        self.start()
        self.order(2, Desired.RUNNING)
        self.order(1, Desired.RUNNING)
        self.clock.pump([5.0, 5.0])
        self.result(self.fleet.flush_seen())
        self.result(self.fleet.flush_seen())
        assert self.ownership.seen_together == [[1, 2]]
