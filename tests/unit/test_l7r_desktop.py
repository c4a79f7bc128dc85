"""Each step from a VM in whatever state to an X session that listens, or back to a VM that is stopped."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from qvd.agent import hooks, provisioning
from qvd.l7r.desktop import (
    HEARTBEAT,
    LOOK,
    PROVISIONING_SECONDS,
    X_POLL,
    X_RETRY,
    Desktops,
    DesktopTimes,
    Ticker,
)
from qvd.l7r.waiting import VMNews
from qvd.model.errors import DatabaseUnavailable, DeadlineExceeded, GuestError, NotFound, Unavailable
from qvd.model.ids import SessionId, VMId
from qvd.model.records import Desired, Guest
from qvd.model.settings_node import NODE_KEYS
from qvd.model.vm import Step, VMState
from qvd.protocols.channels import vm_changed
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.driver import guest_of
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST, FakeVMs, Rows, vm_row
from tests.fakes.sessions import FakeSessions

VM9 = VMId(9)
OLDER = SessionId("older")
TIMES = DesktopTimes(start=60.0, stop=45.0, x_start=20.0, takeover=10.0, provisioning=100.0)
UP: dict[str, Any] = {
    "state": VMState.RUNNING,
    "desired": Desired.RUNNING,
    "host_id": HOST,
    "guest": guest_of(9),
    "detail": "Running",
}


class DesktopCase(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        self.rows = Rows(vm_row(9))
        self.bells = FakeBells()
        self.rows.changed = lambda vm_id: self.bells.ring(vm_changed(), str(vm_id))
        self.vms = FakeVMs(self.rows, self.conduct)
        self.sessions = FakeSessions(self.conduct)
        self.guest = FakeGuest(self.conduct)
        self.news = VMNews(self.clock, self.bells)
        self.desktops = Desktops(self.clock, self.vms, self.sessions, FakeDialer(self.guest), self.news, TIMES)
        self.told: list[str] = []

    def tearDown(self) -> None:
        assert self.clock.getDelayedCalls() == []

    def acknowledge(self, **changes: Any) -> None:
        """The node takes the newest order up."""
        self.rows.write(9, acked=self.rows[9].generation, **changes)


class UntilRunningTests(DesktopCase):
    def until_running(self) -> Deferred[Guest]:
        return self.begin(self.desktops.until_running(VM9, "alice", self.told.append))

    def test_one_that_runs_is_there_at_once(self) -> None:
        self.rows.write(9, **UP)
        assert self.result(self.until_running()) == guest_of(9)
        assert self.conduct.count("order_start") == 0
        assert self.told == []

    def test_one_that_is_stopped_is_started(self) -> None:
        waiting = self.until_running()
        assert self.conduct.of("order_start") == [(9, "alice")]
        self.acknowledge(state=VMState.STARTING, detail="Preparing to start")
        self.rows.write(9, detail="Unpacking the image, 40 %")
        assert self.waits(waiting)
        self.rows.write(9, **UP)
        assert self.result(waiting) == guest_of(9)
        assert self.told == [
            "Assigning VM 9 to host",
            "Starting virtual machine",
            "Preparing to start",
            "Unpacking the image, 40 %",
        ]

    def test_its_place_in_the_queue_is_told(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING, detail="Position 3 in the queue of node n2, waiting to boot")
        self.rows.write(9, detail="Position 2 in the queue of node n2, waiting to boot")
        assert self.told[-2:] == [
            "Position 3 in the queue of node n2, waiting to boot",
            "Position 2 in the queue of node n2, waiting to boot",
        ]
        self.rows.write(9, **UP)
        self.result(waiting)

    def test_one_that_crashes_in_a_loop_is_refused_with_what_how_often_and_when(self) -> None:
        self.rows.write(9, failures=4, retry_in=17.5, last_error="The guest does not answer")
        error = self.failure(self.until_running(), Unavailable)
        assert error.text.startswith("The virtual machine has failed 4 times in a row")
        assert error.text.endswith("may be started again in 18 s. The last time: The guest does not answer")
        assert error.retry_after == 18

    def test_so_is_who_waited_for_the_start_that_made_it_a_loop(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING)
        failed = {"failures": 3, "retry_in": 10.0, "last_error": "It does not boot"}
        self.rows.write(9, state=VMState.STOPPED, desired=Desired.STOPPED, host_id=None, **failed)
        assert self.failure(waiting, Unavailable).retry_after == 10

    def test_an_order_that_came_before_the_loop_is_waited_for(self) -> None:
        waiting = self.until_running()
        self.rows.write(9, failures=3, retry_in=10.0, last_error="It does not boot")
        assert self.told[-1].startswith("The virtual machine has failed 3 times in a row")
        self.acknowledge(**{**UP, "retry_in": 0.0})
        self.result(waiting)

    def test_one_that_is_being_started_is_waited_for(self) -> None:
        self.rows.write(9, **{**UP, "state": VMState.STARTING, "guest": None})
        waiting = self.until_running()
        assert self.rows[9].generation == 0
        self.rows.write(9, **UP)
        self.result(waiting)

    def test_a_row_without_an_address_is_waited_for(self) -> None:
        self.rows.write(9, **{**UP, "guest": None})
        waiting = self.until_running()
        assert self.waits(waiting)
        self.rows.write(9, **UP)
        self.result(waiting)

    def test_without_a_bell_the_row_is_looked_at_all_the_same(self) -> None:
        self.rows.changed = lambda vm_id: None
        waiting = self.until_running()
        self.acknowledge(**UP)
        assert self.waits(waiting)
        self.clock.advance(LOOK)
        self.result(waiting)

    def test_a_bell_that_rings_during_the_look_is_not_missed(self) -> None:
        waiting = self.until_running()
        held = self.conduct.hold("get")
        self.rows.write(9, detail="Booting")  # wakes it up: it reads the row as it is now
        assert held.reached
        self.acknowledge(**UP)
        held.go_on()
        self.result(waiting)

    def test_nor_one_during_the_look_after_the_order(self) -> None:
        self.rows.write(9, **{**UP, "state": VMState.STARTING, "guest": None})
        first, second = self.conduct.hold("get"), self.conduct.hold("get")
        waiting = self.until_running()
        first.go_on()
        assert second.reached
        self.rows.write(9, **UP)
        second.go_on()
        self.result(waiting)

    def test_a_start_that_failed_says_why(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING)
        self.rows.write(9, state=VMState.STOPPED, host_id=None, last_error="The image is not there")
        assert self.failure(waiting, Unavailable).text == "The image is not there"

    def test_a_start_that_failed_without_a_reason(self) -> None:
        waiting = self.until_running()
        self.rows.write(9, state=VMState.STOPPED, host_id=None)
        assert self.failure(waiting, Unavailable).text == "Failed to start virtual machine 9"

    def test_a_start_whose_node_is_lost_goes_on_elsewhere(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING, detail="Booting")
        self.rows.lose_node(9)
        assert self.waits(waiting)
        assert self.conduct.count("order_start") == 2
        assert self.told[-2:] == [
            "The node n1, on which this desktop ran, does not answer any more; assigning VM 9 to another host",
            "Starting virtual machine",
        ]
        self.acknowledge(state=VMState.STARTING)
        self.rows.write(9, **UP)
        assert self.result(waiting) == guest_of(9)

    def test_so_does_an_order_that_the_lost_node_had_not_taken_up(self) -> None:
        waiting = self.until_running()
        self.rows.lose_node(9)
        assert self.waits(waiting)
        assert self.rows[9].host_id == HOST
        self.acknowledge(**UP)
        self.result(waiting)

    def test_when_another_node_has_taken_it_already_nothing_is_ordered(self) -> None:
        waiting = self.until_running()
        self.rows.changed = lambda vm_id: None
        self.rows.lose_node(9)
        self.result(self.vms.place_again(VM9, "lost"))
        self.clock.advance(LOOK)
        assert self.conduct.count("order_start") == 1
        self.acknowledge(**UP)
        self.clock.advance(LOOK)
        self.result(waiting)

    def test_when_no_other_node_takes_it_the_client_is_told_why(self) -> None:
        waiting = self.until_running()
        self.conduct.fail("order_start", Unavailable("No node can take this virtual machine: n1 is lost"))
        self.rows.lose_node(9)
        assert "n1 is lost" in self.failure(waiting, Unavailable).text

    def test_losses_do_not_prolong_the_time_it_may_take(self) -> None:
        waiting = self.until_running()
        for _ in range(61):
            self.acknowledge(state=VMState.STARTING)
            self.rows.lose_node(9)
            self.clock.advance(1)
        self.failure(waiting, DeadlineExceeded)

    def test_a_start_that_fails_on_the_other_node_says_why(self) -> None:
        waiting = self.until_running()
        self.rows.lose_node(9)
        self.acknowledge(state=VMState.STARTING)
        self.rows.write(9, state=VMState.STOPPED, host_id=None, last_error="The image is not there")
        assert self.failure(waiting, Unavailable).text == "The image is not there"

    def test_nobody_takes_it(self) -> None:
        self.conduct.fail("order_start", Unavailable("No node can take this virtual machine: n1 is stopped"))
        assert "n1 is stopped" in self.failure(self.until_running(), Unavailable).text

    def test_it_takes_too_long(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING, detail="Booting")
        self.clock.pump([1.0] * 62)
        error = self.failure(waiting, DeadlineExceeded)
        assert error.text == "VM did not reach state 'running' in 60 s (Booting)"

    def test_the_client_is_never_left_in_silence(self) -> None:
        waiting = self.until_running()
        self.acknowledge(state=VMState.STARTING, detail="Booting")
        told_at = [0.0]
        for _ in range(58):
            before = len(self.told)
            self.clock.advance(1)
            if len(self.told) > before:
                told_at.append(self.clock.seconds())
        gaps = [later - earlier for earlier, later in pairwise(told_at)]
        assert max(gaps) <= HEARTBEAT + LOOK
        assert len(self.told) < 20
        waiting.cancel()
        self.failure(waiting, CancelledError)

    def test_one_that_is_told_to_stop_is_ordered_to_start_again(self) -> None:
        self.rows.write(9, **{**UP, "desired": Desired.STOPPED, "state": VMState.STOPPING})
        waiting = self.until_running()
        assert self.rows[9].desired is Desired.RUNNING
        self.rows.write(9, state=VMState.STOPPED, guest=None)
        assert self.waits(waiting)
        self.acknowledge(**UP)
        self.result(waiting)

    def test_one_whose_stop_was_taken_up_is_not_taken_for_running(self) -> None:
        """Its row says "running" until the node has written the next state; the new order is not taken up yet."""
        self.rows.write(9, **{**UP, "desired": Desired.STOPPED, "generation": 1, "acked": 1})
        waiting = self.until_running()
        assert self.waits(waiting)
        self.rows.write(9, state=VMState.STOPPING)
        self.rows.write(9, state=VMState.STOPPED, guest=None)
        self.acknowledge(state=VMState.STARTING)
        self.rows.write(9, **UP)
        assert self.result(waiting) == guest_of(9)

    def test_an_unknown_vm(self) -> None:
        waiting = self.begin(self.desktops.until_running(VMId(77), "alice", self.told.append))
        self.failure(waiting, NotFound)

    def test_a_vm_that_is_deleted_meanwhile(self) -> None:
        waiting = self.until_running()
        del self.rows.table[VM9]
        self.clock.advance(LOOK)
        self.failure(waiting, NotFound)

    def test_a_client_that_goes_leaves_no_timer(self) -> None:
        waiting = self.until_running()
        waiting.cancel()
        self.failure(waiting, CancelledError)


class UntilStoppedTests(DesktopCase):
    def until_stopped(self) -> Deferred[None]:
        return self.begin(self.desktops.until_stopped(VM9, "alice", self.told.append))

    def test_one_that_is_stopped(self) -> None:
        self.result(self.until_stopped())
        assert self.conduct.count("order_stop") == 0
        assert self.told == []

    def test_one_that_runs(self) -> None:
        self.rows.write(9, **UP)
        waiting = self.until_stopped()
        assert self.conduct.of("order_stop") == [(9, "alice")]
        self.acknowledge(state=VMState.STOPPING, detail="Powering off")
        assert self.waits(waiting)
        self.rows.write(9, state=VMState.STOPPED, host_id=None, guest=None)
        self.result(waiting)
        assert self.told == ["Stopping virtual machine", "Running", "Powering off"]

    def test_a_bell_that_rings_during_the_look_after_the_order_is_not_missed(self) -> None:
        self.rows.write(9, **{**UP, "state": VMState.STOPPING, "desired": Desired.STOPPED})
        first, second = self.conduct.hold("get"), self.conduct.hold("get")
        waiting = self.until_stopped()
        first.go_on()
        assert second.reached
        self.rows.write(9, state=VMState.STOPPED, host_id=None, guest=None)
        second.go_on()
        self.result(waiting)

    def test_one_that_is_about_to_be_started(self) -> None:
        self.rows.order(9, Desired.RUNNING)
        waiting = self.until_stopped()
        assert self.rows[9].desired is Desired.STOPPED
        assert self.waits(waiting)
        self.acknowledge(host_id=None)
        self.result(waiting)

    def test_one_that_is_being_killed_is_waited_for(self) -> None:
        self.rows.write(9, **UP)
        waiting = self.until_stopped()
        self.acknowledge(state=VMState.ZOMBIE, phase=Step.KILL.value, detail="Killing")
        assert self.waits(waiting)
        self.rows.write(9, state=VMState.STOPPED, host_id=None, guest=None)
        self.result(waiting)

    def test_one_that_cannot_be_ended(self) -> None:
        self.rows.write(9, **UP)
        waiting = self.until_stopped()
        stuck = "Cannot be ended; trying again"
        self.acknowledge(state=VMState.ZOMBIE, phase=Step.STUCK.value, detail=stuck)
        error = self.failure(waiting, Unavailable)
        assert error.text == f"The requested virtual machine is in an unstoppable state (zombie): {stuck}"
        assert error.retry_after
        self.failure(self.until_stopped(), Unavailable)

    def test_it_takes_too_long(self) -> None:
        self.rows.write(9, **UP)
        waiting = self.until_stopped()
        self.clock.pump([1.0] * 47)
        assert self.failure(waiting, DeadlineExceeded).text.startswith("VM did not reach state 'stopped' in 45 s")


class UntilReleasedTests(DesktopCase):
    def until_released(self) -> Deferred[None]:
        return self.begin(self.desktops.until_released(VM9, OLDER, self.told.append))

    def test_one_that_has_ended(self) -> None:
        self.sessions.ended[OLDER] = "gone"
        self.result(self.until_released())
        assert self.told == []

    def test_the_bell_tells_of_the_end(self) -> None:
        waiting = self.until_released()
        assert self.told == ["Aborting contending session for VM_ID: 9"]
        self.sessions.ended[OLDER] = "taken"
        self.bells.ring(vm_changed(), "9")
        self.result(waiting)

    def test_a_bell_that_rings_during_the_look_is_not_missed(self) -> None:
        """Else a take-over lasts until the next look: more than a second."""
        held = self.conduct.hold("has_ended", after=True)
        waiting = self.until_released()
        self.sessions.ended[OLDER] = "taken"
        self.bells.ring(vm_changed(), "9")
        held.go_on()
        self.result(waiting)

    def test_after_the_limit_it_goes_on_all_the_same(self) -> None:
        waiting = self.until_released()
        self.clock.pump([1.0] * 9)
        assert self.waits(waiting)
        self.clock.pump([1.0] * 2)
        self.result(waiting)


class UntilReadyTests(DesktopCase):
    """A node that dies at any moment of a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.rows.write(9, **UP)

    def until_ready(self) -> Deferred[Guest]:
        return self.begin(self.desktops.until_ready(VM9, "alice", {"qvd.client.os": "linux"}, self.told.append))

    def start_elsewhere(self) -> Guest:
        """The other node takes the order up, and has the VM run."""
        guest = evolve(guest_of(9), x_port=4999)
        self.acknowledge(state=VMState.RUNNING, guest=guest, detail="Running")
        return guest

    def test_one_that_runs(self) -> None:
        assert self.result(self.until_ready()) == guest_of(9)
        assert self.conduct.names() == ["get", "properties", "x_start", "x_state"]

    def test_the_guest_is_told_of_the_properties_of_its_vm(self) -> None:
        self.vms.told = {"qvd.client.os": "windows", "cost_center": "7", "qvd.slave.key": "forged"}
        self.result(self.until_ready())
        assert self.guest.parameters == {"qvd.client.os": "windows", "cost_center": "7"}

    def test_those_are_read_when_it_runs(self) -> None:
        self.rows.write(9, state=VMState.STARTING)
        waiting = self.until_ready()
        assert self.conduct.count("properties") == 0
        self.rows.write(9, state=VMState.RUNNING)
        self.result(waiting)
        assert self.conduct.count("properties") == 1

    def test_there_may_be_more_than_an_agent_reads(self) -> None:
        self.vms.told = {f"k{number}": "x" * 10000 for number in range(4)}
        self.result(self.until_ready())
        assert set(self.guest.parameters) == {"qvd.client.os", "k0", "k1"}

    def test_a_guest_that_is_dead_is_not_waited_for(self) -> None:
        """Its node is declared lost while its agent is asked; the bell ends that at once."""
        held = self.conduct.hold("x_start")
        waiting = self.until_ready()
        self.rows.lose_node(9)
        assert held.cancelled
        assert self.conduct.of("order_start") == [(9, "alice")]
        assert self.told[-3:-1] == ["The node of VM 9 is lost", "Assigning VM 9 to host"]
        guest = self.start_elsewhere()
        assert self.result(waiting) == guest
        assert self.conduct.count("x_start") == 2

    def test_nor_without_a_bell(self) -> None:
        self.conduct.hold("x_start")
        waiting = self.until_ready()
        self.rows.changed = lambda vm_id: None
        self.rows.lose_node(9)
        self.clock.advance(LOOK)
        guest = self.start_elsewhere()
        self.clock.advance(LOOK)
        assert self.result(waiting) == guest

    def test_nor_one_that_somebody_else_has_started_elsewhere_by_now(self) -> None:
        held = self.conduct.hold("x_start")
        waiting = self.until_ready()
        guest = evolve(guest_of(9), x_port=4999)
        self.rows.write(9, guest=guest)
        assert held.cancelled
        assert self.result(waiting) == guest
        assert self.conduct.count("order_start") == 0

    def test_other_news_change_nothing(self) -> None:
        held = self.conduct.hold("x_start")
        waiting = self.until_ready()
        self.rows.write(9, detail="Running well")
        self.conduct.fail("get", DatabaseUnavailable("away"))
        self.rows.write(9, detail="Running better")
        assert self.waits(waiting)
        held.go_on()
        assert self.result(waiting) == guest_of(9)

    def test_only_what_is_left_of_the_time_is_spent_on_it(self) -> None:
        self.guest.states = ["starting"]
        waiting = self.until_ready()
        self.clock.pump([1.0] * 15)
        self.rows.lose_node(9)
        self.clock.pump([1.0] * 44)
        assert self.waits(waiting)
        self.clock.pump([1.0] * 3)
        self.failure(waiting, DeadlineExceeded)

    def test_a_failure_of_the_x_session_is_told(self) -> None:
        self.conduct.always_fail("x_start", GuestError("no such display"))
        waiting = self.until_ready()
        self.clock.pump([X_RETRY] * 140)
        assert "no such display" in self.failure(waiting, GuestError).text

    def test_a_client_that_goes_away(self) -> None:
        held = self.conduct.hold("x_start")
        waiting = self.until_ready()
        waiting.cancel()
        self.failure(waiting, CancelledError)
        assert held.cancelled
        assert self.conduct.count("order_start") == 0

    def test_a_vm_that_is_deleted(self) -> None:
        self.conduct.hold("x_start")
        waiting = self.until_ready()
        del self.rows.table[VM9]
        self.bells.ring(vm_changed(), "9")
        self.failure(waiting, NotFound)


class UntilListeningTests(DesktopCase):
    def until_listening(self) -> Deferred[None]:
        parameters = {"qvd.client.os": "linux"}
        return self.begin(self.desktops.until_listening(VM9, guest_of(9), parameters, self.told.append))

    def test_one_that_listens_at_once(self) -> None:
        self.result(self.until_listening())
        assert self.conduct.names() == ["x_start", "x_state"]
        assert self.guest.parameters == {"qvd.client.os": "linux"}
        assert self.told == ["Starting X session at VM 9", "Waiting for X session to come up on VM 9"]

    def test_one_that_takes_its_time(self) -> None:
        self.guest.states = ["provisioning", "starting", "listening"]
        waiting = self.until_listening()
        self.clock.pump([X_POLL] * 2)
        self.result(waiting)
        assert self.told[2:] == ["Preparing your account", "Waiting for X session to come up"]

    def test_a_refusal_is_tried_again(self) -> None:
        self.conduct.fail("x_start", GuestError("busy"), GuestError("busy"))
        waiting = self.until_listening()
        self.clock.pump([X_RETRY] * 2)
        self.result(waiting)
        assert self.conduct.count("x_start") == 3

    def test_a_refusal_for_good_is_told(self) -> None:
        self.conduct.always_fail("x_start", GuestError("invalid characters in parameter link\n"))
        waiting = self.until_listening()
        self.clock.pump([X_RETRY] * 140)
        error = self.failure(waiting, GuestError)
        assert error.text == "Unable to start X session on VM 9: invalid characters in parameter link"

    def test_the_client_is_never_left_in_silence(self) -> None:
        self.conduct.always_fail("x_start", GuestError("busy"))
        waiting = self.until_listening()
        told = [len(self.told)]
        for _ in range(3):
            self.clock.pump([0.25] * 24)  # 6 seconds
            told.append(len(self.told))
        waiting.cancel()
        self.failure(waiting, CancelledError)
        assert sorted(set(told)) == told

    def test_an_x_session_that_ends_while_it_comes_up_is_started_again(self) -> None:
        self.guest.states = ["starting", "stopped", "listening"]
        waiting = self.until_listening()
        self.clock.pump([X_POLL, X_RETRY])
        self.result(waiting)
        assert self.conduct.names() == ["x_start", "x_state", "x_state", "x_start", "x_state"]

    def test_one_that_never_listens(self) -> None:
        self.guest.states = ["starting"]
        waiting = self.until_listening()
        self.clock.pump([1.0] * 19)
        assert self.waits(waiting)
        self.clock.advance(1.0)
        assert self.failure(waiting, DeadlineExceeded).text == (
            "Unable to start X session on VM 9: it did not listen within 20 s, it is in state starting"
        )

    def test_the_preparation_of_an_account_has_a_time_of_its_own(self) -> None:
        """It leaves the X session all of its time, before and after."""
        self.guest.states = ["starting"]
        waiting = self.until_listening()
        self.clock.pump([1.0] * 9)
        self.guest.states = ["provisioning"]
        self.clock.pump([1.0] * 99)
        assert self.waits(waiting)
        self.guest.states = ["starting"]
        self.clock.pump([1.0] * 10)
        assert self.waits(waiting)
        self.guest.states = ["listening"]
        self.clock.advance(1.0)
        self.result(waiting)
        assert self.conduct.count("x_start") == 1
        assert self.told.count("Preparing your account") in range(15, 25)

    def test_an_account_that_is_never_ready(self) -> None:
        self.guest.states = ["provisioning"]
        waiting = self.until_listening()
        self.clock.pump([1.0] * 99)
        assert self.waits(waiting)
        self.clock.advance(1.0)
        assert self.failure(waiting, DeadlineExceeded).text == (
            "Unable to start X session on VM 9: the account was not prepared within 100 s, it is in state provisioning"
        )

    def test_an_account_that_cannot_be_prepared_is_not_tried_for_ever(self) -> None:
        self.guest.states = ["provisioning"]
        waiting = self.until_listening()
        self.clock.pump([1.0] * 40)
        self.guest.states = ["stopped"]
        self.clock.pump([1.0] * 2)
        assert self.failure(waiting, GuestError).text == (
            "Unable to start X session on VM 9: it ended while it came up, it is in state stopped"
        )

    def test_an_agent_that_dies_while_it_prepares_the_account(self) -> None:
        """It gets no more time than any that does not answer."""
        self.guest.states = ["provisioning"]
        waiting = self.until_listening()
        self.clock.pump([1.0] * 50)
        self.conduct.always_fail("x_state", GuestError("no answer"))
        self.clock.pump([1.0] * 22)
        assert self.failure(waiting, DeadlineExceeded).text.endswith("it is in state unknown: no answer")

    def test_the_time_for_an_account_covers_what_the_agent_allows_itself(self) -> None:
        by_hooks = 5 * hooks.DEADLINE  # pre-connect, mount_home, add_user, after_add_user, connect
        by_itself = 4 * hooks.DEADLINE + 2 * provisioning.DEADLINE  # groupadd and useradd instead of add_user
        defaults = {key.name: key.default for key in NODE_KEYS}
        assert max(by_hooks, by_itself) < defaults["l7r.timeout.provisioning"] == PROVISIONING_SECONDS

    def test_an_answer_that_does_not_come_is_waited_for(self) -> None:
        self.conduct.fail("x_state", GuestError("no answer"), GuestError("no answer"))
        self.guest.states = ["starting", "listening"]
        waiting = self.until_listening()
        self.clock.pump([X_RETRY, X_RETRY, X_POLL])
        self.result(waiting)
        assert self.conduct.count("x_start") == 1

    def test_an_agent_that_dies_meanwhile(self) -> None:
        self.conduct.always_fail("x_state", GuestError("The desktop's agent does not answer"))
        waiting = self.until_listening()
        told = [len(self.told)]
        for _ in range(3):
            self.clock.pump([0.25] * 24)  # 6 seconds
            told.append(len(self.told))
        assert sorted(set(told)) == told, "the client was left in silence"
        self.clock.pump([0.25] * 12)
        assert "does not answer" in self.failure(waiting, DeadlineExceeded).text

    def test_a_client_that_goes_leaves_no_timer(self) -> None:
        self.guest.states = ["starting"]
        waiting = self.until_listening()
        waiting.cancel()
        self.failure(waiting, CancelledError)


class TickerTests(Case):
    def test_each_new_text_and_the_last_one_again_after_a_while(self) -> None:
        clock = Clock()
        told: list[str] = []
        ticker = Ticker(clock, told.append)
        for text in ("a", "a", "b", "b"):
            ticker.tell(text)
        assert told == ["a", "b"]
        clock.advance(HEARTBEAT)
        ticker.tell("b")
        ticker.tell("b")
        assert told == ["a", "b", "b"]


class DatabaseTests(DesktopCase):
    def test_a_database_that_goes_away_ends_the_wait(self) -> None:
        waiting = self.begin(self.desktops.until_running(VM9, "alice", self.told.append))
        self.conduct.fail("get", DatabaseUnavailable("away"))
        self.clock.advance(LOOK)
        self.failure(waiting, DatabaseUnavailable)

    def test_times_are_the_ones_given(self) -> None:
        quick = evolve(self.desktops, times=evolve(TIMES, start=4.0))
        waiting = self.begin(quick.until_running(VM9, "alice", self.told.append))
        self.clock.pump([1.0] * 5)
        self.failure(waiting, DeadlineExceeded)
