"""What the node orders of the X session, whatever the session does at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.defer import CancelledError, Deferred

from qvd.agent.folders import Folders
from qvd.agent.orders import BUSY, LET_GO, PREPARE, STOP, SUSPEND, TAKEN, Orders
from qvd.agent.sessionfiles import SessionFiles
from qvd.model.errors import InvalidRequest, Unavailable
from qvd.model.xsession import Step, XEvent, XState
from tests.fakes.agent import ALICE, ASLEEP, BOB, MARKER, UP, Desk, FakeProvisioner, program, settings
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

ACTIONS = ("pre-connect", "connect", "suspend", "stop", "expire")
HOOKS: Mapping[str, object] = {f"vma.on_action.{name}": f"/hook/{name}" for name in ACTIONS}


class OrdersCase(Case):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_folder = Path(folder.name)
        names = {"command.nxagent": "nxagent", "command.x-session": "Xsession"}
        programs = {key: program(self.run_folder, name) for key, name in names.items()}
        self.desk = Desk()
        self.clock = self.desk.clock
        self.runner = FakeRunner()
        self.provisioner = FakeProvisioner()
        files = SessionFiles(settings(programs), MARKER, Folders(self.run_folder, None))
        hooks = self.desk.hooks(self.runner, HOOKS)
        self.orders = Orders(self.clock, self.desk.x_server, files, self.provisioner, hooks)

    def start(self, **parameters: str) -> Deferred[str]:
        return self.begin(self.orders.x_start({f"qvd.client.{name}": value for name, value in parameters.items()}))

    def hooks(self) -> list[str]:
        """The hooks that were run since the last time."""
        names = [argv[0].removeprefix("/hook/") for argv in self.runner.ran]
        self.runner.ran.clear()
        return names

    def be(self, *events: XEvent) -> None:
        """Start it by an order, and let the rest of C{events} happen."""
        self.result(self.start())
        self.desk.go(*events[2:])
        self.hooks()
        self.desk.programs.done.clear()

    def options(self) -> str:
        return (self.run_folder / "nxagent.conf").read_text()


class StartTests(OrdersCase):
    def test_a_stopped_one_is_started(self) -> None:
        assert self.result(self.start(link="lan")) == "starting"
        assert self.desk.programs.done == ["launch"]
        assert self.hooks() == ["pre-connect", "connect"]
        assert self.provisioner.asked == [{"qvd.client.link": "lan"}]
        (launch,) = self.desk.programs.launches
        assert launch.account == ALICE
        assert "link=lan" in self.options()

    def test_a_suspended_one_is_resumed_with_the_new_clients_options(self) -> None:
        self.be(*ASLEEP)
        cookie = (self.run_folder / "Xauthority").read_bytes()
        assert self.result(self.start(link="lan")) == "starting"
        assert self.desk.programs.done == ["hang up"]
        assert self.hooks() == ["pre-connect", "connect"]
        assert "link=lan" in self.options()
        assert (self.run_folder / "Xauthority").read_bytes() == cookie

    def test_one_that_comes_up_anyway_is_left_so(self) -> None:
        self.be(*UP[:2])
        for state in (XState.STARTING, XState.LISTENING):
            assert self.desk.state() is state
            assert self.result(self.start(link="lan")) == "starting"
            assert self.desk.state() is state
            self.desk.go(XEvent.WAITING)
        assert self.hooks() == []
        assert "link=lan" not in self.options()

    def test_what_cannot_work_changes_nothing(self) -> None:
        self.be(*UP)
        self.failure(self.start(link="a,b"), InvalidRequest)
        assert self.desk.state() is XState.CONNECTED
        assert self.clock.getDelayedCalls() == []

    def test_one_with_a_client_throws_it_out_and_refuses(self) -> None:
        self.be(*UP)
        starting = self.start()
        self.clock.advance(LET_GO)
        assert self.failure(starting, Unavailable).text == TAKEN
        assert self.desk.programs.done == ["hang up"]
        assert self.desk.state() is XState.SUSPENDING

    def test_a_client_that_leaves_by_itself_is_not_thrown_out(self) -> None:
        self.be(*UP)
        starting = self.start()
        self.desk.go(XEvent.SUSPENDING, XEvent.SUSPENDED)
        assert self.waits(starting)
        self.clock.advance(LET_GO)
        assert self.result(starting) == "starting"
        assert self.desk.programs.done == ["hang up"]
        assert self.desk.x_server.step is Step.RESUMING

    def test_one_that_ends_is_started_anew(self) -> None:
        self.be(*UP, XEvent.STOP)
        starting = self.start()
        assert self.waits(starting)
        self.desk.go(XEvent.EXITED)
        assert self.result(starting) == "starting"
        assert self.desk.programs.done == ["clean", "launch"]

    def test_states_that_do_not_pass_in_time_are_named(self) -> None:
        self.be(*UP, XEvent.SUSPENDING)
        starting = self.start()
        self.clock.advance(SUSPEND)
        assert self.failure(starting, Unavailable).text == BUSY.format("suspending")
        self.desk.go(XEvent.STOP)
        starting = self.start()
        self.clock.advance(STOP)
        assert self.failure(starting, Unavailable).text == BUSY.format("stopping")
        assert self.hooks() == []

    def test_one_after_the_other(self) -> None:
        self.be(*UP)
        first, second = self.start(), self.start()
        self.clock.advance(LET_GO)
        self.failure(first, Unavailable)
        assert self.waits(second)
        self.desk.go(XEvent.SUSPENDING, XEvent.SUSPENDED)
        self.clock.advance(SUSPEND)
        assert self.result(second) == "starting"

    def test_a_caller_who_leaves_lets_the_next_one_in(self) -> None:
        self.be(*UP, XEvent.STOP)
        first, second = self.start(), self.start()
        first.cancel()
        self.failure(first, CancelledError)
        self.desk.go(XEvent.EXITED)
        assert self.result(second) == "starting"


class PreparationTests(OrdersCase):
    def test_a_long_one_goes_on_after_the_answer(self) -> None:
        self.runner.slow = {"/hook/pre-connect"}
        starting = self.start()
        assert self.waits(starting)
        self.clock.advance(PREPARE)
        assert self.result(starting) == "starting"
        assert self.desk.state() is XState.PROVISIONING
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.STARTING

    def test_it_goes_on_without_its_caller_too(self) -> None:
        self.runner.slow = {"/hook/pre-connect"}
        starting = self.start()
        starting.cancel()
        self.failure(starting, CancelledError)
        self.runner.waiting[0].callback(None)
        assert self.desk.programs.done == ["launch"]

    def test_a_failure_is_told_and_leaves_it_stopped(self) -> None:
        for name in ("pre-connect", "connect"):
            self.runner.failing = {f"/hook/{name}"}
            assert f"/hook/{name} failed" in self.failure(self.start(), Unavailable).text
            assert self.desk.state() is XState.STOPPED
        self.runner.failing = set()
        self.provisioner.error = InvalidRequest("no such account")
        self.failure(self.start(), InvalidRequest)
        assert "launch" not in self.desk.programs.done

    def test_a_failure_leaves_a_suspended_one_suspended(self) -> None:
        self.be(*ASLEEP)
        self.runner.failing = {"/hook/pre-connect"}
        self.failure(self.start(), Unavailable)
        assert self.desk.state() is XState.SUSPENDED
        assert self.desk.programs.done == []

    def test_a_late_failure_shows_in_the_state(self) -> None:
        self.runner.slow = self.runner.failing = {"/hook/pre-connect"}
        starting = self.start()
        self.clock.advance(PREPARE)
        self.result(starting)
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.STOPPED

    def test_files_that_cannot_be_written_are_told(self) -> None:
        (self.run_folder / "nxagent.conf").mkdir()
        assert "cannot be written: Is a directory" in self.failure(self.start(), Unavailable).text
        assert self.desk.state() is XState.STOPPED

    def test_an_error_of_ours_is_logged_and_not_told(self) -> None:
        self.provisioner.error = ZeroDivisionError("canary")
        assert "canary" not in self.failure(self.start(), Unavailable).text
        assert self.logged(ZeroDivisionError) == 1
        assert self.desk.state() is XState.STOPPED

    def test_one_that_was_stopped_meanwhile_prepares_nothing(self) -> None:
        self.runner.slow = {"/hook/pre-connect"}
        starting = self.start()
        self.clock.advance(PREPARE)
        self.result(starting)
        assert self.result(self.orders.x_stop({})) == "stopping"
        assert self.desk.state() is XState.STOPPED
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.STOPPED
        assert not (self.run_folder / "nxagent.conf").exists()

    def test_one_that_was_ended_meanwhile_launches_nothing_for_the_next_one(self) -> None:
        self.runner.slow = {"/hook/pre-connect"}
        first = self.start()
        self.clock.advance(PREPARE)
        self.result(first)
        self.desk.go(XEvent.STOP)
        second = self.start()
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.PROVISIONING
        assert self.desk.programs.launches == []
        self.runner.waiting[1].callback(None)
        self.result(second)
        assert len(self.desk.programs.launches) == 1

    def test_a_session_is_resumed_by_its_own_account_only(self) -> None:
        self.be(*ASLEEP)
        self.provisioner.account = BOB
        assert "another account than bob" in self.failure(self.start(), InvalidRequest).text
        assert self.desk.state() is XState.SUSPENDED
        self.provisioner.account = ALICE
        assert self.result(self.start()) == "starting"

    def test_a_start_that_was_given_up_does_not_make_its_account_the_owner(self) -> None:
        self.runner.slow = {"/hook/connect"}
        first = self.start()
        self.clock.advance(PREPARE)
        self.result(first)
        self.result(self.orders.x_stop({}))
        self.runner.slow = set()
        self.provisioner.account = BOB
        self.result(self.start())
        self.runner.waiting[0].callback(None)
        self.desk.go(*ASLEEP[2:])
        self.provisioner.account = ALICE
        self.failure(self.start(), InvalidRequest)
        self.provisioner.account = BOB
        assert self.result(self.start()) == "starting"

    def test_a_connect_hook_that_fails_resumes_nothing(self) -> None:
        self.be(*ASLEEP)
        self.runner.failing = {"/hook/connect"}
        self.failure(self.start(), Unavailable)
        assert self.desk.state() is XState.SUSPENDED
        assert self.desk.programs.done == []


class EndTests(OrdersCase):
    def test_a_client_is_thrown_out(self) -> None:
        self.be(*UP)
        assert self.result(self.orders.x_suspend({})) == "starting"
        assert self.hooks() == ["suspend"]
        assert self.desk.programs.done == ["hang up"]

    def test_where_there_is_none_only_the_state_is_told(self) -> None:
        assert self.result(self.orders.x_suspend({})) == "stopped"
        self.be(*ASLEEP)
        assert self.result(self.orders.x_suspend({})) == "suspended"
        assert self.hooks() == []
        assert self.desk.programs.done == []

    def test_a_session_is_ended(self) -> None:
        for events in (UP, ASLEEP, UP[:3]):
            self.setUp()
            self.be(*events)
            assert self.result(self.orders.x_stop({})) == "stopping"
            assert self.hooks() == ["stop"]
            assert self.desk.programs.done == ["terminate"]
            assert self.result(self.orders.x_stop({})) == "stopping"
            assert self.hooks() == []

    def test_one_that_does_not_run_is_not_ended(self) -> None:
        assert self.result(self.orders.x_stop({})) == "stopped"
        assert self.hooks() == []

    def test_a_hook_that_fails_prevents_it(self) -> None:
        self.be(*UP)
        self.runner.failing = {"/hook/suspend", "/hook/stop"}
        for order in (self.orders.x_suspend, self.orders.x_stop):
            self.failure(order({}), Unavailable)
        assert self.desk.state() is XState.CONNECTED
        self.runner.failing = set()
        self.result(self.orders.x_stop({}))

    def test_it_goes_on_without_its_caller(self) -> None:
        self.be(*UP)
        self.runner.slow = {"/hook/stop"}
        stopping = self.begin(self.orders.x_stop({}))
        stopping.cancel()
        self.failure(stopping, CancelledError)
        assert self.desk.state() is XState.CONNECTED
        self.runner.waiting[0].callback(None)
        assert self.desk.state() is XState.STOPPING

    def test_a_start_waits_for_it(self) -> None:
        self.be(*UP)
        self.runner.slow = {"/hook/stop"}
        stopping = self.begin(self.orders.x_stop({}))
        starting = self.start()
        self.runner.waiting[0].callback(None)
        self.result(stopping)
        assert self.waits(starting)
        self.desk.go(XEvent.EXITED)
        assert self.result(starting) == "starting"


class OtherTests(OrdersCase):
    def test_what_the_node_may_call(self) -> None:
        assert set(self.orders.methods()) == {"ping", "x_state", "x_start", "x_suspend", "x_stop", "expire"}
        self.result(self.begin(self.orders.ping({})))

    def test_the_state_is_told_whatever_is_going_on(self) -> None:
        self.runner.slow = {"/hook/pre-connect"}
        starting = self.start()
        assert self.result(self.orders.x_state({})) == "provisioning"
        self.runner.waiting[0].callback(None)
        self.result(starting)

    def test_expiry_is_the_hooks(self) -> None:
        assert self.result(self.orders.expire({"a": "b"})) == 1
        assert self.hooks() == ["expire"]

    def test_expiry_without_a_hook(self) -> None:
        hooks = self.desk.hooks(self.runner)
        files = SessionFiles(settings(), MARKER, Folders(self.run_folder, None))
        orders = Orders(self.clock, self.desk.x_server, files, self.provisioner, hooks)
        assert self.result(orders.expire({})) is None
