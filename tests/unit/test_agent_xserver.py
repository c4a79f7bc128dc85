"""What the X session's table says is done, in time, and told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from twisted.internet.defer import CancelledError, Deferred

from qvd.agent.xserver import ANSWER_SECONDS, KILL_SECONDS, SETTLE_SECONDS, XTimes
from qvd.model.errors import Unavailable
from qvd.model.xsession import Step, XEvent, XState
from tests.fakes.agent import ASLEEP, LAUNCH, TIMES, UP, Desk, settings
from tests.fakes.case import Case

NO_LIMIT = {Step.STOPPED, Step.PREPARING, Step.CONNECTED, Step.SUSPENDED, Step.WAKING}


class XServerCase(Case):
    def setUp(self) -> None:
        self.desk = Desk()
        self.clock = self.desk.clock
        self.x_server = self.desk.x_server
        self.programs = self.desk.programs

    def done(self) -> list[str]:
        """What the programs were told since the last time."""
        told = list(self.programs.done)
        self.programs.done.clear()
        return told

    def timers(self) -> list[float]:
        """In how many seconds something will happen by itself."""
        return [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]


class EffectTests(XServerCase):
    def test_from_start_to_the_first_client(self) -> None:
        self.desk.go(*UP)
        assert self.done() == ["launch", "run session"]
        assert self.programs.launches == [LAUNCH]
        assert self.desk.states == [XState.PROVISIONING, XState.STARTING, XState.LISTENING, XState.CONNECTED]
        assert self.x_server.step is Step.CONNECTED

    def test_a_client_is_pushed_out_and_another_one_let_in(self) -> None:
        self.desk.go(*UP)
        self.done()
        self.desk.go(XEvent.PUSH, XEvent.SUSPENDING, XEvent.SUSPENDED, XEvent.TIMED_OUT)
        assert self.done() == ["hang up"]
        assert self.desk.state() is XState.SUSPENDED
        self.desk.go(XEvent.START)
        assert self.done() == []
        self.x_server.wake()
        assert self.done() == ["hang up"]
        self.desk.go(XEvent.RESUMING, XEvent.WAITING, XEvent.ACCEPTED, XEvent.STARTED)
        assert self.desk.state() is XState.CONNECTED
        # The programs know that it runs already.
        assert self.done() == ["run session"]

    def test_the_end(self) -> None:
        self.desk.go(*UP)
        self.done()
        self.desk.go(XEvent.STOP)
        assert self.done() == ["terminate"]
        self.desk.go(XEvent.KILL)
        assert self.done() == ["kill"]
        self.desk.go(XEvent.EXITED)
        assert self.done() == ["clean"]
        assert self.desk.states[-2:] == [XState.STOPPING, XState.STOPPED]

    def test_what_does_not_move_it_does_nothing(self) -> None:
        self.desk.go(*UP)
        self.done()
        told = len(self.desk.states)
        self.desk.go(XEvent.START, XEvent.FAILED, XEvent.ACCEPTED, XEvent.TIMED_OUT)
        assert self.done() == []
        assert len(self.desk.states) == told

    def test_one_that_cannot_be_launched_is_stopped(self) -> None:
        self.programs.fails = Unavailable("no such program")
        self.desk.go(XEvent.START, XEvent.READY)
        assert self.done() == ["launch", "clean"]
        # Nobody hears that it starts after hearing that it has stopped.
        assert self.desk.states == [XState.PROVISIONING, XState.STOPPED]
        assert self.timers() == []

    def test_one_whose_session_program_cannot_be_started_is_ended(self) -> None:
        self.desk.go(*UP[:-1])
        self.done()
        self.programs.fails = Unavailable("no such program")
        self.desk.go(UP[-1])
        assert self.done() == ["run session", "terminate"]
        assert self.desk.state() is XState.STOPPING
        self.programs.fails = None
        self.desk.go(XEvent.EXITED)
        assert self.timers() == []

    def test_a_second_session_is_launched_as_it_says_itself(self) -> None:
        self.desk.go(*UP, XEvent.EXITED, *UP)
        assert self.programs.done.count("launch") == 2
        assert self.desk.state() is XState.CONNECTED


class TimeTests(XServerCase):
    def test_the_settings_are_followed(self) -> None:
        values = {f"internal.nxagent.timeout.{name}": 2.5 for name in ("initiating", "stopping")}
        assert XTimes.of(settings(values)) == XTimes(2.5, 65, 20, 2.5)

    def test_every_step_has_its_limit(self) -> None:
        limits = {step: TIMES.limit(step) for step in Step}
        assert {step for step, limit in limits.items() if limit is None} == NO_LIMIT
        assert all(limit is None or limit > 0 for limit in limits.values())
        assert limits[Step.LAUNCHING] == limits[Step.OPENING] == TIMES.initiating
        assert limits[Step.WAITING] == limits[Step.NEGOTIATING] == TIMES.listening
        assert limits[Step.SUSPENDING] == limits[Step.PUSHING_AGAIN] == TIMES.suspending
        assert limits[Step.TERMINATING] == limits[Step.ENDING] == TIMES.stopping
        assert limits[Step.PUSHING] == limits[Step.RESUMING] == ANSWER_SECONDS

    def test_leaving_a_step_ends_its_time(self) -> None:
        for before, event in pairwise((None, *ASLEEP)):
            assert event is not None
            self.desk.go(event)
            limit = TIMES.limit(self.x_server.step)
            assert self.timers() == ([] if limit is None else [limit]), (before, event)

    def test_an_nxagent_that_never_listens_is_ended_then_killed_then_killed_again(self) -> None:
        self.desk.go(XEvent.START, XEvent.READY)
        self.done()
        self.clock.advance(TIMES.initiating)
        assert self.done() == ["terminate"]
        self.clock.advance(TIMES.stopping)
        assert self.done() == ["kill"]
        self.clock.advance(KILL_SECONDS)
        assert self.done() == ["kill"]
        self.desk.go(XEvent.EXITED)
        assert self.timers() == []

    def test_a_client_that_never_comes_ends_it(self) -> None:
        self.desk.go(*UP[:3])
        self.clock.advance(TIMES.listening)
        assert self.desk.state() is XState.STOPPING

    def test_a_hang_up_that_was_not_heard_is_sent_once_more(self) -> None:
        self.desk.go(*UP, XEvent.PUSH)
        self.done()
        self.clock.advance(ANSWER_SECONDS)
        assert self.done() == ["hang up"]
        assert self.desk.state() is XState.SUSPENDING
        self.clock.advance(TIMES.suspending)
        assert self.done() == ["terminate"]

    def test_a_suspended_one_is_left_to_settle(self) -> None:
        self.desk.go(*UP, XEvent.SUSPENDING, XEvent.SUSPENDED)
        assert self.desk.state() is XState.SUSPENDING
        self.clock.advance(SETTLE_SECONDS)
        assert self.desk.state() is XState.SUSPENDED
        assert self.timers() == []


class WaitTests(XServerCase):
    def wait(self, states: Collection[XState], seconds: float = 10) -> Deferred[XState]:
        return self.begin(self.x_server.wait_while(states, seconds))

    def tearDown(self) -> None:
        assert self.timers() == []

    def test_in_another_state_there_is_nothing_to_wait_for(self) -> None:
        assert self.result(self.wait({XState.CONNECTED})) is XState.STOPPED

    def test_without_time_there_is_no_waiting(self) -> None:
        assert self.result(self.wait({XState.STOPPED}, 0)) is XState.STOPPED

    def test_a_change_ends_it(self) -> None:
        waiting = self.wait({XState.STOPPED})
        assert self.waits(waiting)
        self.desk.go(XEvent.START)
        assert self.result(waiting) is XState.PROVISIONING

    def test_a_change_within_the_states_does_not(self) -> None:
        waiting = self.wait({XState.STOPPED, XState.PROVISIONING})
        self.desk.go(XEvent.START)
        assert self.waits(waiting)
        self.desk.go(XEvent.STOP)
        assert self.waits(waiting)
        self.clock.advance(10)
        assert self.result(waiting) is XState.STOPPED

    def test_changes_do_not_prolong_it(self) -> None:
        waiting = self.wait({XState.STOPPED, XState.PROVISIONING})
        for _ in range(9):
            self.clock.advance(1)
            self.desk.go(XEvent.START, XEvent.FAILED)
        assert self.waits(waiting)
        self.clock.advance(1)
        assert self.result(waiting) is XState.STOPPED

    def test_many_wait_at_once(self) -> None:
        waiting = [self.wait({XState.STOPPED}, seconds) for seconds in (1, 2, 3)]
        self.clock.advance(1)
        assert [self.waits(one) for one in waiting] == [False, True, True]
        self.desk.go(XEvent.START)
        assert [self.result(one) for one in waiting] == [XState.STOPPED, XState.PROVISIONING, XState.PROVISIONING]

    def test_one_that_gives_up_is_forgotten(self) -> None:
        waiting, other = self.wait({XState.STOPPED}), self.wait({XState.STOPPED})
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.desk.go(XEvent.START)
        assert self.result(other) is XState.PROVISIONING

    def test_observers_hear_of_a_change_before_who_waits(self) -> None:
        heard: list[str] = []

        async def wait() -> None:
            await self.x_server.wait_while({XState.STOPPED}, 10)
            heard.append("waiter")
            self.x_server.tell(XEvent.STOP)

        self.x_server.observe(lambda state: heard.append(state.value))
        waiting = self.begin(wait())
        self.desk.go(XEvent.START)
        self.result(waiting)
        assert heard == ["provisioning", "waiter", "stopped"]

    def test_a_failed_launch_is_seen_by_who_waits(self) -> None:
        self.programs.fails = Unavailable("no such program")
        self.desk.go(XEvent.START)
        waiting = self.wait({XState.PROVISIONING, XState.STARTING})
        self.desk.go(XEvent.READY)
        assert self.result(waiting) is XState.STOPPED


class EndTests(XServerCase):
    def tearDown(self) -> None:
        assert self.timers() == []

    def test_a_stopped_one_is_at_its_end(self) -> None:
        self.result(self.x_server.end(5))
        assert self.done() == []

    def test_it_is_asked_first(self) -> None:
        self.desk.go(*UP)
        self.done()
        ending = self.begin(self.x_server.end(5))
        assert self.done() == ["terminate"]
        assert self.waits(ending)
        self.desk.go(XEvent.PART_EXITED, XEvent.EXITED)
        self.result(ending)
        assert self.done() == ["clean"]

    def test_one_that_does_not_listen_is_killed(self) -> None:
        self.desk.go(*ASLEEP)
        ending = self.begin(self.x_server.end(5))
        self.done()
        self.clock.advance(5)
        assert self.done() == ["kill"]
        assert self.waits(ending)
        self.desk.go(XEvent.EXITED)
        self.result(ending)

    def test_one_that_cannot_be_killed_is_left(self) -> None:
        self.desk.go(*UP)
        ending = self.begin(self.x_server.end(5))
        self.clock.advance(5)
        self.clock.advance(KILL_SECONDS)
        self.result(ending)
        assert self.desk.state() is XState.STOPPING

    def test_in_preparation_there_is_nothing_to_end(self) -> None:
        self.desk.go(XEvent.START)
        self.result(self.x_server.end(5))
        assert self.done() == ["clean"]
        assert self.desk.state() is XState.STOPPED
