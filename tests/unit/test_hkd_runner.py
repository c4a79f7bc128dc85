"""One VM and its runner: what is stored, what is done, in which order, and what happens when things go wrong."""

from __future__ import annotations

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from qvd.hkd.deadlines import Deadlines
from qvd.hkd.runner import PROGRESS_PAUSE, STORE_RETRY, Runner
from qvd.hkd.runnerports import Ports
from qvd.hkd.slots import Slot, Slots, SlotSizes
from qvd.hkd.watch import WatchTimes
from qvd.hkd.wording import DETAIL
from qvd.model.crashloop import STEADY_SECONDS
from qvd.model.errors import DatabaseUnavailable, GuestError, OwnershipLost, PermanentError, TransientError
from qvd.model.ids import Epoch, TenantId, VMId
from qvd.model.records import Desired, Domain, Lease
from qvd.model.secret import Secret
from qvd.model.vm import LAST, OWNED, Event, Step, VMState, Work
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.driver import FakeDriver, guest_of
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST, FakeOwnership, Rows, spec_of, vm_row

VM1 = VMId(1)
LEASE = Lease(HOST, Epoch(4))
DEADLINES = Deadlines(start=60.0, shutdown=30.0, kill=5.0, clean=20.0, retry=10.0)
AWAY = DatabaseUnavailable("The database does not answer")
EFFECTS = ("prepare", "start", "poweroff", "shutdown", "kill", "destroy", "release")


class RunnerCase(Case):
    """A VM whose start has just been claimed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        claimed = vm_row(1, state=VMState.STARTING, desired=Desired.RUNNING, host_id=HOST, epoch=LEASE.epoch)
        self.rows = Rows(claimed)
        self.ownership = FakeOwnership(self.rows, self.conduct)
        self.driver = FakeDriver(self.conduct)
        self.guest = FakeGuest(self.conduct)
        self.forgotten: list[VMId] = []
        self.seen: list[VMId] = []
        self.ports = Ports(
            clock=self.clock,
            driver=self.driver,
            ownership=self.ownership,
            dialer=FakeDialer(self.guest),
            deadlines=DEADLINES,
            watch=WatchTimes(boot=0.5, interval=5.0, failures=3),
            forget=self.forgotten.append,
            seen=self.seen.append,
        )
        self.runner = Runner(VM1, LEASE, self.ports, Step.PREPARE, spec=spec_of(claimed, Secret("s")))
        self.driver.watch(lambda vm_id: self.runner.tell(Event.DOMAIN_EXITED))

    @property
    def step(self) -> Step:
        return self.runner.position.step

    @property
    def phases(self) -> list[tuple[str, str]]:
        """What was written: the state expected, the phase written."""
        return [(expected.value, change.phase) for _, expected, change in self.ownership.saves]

    @property
    def deeds(self) -> list[object]:
        """What was done, writes and looks left out."""
        return list(self.conduct.names(*EFFECTS))

    def tearDown(self) -> None:
        # One that goes on trying would do so when its memory is wanted, in another test.
        self.runner.leave()

    def run_up(self) -> None:
        self.runner.start()
        assert self.step is Step.RUNNING

    def adopt(self, step: Step, state: VMState, error: str | None = None) -> None:
        """Start with a VM that was found, instead."""
        self.rows.write(1, state=state)
        self.driver.domains[VM1] = Domain(VM1, True, guest_of(1))
        self.runner = Runner(VM1, LEASE, self.ports, step, guest=guest_of(1), error=error, stored=state)
        self.runner.start()

    def assert_over(self, last: Step = Step.RELEASED) -> None:
        assert self.step is last
        assert self.forgotten == [VM1]
        self.result(self.runner.done)
        assert self.clock.getDelayedCalls() == []


class GoodLifeTests(RunnerCase):
    def test_from_claim_to_running(self) -> None:
        self.runner.start()
        assert self.deeds == ["prepare", "start"]
        assert self.phases == [
            ("starting", "booting"),
            ("starting", "waiting for the guest"),
            ("starting", "running"),
        ]
        assert self.rows[1].state is VMState.RUNNING
        assert self.rows[1].guest == guest_of(1)
        assert self.rows[1].last_error is None

    def test_from_running_to_released(self) -> None:
        self.run_up()
        self.runner.tell(Event.STOP, "ordered")
        assert self.step is Step.AWAIT_EXIT
        self.driver.exit(VM1)
        assert self.phases[3:] == [
            ("running", "asking the guest to power off"),
            ("stopping", "powering off"),
            ("stopping", "cleaning up"),
        ]
        assert self.deeds[2:] == ["poweroff", "destroy", "release"]
        assert self.rows[1].state is VMState.STOPPED
        assert self.rows[1].host_id is None
        assert self.rows[1].last_error is None
        self.assert_over()

    def test_each_state_is_stored_before_it_is_acted_on(self) -> None:
        self.run_up()
        self.runner.tell(Event.STOP)
        self.driver.exit(VM1)
        told = self.conduct.names("save", *EFFECTS)
        assert told == [
            "prepare",
            "save",
            "start",
            "save",
            "save",
            "save",
            "poweroff",
            "save",
            "save",
            "destroy",
            "release",
        ]

    def test_nothing_is_done_while_the_write_is_under_way(self) -> None:
        held = self.conduct.hold("save")
        self.runner.start()
        assert self.deeds == ["prepare"]
        held.go_on()
        assert self.deeds == ["prepare", "start"]

    def test_every_change_has_a_sentence_for_the_user(self) -> None:
        assert set(DETAIL) >= OWNED - LAST
        self.run_up()
        details = [change.detail for _, _, change in self.ownership.saves]
        assert details == ["Booting", "Waiting for the desktop's agent", "Running"]

    def test_answers_of_a_running_guest_are_told(self) -> None:
        self.run_up()
        self.clock.pump([5.0, 5.0])
        assert self.seen == [VM1, VM1]

    def test_a_stop_while_it_boots_is_heeded_as_soon_as_it_has(self) -> None:
        held = self.conduct.hold("start")
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.step is Step.BOOT
        assert not held.cancelled
        self.guest.alive = False
        held.go_on()
        assert self.deeds == ["prepare", "start", "shutdown", "destroy", "release"]
        self.assert_over()

    def test_a_stop_while_it_is_prepared_is_heeded_at_once(self) -> None:
        held = self.conduct.hold("prepare")
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert held.cancelled
        assert self.deeds == ["prepare", "destroy", "release"]
        assert self.rows[1].last_error is None
        self.assert_over()


class FailureTests(RunnerCase):
    def assert_failed(self, error: str) -> None:
        assert self.rows[1].state is VMState.STOPPED
        assert self.rows[1].last_error == error
        self.assert_over()

    def test_the_preparation_fails(self) -> None:
        self.conduct.fail("prepare", PermanentError("The image is not there"))
        self.runner.start()
        assert self.deeds == ["prepare", "destroy", "release"]
        self.assert_failed("The image is not there")

    def test_the_boot_fails(self) -> None:
        self.conduct.fail("start", TransientError("No memory is left"))
        self.runner.start()
        assert self.deeds == ["prepare", "start", "kill", "destroy", "release"]
        self.assert_failed("No memory is left")

    def test_something_unexpected_fails(self) -> None:
        self.conduct.fail("start", ZeroDivisionError("/usr/lib/secret/place.py"))
        self.runner.start()
        assert self.logged(ZeroDivisionError) == 1
        self.assert_failed("Internal error of the node; its log has the details")

    def test_the_guest_does_not_come_up(self) -> None:
        self.guest.alive = False
        self.runner.start()
        self.clock.pump([0.5] * 120)
        assert self.deeds == ["prepare", "start", "shutdown", "destroy", "release"]
        self.assert_failed("The virtual machine was not up in time (waiting for the guest)")

    def test_the_deadline_of_the_start_is_one_for_all_its_steps(self) -> None:
        prepare, start = self.conduct.hold("prepare"), self.conduct.hold("start")
        self.guest.alive = False
        self.runner.start()
        self.clock.advance(30)
        prepare.go_on()
        self.clock.advance(20)
        start.go_on()
        assert self.step is Step.AWAIT_GUEST
        self.clock.pump([0.5] * 19)
        assert self.step is Step.AWAIT_GUEST
        self.clock.advance(0.5)
        self.assert_failed("The virtual machine was not up in time (waiting for the guest)")

    def test_a_preparation_without_end_is_given_up(self) -> None:
        held = self.conduct.hold("prepare")
        self.runner.start()
        self.clock.advance(60)
        assert held.cancelled
        self.assert_failed("The virtual machine was not up in time (preparing)")

    def test_a_boot_without_end_is_given_up_and_killed(self) -> None:
        self.conduct.hold("start")
        self.runner.start()
        self.clock.advance(60)
        assert self.deeds == ["prepare", "start", "kill", "destroy", "release"]
        self.assert_failed("The virtual machine was not up in time (booting)")

    def test_the_domain_exits_while_the_guest_comes_up(self) -> None:
        self.guest.alive = False
        self.runner.start()
        self.driver.exit(VM1)
        assert self.deeds == ["prepare", "start", "destroy", "release"]
        self.assert_failed("The virtual machine ended by itself")

    def test_the_domain_exits_while_it_runs(self) -> None:
        self.run_up()
        self.driver.exit(VM1)
        self.assert_failed("The virtual machine ended by itself")

    def test_an_exit_told_twice_counts_once(self) -> None:
        self.run_up()
        held = self.conduct.hold("destroy")
        self.driver.exit(VM1)
        self.driver.ring(VM1)
        held.go_on()
        assert self.deeds[2:] == ["destroy", "release"]
        self.assert_failed("The virtual machine ended by itself")

    def test_the_guest_falls_silent(self) -> None:
        self.run_up()
        self.guest.alive = False
        self.clock.pump([5.0] * 3)
        assert self.deeds[2:] == ["shutdown", "destroy", "release"]
        self.assert_failed("The desktop's agent does not answer any more")

    def test_an_error_of_a_stop_is_not_shown_to_the_user(self) -> None:
        self.run_up()
        self.conduct.fail("poweroff", GuestError("no"))
        self.runner.tell(Event.STOP)
        assert self.deeds[2:] == ["poweroff", "shutdown", "destroy", "release"]
        assert self.rows[1].last_error is None
        self.assert_over()

    def test_the_error_is_stored_with_the_first_write_after_it(self) -> None:
        self.conduct.fail("prepare", PermanentError("The image is not there"))
        self.conduct.hold("destroy")
        self.runner.start()
        assert self.rows[1].phase == "cleaning up"
        assert self.rows[1].last_error == "The image is not there"


class StopTests(RunnerCase):
    """Each rung of the way down, when the one before has no effect."""

    def setUp(self) -> None:
        super().setUp()
        self.driver.deaf = True
        self.run_up()

    def test_a_guest_that_does_not_power_off_is_terminated_then_killed(self) -> None:
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        assert self.step is Step.TERMINATE
        self.clock.advance(5)
        assert self.deeds[2:] == ["poweroff", "shutdown", "kill", "destroy", "release"]
        assert self.phases[3:] == [
            ("running", "asking the guest to power off"),
            ("stopping", "powering off"),
            ("stopping", "terminating"),
            ("zombie", "killing"),
            ("zombie", "cleaning up"),
        ]
        self.assert_over()

    def test_an_agent_that_never_answers_the_power_off(self) -> None:
        held = self.conduct.hold("poweroff")
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        assert held.cancelled
        assert self.step is Step.TERMINATE

    def test_a_kill_that_fails_is_tried_again(self) -> None:
        self.conduct.fail("kill", TransientError("still there"), TransientError("still there"))
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        self.clock.advance(5)
        assert self.step is Step.STUCK
        assert self.rows[1].state is VMState.ZOMBIE
        self.clock.advance(10)
        assert self.step is Step.STUCK
        self.clock.advance(10)
        assert self.conduct.count("kill") == 3
        self.assert_over()

    def test_a_kill_without_end_is_tried_again(self) -> None:
        held = self.conduct.hold("kill")
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        self.clock.advance(5)
        self.clock.advance(2 * 5)
        assert held.cancelled
        assert self.step is Step.STUCK
        self.clock.advance(10)
        self.assert_over()

    def test_a_stuck_vm_that_exits_after_all_is_cleaned_up(self) -> None:
        self.conduct.fail("kill", TransientError("still there"))
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        self.clock.advance(5)
        self.driver.exit(VM1)
        self.assert_over()

    def test_a_cleaning_that_fails_is_tried_again(self) -> None:
        self.conduct.fail("destroy", TransientError("busy"))
        self.runner.tell(Event.STOP)
        self.driver.exit(VM1)
        assert self.step is Step.STUCK
        self.clock.advance(10)
        assert self.deeds[3:] == ["destroy", "kill", "destroy", "release"]
        self.assert_over()

    def test_an_exit_that_nobody_tells_is_found_out_by_the_kill(self) -> None:
        self.driver.quiet = True
        self.runner.tell(Event.STOP)
        self.driver.exit(VM1)
        self.clock.advance(30)
        self.clock.advance(5)
        self.assert_over()

    def test_a_second_stop_changes_nothing(self) -> None:
        self.runner.tell(Event.STOP)
        turn = self.runner.position.turn
        self.runner.tell(Event.STOP)
        assert self.runner.position.turn == turn


class OutcomeTests(RunnerCase):
    def test_the_outcome_of_an_abandoned_step_is_dropped(self) -> None:
        """A driver that ignores the cancellation says "done" when the VM is already being cleaned up."""
        self.conduct.hold("prepare", after=True, stubborn=True)
        cleaning = self.conduct.hold("destroy")
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.step is Step.CLEAN
        assert self.deeds == ["prepare", "destroy"]
        cleaning.go_on()
        self.assert_over()

    def test_the_failure_of_an_abandoned_step_is_dropped(self) -> None:
        self.conduct.hold("prepare")
        cleaning = self.conduct.hold("destroy")
        self.runner.start()
        turn = self.runner.position.turn
        self.runner.tell(Event.STOP)
        self.runner.tell(Event.FAILED, "late", turn)
        self.runner.tell(Event.TIMED_OUT, "late", turn)
        assert self.step is Step.CLEAN
        cleaning.go_on()
        assert self.rows[1].last_error is None
        self.assert_over()

    def test_the_timer_of_a_step_ends_with_it(self) -> None:
        self.run_up()
        self.clock.advance(120)
        assert self.step is Step.RUNNING

    def test_events_wait_for_the_write_under_way(self) -> None:
        self.guest.alive = False
        held = self.conduct.hold("save")
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.conduct.count("save") == 1
        held.go_on()
        # Booted first: a stop waits for the hypervisor's answer.
        assert self.deeds[:3] == ["prepare", "start", "shutdown"]


class LossTests(RunnerCase):
    def assert_gone(self) -> None:
        assert VM1 not in self.driver.domains
        self.assert_over(Step.GONE)

    def test_a_vm_taken_away_is_killed_and_its_row_left_alone(self) -> None:
        self.run_up()
        self.ownership.take_away(1)
        writes = self.conduct.count("save")
        self.runner.tell(Event.STOP)
        assert self.conduct.count("save") == writes + 1  # the one that found it out
        assert self.deeds[2:] == ["kill", "destroy"]
        assert self.rows[1].host_id != HOST
        self.assert_gone()

    def test_a_lease_that_is_over_kills_at_once_without_a_write(self) -> None:
        self.run_up()
        writes = self.conduct.count("save")
        self.runner.tell(Event.LOST, "lease over")
        assert self.conduct.count("save") == writes
        assert self.conduct.count("release") == 0
        self.assert_gone()

    def test_in_each_step_of_a_start(self) -> None:
        held = self.conduct.hold("start")
        self.runner.start()
        self.runner.tell(Event.LOST)
        assert held.cancelled
        assert self.deeds == ["prepare", "start", "kill", "destroy"]
        self.assert_gone()

    def test_a_kill_that_fails_is_tried_again(self) -> None:
        self.run_up()
        self.conduct.fail("kill", TransientError("still there"))
        self.runner.tell(Event.LOST)
        assert self.step is Step.STUCK_LOST
        self.clock.advance(10)
        self.assert_gone()

    def test_while_the_row_is_being_released(self) -> None:
        self.run_up()
        self.conduct.always_fail("release", AWAY)
        self.driver.exit(VM1)
        assert self.step is Step.RELEASE
        self.runner.tell(Event.LOST)
        self.assert_over(Step.GONE)

    def test_a_row_that_is_somebody_elses_is_not_released(self) -> None:
        self.run_up()
        held = self.conduct.hold("release")
        self.driver.exit(VM1)
        self.ownership.take_away(1)
        held.go_on()
        assert self.rows[1].host_id != HOST
        self.assert_over(Step.GONE)

    def test_told_twice(self) -> None:
        self.run_up()
        held = self.conduct.hold("kill")
        self.runner.tell(Event.LOST)
        self.runner.tell(Event.LOST)
        held.go_on()
        assert self.conduct.count("kill") == 1
        self.assert_gone()

    def test_while_the_database_is_away(self) -> None:
        self.conduct.always_fail("save", AWAY)
        self.runner.start()
        self.runner.tell(Event.LOST)
        self.clock.advance(STORE_RETRY)
        assert self.deeds == ["prepare", "kill", "destroy"]
        self.assert_gone()

    def test_a_mute_database_does_not_delay_the_kill(self) -> None:
        """The write may take its whole deadline to fail; the lease may be over by then."""
        self.run_up()
        self.conduct.hold("save")
        self.runner.tell(Event.STOP)
        assert self.step is Step.SHUTDOWN
        self.runner.tell(Event.LOST)
        assert self.conduct.count("kill") == 1
        self.assert_gone()


class DatabaseTests(RunnerCase):
    def test_a_write_is_tried_again_until_the_database_is_back(self) -> None:
        self.conduct.always_fail("save", AWAY)
        self.runner.start()
        self.clock.pump([STORE_RETRY] * 3)
        assert self.conduct.count("save") == 4
        assert self.deeds == ["prepare"]
        self.conduct.recover("save")
        self.clock.advance(STORE_RETRY)
        assert self.step is Step.RUNNING

    def test_a_release_is_tried_again_until_the_database_is_back(self) -> None:
        self.run_up()
        self.conduct.fail("release", AWAY, AWAY)
        self.driver.exit(VM1)
        self.clock.pump([STORE_RETRY] * 2)
        assert self.rows[1].state is VMState.STOPPED
        self.assert_over()

    def test_a_write_whose_answer_was_lost_is_not_taken_for_a_lost_vm(self) -> None:
        self.conduct.fail("save", AWAY, AWAY, AWAY, after=True)
        self.runner.start()
        self.clock.pump([STORE_RETRY] * 3)
        assert self.step is Step.RUNNING
        assert self.conduct.count("kill") == 0

    def test_a_release_whose_answer_was_lost(self) -> None:
        self.run_up()
        self.conduct.fail("release", AWAY, after=True)
        self.driver.exit(VM1)
        self.clock.advance(STORE_RETRY)
        assert self.rows[1].state is VMState.STOPPED
        self.assert_over(Step.GONE)

    def test_a_release_that_fails_otherwise_is_tried_again(self) -> None:
        self.run_up()
        self.conduct.fail("release", ValueError("a constraint"))
        self.driver.exit(VM1)
        self.clock.pump([DEADLINES.clean] * 3)
        assert self.logged(ValueError) == 1
        assert self.rows[1].state is VMState.STOPPED
        self.assert_over()

    def test_a_write_that_fails_otherwise_does_not_leave_a_runner_behind(self) -> None:
        """Nobody could stop it or wait for it any more."""
        self.run_up()
        self.conduct.always_fail("save", ValueError("a constraint"))
        self.runner.tell(Event.STOP)
        self.clock.pump([STORE_RETRY] * 60)
        assert self.logged(ValueError)
        still_trying = not self.runner.done.called and bool(self.clock.getDelayedCalls())
        assert still_trying or self.forgotten == [VM1]


class AdoptionTests(RunnerCase):
    def test_a_running_vm_goes_on(self) -> None:
        self.adopt(Step.RUNNING, VMState.RUNNING)
        assert self.phases == [("running", "running")]
        assert self.deeds == []
        self.clock.advance(5)
        assert self.seen == [VM1]

    def test_an_interrupted_start_goes_on_with_the_guest(self) -> None:
        self.guest.alive = False
        self.adopt(Step.AWAIT_GUEST, VMState.STARTING)
        self.clock.advance(50)
        self.guest.alive = True
        self.clock.advance(0.5)
        assert self.phases == [("starting", "waiting for the guest"), ("starting", "running")]
        assert self.rows[1].guest == guest_of(1)

    def test_a_dead_one_is_released_with_its_reason(self) -> None:
        self.rows.write(1, state=VMState.RUNNING)
        self.runner = Runner(VM1, LEASE, self.ports, Step.CLEAN, error="It ended", stored=VMState.RUNNING)
        self.runner.start()
        assert self.phases == [("running", "cleaning up")]
        assert self.deeds == ["destroy", "release"]
        assert self.rows[1].last_error == "It ended"
        self.assert_over()

    def test_a_stop_that_was_not_carried_out_is(self) -> None:
        self.adopt(Step.SHUTDOWN, VMState.RUNNING)
        assert self.phases[0] == ("running", "asking the guest to power off")
        assert self.deeds == ["poweroff"]

    def test_what_is_not_ours_is_reaped_without_a_write(self) -> None:
        self.ownership.take_away(1)
        self.adopt(Step.KILL_LOST, VMState.STOPPED)
        assert self.phases == []
        assert self.deeds == ["kill", "destroy"]
        self.assert_over(Step.GONE)

    def test_a_row_that_is_lost_before_the_first_write(self) -> None:
        self.conduct.fail("save", OwnershipLost("epoch"))
        self.adopt(Step.RUNNING, VMState.RUNNING)
        assert self.deeds == ["kill", "destroy"]
        self.assert_over(Step.GONE)


class QueueTests(RunnerCase):
    """One slot of each kind, which somebody else has."""

    def setUp(self) -> None:
        super().setUp()
        self.slots = Slots(SlotSizes(unpack=1, boot=1, stop=1))
        self.ports = evolve(self.ports, slots=self.slots, node="n2", deadlines=evolve(DEADLINES, queue=100.0))
        self.runner = Runner(
            VM1, LEASE, self.ports, Step.QUEUED, spec=spec_of(self.rows[1], Secret("s")), tenant_id=TenantId(1)
        )

    def occupy(self, work: Work) -> Slot:
        return self.slots.budgets[work].ask(VMId(77), TenantId(2))

    def assert_nothing_is_held(self) -> None:
        assert [budget.used for budget in self.slots.budgets.values()] == [0, 0, 0]
        assert [budget.waiting() for budget in self.slots.budgets.values()] == [[], [], []]

    def used(self) -> list[int]:
        return [budget.used for budget in self.slots.budgets.values()]

    def test_free_slots_are_had_without_another_write(self) -> None:
        self.runner.start()
        assert self.phases == [
            ("starting", "booting"),
            ("starting", "waiting for the guest"),
            ("starting", "running"),
        ]
        self.assert_nothing_is_held()

    def test_a_slot_lasts_as_long_as_its_step(self) -> None:
        preparing, booting = self.conduct.hold("prepare"), self.conduct.hold("start")
        self.guest.alive = False
        self.runner.start()
        assert self.used() == [1, 0, 0]
        preparing.go_on()
        assert self.used() == [0, 1, 0]
        booting.go_on()
        assert (self.step, self.used()) == (Step.AWAIT_GUEST, [0, 1, 0])
        self.guest.alive = True
        self.clock.advance(0.5)
        assert (self.step, self.used()) == (Step.RUNNING, [0, 0, 0])
        self.runner.tell(Event.STOP)
        assert (self.step, self.used()) == (Step.AWAIT_EXIT, [0, 0, 1])
        self.driver.exit(VM1)
        self.assert_over()
        self.assert_nothing_is_held()

    def test_a_start_waits_for_both_slots_and_says_so(self) -> None:
        unpacking, booting = self.occupy(Work.UNPACK), self.occupy(Work.BOOT)
        self.runner.start()
        assert self.rows[1].phase == "queued"
        assert self.rows[1].detail == "Position 1 in the queue of node n2, waiting to be prepared"
        unpacking.leave()
        assert self.deeds == ["prepare"]
        assert self.rows[1].phase == "queued to boot"
        assert self.rows[1].detail == "Position 1 in the queue of node n2, waiting to boot"
        booting.leave()
        assert self.step is Step.RUNNING
        self.assert_nothing_is_held()

    def test_a_stop_takes_one_out_of_the_queue_at_once(self) -> None:
        self.occupy(Work.UNPACK)
        self.occupy(Work.STOP)
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.deeds == ["release"]
        assert self.rows[1].last_error is None
        self.assert_over()
        assert self.used() == [1, 0, 1]

    def test_so_it_does_with_one_that_was_prepared(self) -> None:
        self.occupy(Work.BOOT)
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.deeds == ["prepare", "destroy", "release"]
        self.assert_over()

    def test_a_loss_too(self) -> None:
        for work in Work:
            self.occupy(work)
        self.runner.start()
        self.runner.tell(Event.LOST)
        assert self.deeds == ["kill", "destroy"]
        self.assert_over(Step.GONE)
        assert not any(budget.waiting() for budget in self.slots.budgets.values())

    def test_a_kill_after_a_loss_waits_for_nobody(self) -> None:
        self.runner.start()
        self.occupy(Work.STOP)
        self.runner.tell(Event.LOST)
        assert self.deeds[2:] == ["kill", "destroy"]
        self.assert_over(Step.GONE)

    def test_the_queue_has_a_deadline_of_its_own(self) -> None:
        self.occupy(Work.UNPACK)
        self.runner.start()
        self.clock.advance(99)
        assert self.step is Step.QUEUED
        self.clock.advance(1)
        assert "node was busy" in (self.rows[1].last_error or "")
        assert self.rows[1].failures == 0
        self.assert_over()

    def test_it_is_one_for_both_queues(self) -> None:
        unpacking = self.occupy(Work.UNPACK)
        self.occupy(Work.BOOT)
        self.runner.start()
        self.clock.advance(60)
        unpacking.leave()
        self.clock.advance(39)
        assert self.step is Step.PREPARED
        self.clock.advance(1)
        assert "node was busy" in (self.rows[1].last_error or "")
        self.assert_over()

    def test_the_time_of_the_start_begins_with_the_slot(self) -> None:
        unpacking = self.occupy(Work.UNPACK)
        self.guest.alive = False
        self.runner.start()
        self.clock.advance(90)
        unpacking.leave()
        self.clock.pump([0.5] * 118)
        assert self.rows[1].phase == "waiting for the guest"
        self.guest.alive = True
        self.clock.advance(0.5)
        assert self.rows[1].phase == "running"

    def test_a_failure_gives_the_slot_back(self) -> None:
        for effect in ("prepare", "start"):
            self.conduct.fail(effect, PermanentError("broken"))
            runner = Runner(VM1, LEASE, self.ports, Step.QUEUED, spec=spec_of(self.rows[1], Secret("s")))
            self.rows.write(1, state=VMState.STARTING, host_id=HOST, epoch=LEASE.epoch)
            runner.start()
            self.result(runner.done)
            self.assert_nothing_is_held()

    def test_so_does_a_boot_that_takes_too_long(self) -> None:
        self.guest.alive = False
        self.runner.start()
        self.clock.pump([0.5] * 120)
        self.assert_over()
        self.assert_nothing_is_held()

    def test_and_a_daemon_that_leaves(self) -> None:
        held = self.conduct.hold("start")
        self.runner.start()
        self.runner.leave()
        assert held.cancelled
        self.assert_nothing_is_held()

    def test_one_that_leaves_while_the_vm_waits_is_not_in_the_queue_any_more(self) -> None:
        self.occupy(Work.BOOT)
        self.runner.start()
        assert self.step is Step.PREPARED
        self.runner.leave()
        assert self.slots.budgets[Work.BOOT].waiting() == []

    def test_a_vm_that_cannot_be_ended_keeps_no_slot(self) -> None:
        self.runner.start()
        self.driver.deaf = True
        self.conduct.always_fail("kill", TransientError("still there"))
        self.runner.tell(Event.STOP)
        self.clock.advance(30)
        self.clock.advance(5)
        assert self.step is Step.STUCK
        self.assert_nothing_is_held()

    def test_a_stop_waits_for_other_stops_only_and_says_so(self) -> None:
        self.runner.start()
        stopping, _ = self.occupy(Work.STOP), self.occupy(Work.BOOT)
        self.runner.tell(Event.STOP)
        assert self.deeds[2:] == []
        assert self.rows[1].state is VMState.STOPPING
        stopping.leave()
        assert self.deeds[2:] == ["poweroff"]
        assert (VM1, "powering off", "Powering off") not in self.ownership.texts
        assert self.ownership.texts == [
            (VM1, "asking the guest to power off", "Asking the guest to power off"),
        ]

    def test_it_does_not_wait_for_ever(self) -> None:
        self.runner.start()
        self.occupy(Work.STOP)
        self.runner.tell(Event.STOP)
        self.clock.pump([5.0] * 19)
        assert self.deeds[2:] == []
        self.clock.advance(5)
        assert self.deeds[2:] == ["poweroff"]
        self.driver.exit(VM1)
        self.assert_over()
        assert self.used() == [0, 0, 1]

    def test_a_guest_that_ends_while_its_stop_waits_is_cleaned_up_in_its_turn(self) -> None:
        self.runner.start()
        stopping = self.occupy(Work.STOP)
        self.runner.tell(Event.STOP)
        self.driver.exit(VM1)
        assert self.step is Step.CLEAN
        assert self.deeds[2:] == []
        stopping.leave()
        assert self.deeds[2:] == ["destroy", "release"]
        self.assert_over()
        self.assert_nothing_is_held()

    def test_what_was_found_booting_boots_and_counts(self) -> None:
        self.occupy(Work.BOOT)
        self.guest.alive = False
        self.adopt(Step.AWAIT_GUEST, VMState.STARTING)
        assert self.used() == [0, 2, 0]
        self.guest.alive = True
        self.clock.advance(0.5)
        assert (self.step, self.used()) == (Step.RUNNING, [0, 1, 0])


class CrashTests(RunnerCase):
    """What the end of a run says about the VM."""

    def test_a_boot_that_fails_counts(self) -> None:
        self.conduct.fail("start", PermanentError("The image does not boot"))
        self.runner.start()
        assert self.rows[1].failures == 1

    def test_a_failure_that_another_try_may_mend_does_not(self) -> None:
        self.conduct.fail("start", TransientError("No memory is left"))
        self.runner.start()
        assert self.rows[1].failures == 0

    def test_nor_does_a_preparation(self) -> None:
        self.conduct.fail("prepare", PermanentError("The image is not there"))
        self.runner.start()
        assert self.rows[1].failures == 0

    def test_an_early_end_counts(self) -> None:
        self.run_up()
        self.clock.advance(STEADY_SECONDS - 1)
        self.driver.exit(VM1)
        assert self.rows[1].failures == 1

    def test_a_late_one_clears_the_count(self) -> None:
        self.rows.write(1, failures=2)
        self.run_up()
        self.clock.pump([5.0] * (int(STEADY_SECONDS) // 5))
        self.driver.exit(VM1)
        assert self.rows[1].failures == 0

    def test_an_orderly_stop_does_too(self) -> None:
        self.rows.write(1, failures=2)
        self.run_up()
        self.runner.tell(Event.STOP)
        self.driver.exit(VM1)
        assert self.rows[1].failures == 0

    def test_a_stop_during_the_boot_says_nothing(self) -> None:
        self.rows.write(1, failures=2)
        self.guest.alive = False
        self.runner.start()
        self.runner.tell(Event.STOP)
        assert self.rows[1].failures == 2
        self.assert_over()

    def test_a_run_that_has_outlived_a_daemon_was_a_long_one(self) -> None:
        self.rows.write(1, failures=2)
        self.adopt(Step.RUNNING, VMState.RUNNING)
        self.driver.exit(VM1)
        assert self.rows[1].failures == 0


class ProgressTests(RunnerCase):
    def setUp(self) -> None:
        super().setUp()
        self.held = self.conduct.hold("prepare")
        self.runner.start()

    def texts(self) -> list[str]:
        return [text for _, _, text in self.ownership.texts]

    def test_what_the_driver_says_is_shown(self) -> None:
        self.driver.progress("Unpacking the image, 40 %")
        assert self.ownership.texts == [(VM1, "preparing", "Unpacking the image, 40 %")]

    def test_never_more_often_than_users_can_read(self) -> None:
        for percent in range(64):
            self.driver.progress(f"{percent} %")
            self.clock.advance(PROGRESS_PAUSE / 8)
        assert self.texts() == [f"{percent} %" for percent in range(0, 64, 8)]

    def test_a_database_that_is_away_does_not_end_the_start(self) -> None:
        self.conduct.fail("progress", AWAY)
        self.driver.progress("10 %")
        self.clock.advance(PROGRESS_PAUSE)
        self.driver.progress("20 %")
        assert self.texts() == ["20 %"]
        self.held.go_on()
        assert self.step is Step.RUNNING


@pytest.mark.parametrize("step", Step)
def test_each_step_with_an_end_from_outside_has_a_limit(step: Step) -> None:
    limit = DEADLINES.of(step, elapsed=0.0)
    assert (limit is None) == (step is Step.RUNNING or step in LAST)


def test_a_start_that_is_late_has_no_time_left() -> None:
    assert DEADLINES.of(Step.AWAIT_GUEST, elapsed=61.0) == 0.0
