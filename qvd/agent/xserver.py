# -*- test-case-name: tests.unit.test_agent_xserver -*-
"""
Carries the X session through its table: events in, effects out, a timer for each step that must end.

What runs is L{IXPrograms}'s; what is wanted, L{qvd.agent.orders}'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import Interface

from qvd.agent.account import Account
from qvd.model.errors import QVDError
from qvd.model.settings import Settings
from qvd.model.xsession import EFFECT, REPORTED, Effect, Step, XEvent, XState, advance

SETTLE_SECONDS = 0.1
ANSWER_SECONDS = 1.0
"""For nxagent to answer a hang-up: in a millisecond, as a rule."""
KILL_SECONDS = 5.0
"""After so long a signal that cannot be refused is sent again."""

Tell = Callable[[XEvent], None]


@frozen
class Launch:
    """What is to be run.

    @ivar x_server: nxagent with its arguments.
    @ivar program: the session program with its own, started once the first client has come.
    """

    account: Account
    x_server: tuple[str, ...]
    x_environment: Mapping[str, str]
    program: tuple[str, ...]
    environment: Mapping[str, str]


class IXPrograms(Interface):
    """nxagent and the session program. Whoever makes it gives it a L{Tell}, which it calls for what it sees."""

    def launch(launch: Launch) -> None:
        """Start nxagent.

        @raise Unavailable: it cannot be started.
        """

    def run_session(launch: Launch) -> None:
        """Start the session program, if it has not run yet.

        @raise Unavailable: it cannot be started.
        """

    def hang_up() -> None:
        """Toggle nxagent between connected and suspended."""

    def terminate() -> None:
        """Ask both to end."""

    def kill() -> None:
        """End both."""

    def clean() -> None:
        """Remove what nxagent leaves when it is killed."""


@frozen
class XTimes:
    """Seconds that a step may take."""

    initiating: float
    listening: float
    suspending: float
    stopping: float

    @classmethod
    def of(cls, settings: Settings) -> XTimes:
        names = ("initiating", "listening", "suspending", "stopping")
        return cls(*(settings.seconds(f"internal.nxagent.timeout.{name}") for name in names))

    def limit(self, step: Step) -> float | None:
        """L{None}: it may take for ever, or (the preparations) what it waits for has deadlines of its own."""
        match step:
            case Step.STOPPED | Step.PREPARING | Step.CONNECTED | Step.SUSPENDED | Step.WAKING:
                return None
            case Step.LAUNCHING | Step.RESUMING_AGAIN | Step.OPENING:
                return self.initiating
            case Step.WAITING | Step.NEGOTIATING:
                return self.listening
            case Step.PUSHING_AGAIN | Step.SUSPENDING:
                return self.suspending
            case Step.SETTLING:
                return SETTLE_SECONDS
            case Step.PUSHING | Step.RESUMING:
                return ANSWER_SECONDS
            case Step.ENDING | Step.TERMINATING:
                return self.stopping
            case Step.KILLING:
                return KILL_SECONDS
            case _:
                assert_never(step)


class XServer:
    """The one X session of a guest.

    @ivar step: where it is.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, times: XTimes, connect: Callable[[Tell], IXPrograms]) -> None:
        """
        @param connect: makes the programs, which tell us what they see.
        """
        self.step = Step.STOPPED
        self._clock = clock
        self._times = times
        self._programs = connect(self.tell)
        self._launch: Launch | None = None
        self._timer: IDelayedCall | None = None
        self._waiters: list[Deferred[None]] = []
        self._observers: list[Callable[[XState], None]] = []

    @property
    def state(self) -> XState:
        return REPORTED[self.step]

    @property
    def connected(self) -> Launch | None:
        """What runs, while a client has it on a screen; L{None} otherwise."""
        return self._launch if self.state is XState.CONNECTED else None

    def observe(self, observer: Callable[[XState], None]) -> None:
        """Call C{observer} after each change of L{state}."""
        self._observers.append(observer)

    def launch(self, launch: Launch) -> None:
        """The preparation of a start is done."""
        self._launch = launch
        self.tell(XEvent.READY)

    def wake(self) -> None:
        """The preparation of a resume is done."""
        self.tell(XEvent.READY)

    def tell(self, event: XEvent) -> None:
        """Something has happened, or is ordered."""
        step = advance(self.step, event)
        if step is None:
            return
        before, self.step = self.step, step
        self.log.info("X session: {old} to {new} ({event})", old=before.value, new=step.value, event=event.value)
        self._set_timer(self._times.limit(step))
        self._act(EFFECT[step])
        # The effect may have led further already; who waits is told of where we are now.
        if self.step is step:
            self._announce(REPORTED[before])

    async def wait_while(self, states: Collection[XState], seconds: float) -> XState:
        """Return as soon as the state is none of C{states}, at the latest after C{seconds}."""
        ends = self._clock.seconds() + seconds
        while self.state in states and self._clock.seconds() < ends:
            await self._change(ends - self._clock.seconds())
        return self.state

    async def end(self, seconds: float) -> None:
        """Ask it to end; after C{seconds} end it. Returns when it is over, or cannot be ended."""
        self.tell(XEvent.STOP)
        if await self.wait_while(set(XState) - {XState.STOPPED}, seconds) is not XState.STOPPED:
            self.tell(XEvent.KILL)
            await self.wait_while(set(XState) - {XState.STOPPED}, KILL_SECONDS)
        self._set_timer(None)

    def _act(self, effect: Effect | None) -> None:
        match effect:
            case None:
                pass
            case Effect.LAUNCH:
                assert self._launch is not None
                self._attempt(self._programs.launch, self._launch, XEvent.FAILED)
            case Effect.HANG_UP:
                self._programs.hang_up()
            case Effect.RUN_SESSION:
                assert self._launch is not None
                self._attempt(self._programs.run_session, self._launch, XEvent.STOP)
            case Effect.TERMINATE:
                self._programs.terminate()
            case Effect.KILL:
                self._programs.kill()
            case Effect.CLEAN:
                self._programs.clean()
            case _:
                assert_never(effect)

    def _attempt(self, start: Callable[[Launch], None], launch: Launch, otherwise: XEvent) -> None:
        try:
            start(launch)
        except QVDError as error:
            self.log.error("X session: {error}", error=error.text)
            self.tell(otherwise)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._clock.callLater(seconds, self.tell, XEvent.TIMED_OUT)

    def _announce(self, before: XState) -> None:
        """Observers first: who waits may order the next change at once."""
        if self.state is not before:
            for observer in list(self._observers):
                observer(self.state)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    async def _change(self, seconds: float) -> None:
        """Return at the next change, or after C{seconds}."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)

        def wake() -> None:
            if not waiter.called:
                waiter.callback(None)

        timer = self._clock.callLater(seconds, wake)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
