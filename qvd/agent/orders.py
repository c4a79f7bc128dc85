# -*- test-case-name: tests.unit.test_agent_orders -*-
"""
What the node may order of the X session.

A new client that takes over comes as C{x_start}, whatever the session does at that moment; the node tries again when
it is refused. So each refusal says a state that passes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.agent.detached import detach, shielded
from qvd.agent.hooks import Hooks
from qvd.agent.provisioning import IProvisioner
from qvd.agent.sessionfiles import SessionFiles
from qvd.agent.xserver import XServer
from qvd.model.errors import InvalidRequest, QVDError, Unavailable
from qvd.model.xsession import Step, XEvent, XState
from qvd.protocols.adapters.rpc import Method

LET_GO = 0.6
"""Seconds for nxagent to notice that its client has gone: 0.3 to 0.5 were seen."""
SUSPEND = 1.5
STOP = 2.0
PREPARE = 1.5
"""Longer preparations go on after the answer, and the state tells of them. All four are together less than the node's
own patience with a call."""
TAKEN = "Can't connect to X session in state connected, suspending it, retry later\n"
BUSY = "Unable to start/resume X session in state {}, try again in a few minutes\n"

Parameters = Mapping[str, str]


class Orders:
    """The calls about the X session, one at a time.

    C{x_start} in a session that is starting or listening changes nothing and answers C{starting}: who connects first
    has it, and the node lets only its newest client go that far. The keyboard and geometry are then those of the
    client that it was started for.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, x_server: XServer, files: SessionFiles, provisioner: IProvisioner, hooks: Hooks
    ) -> None:
        self._clock = clock
        self._x_server = x_server
        self._files = files
        self._provisioner = provisioner
        self._hooks = hooks
        self._lock = DeferredLock()
        self._turn = 0
        self._owner: int | None = None

    def methods(self) -> Mapping[str, Method]:
        return {
            "ping": self.ping,
            "x_state": self.x_state,
            "x_start": self.x_start,
            "x_suspend": self.x_suspend,
            "x_stop": self.x_stop,
            "expire": self.expire,
        }

    async def ping(self, parameters: Parameters) -> None:
        """We are there."""

    async def x_state(self, parameters: Parameters) -> str:
        return self._x_server.state.value

    async def x_start(self, parameters: Parameters) -> str:
        """Start or resume it, throwing out whoever has it.

        @raise QVDError: not now, or not at all; a sentence for the user.
        """
        self._files.check(parameters)
        await self._lock.acquire()
        try:
            match await self._settle():
                case XState.STOPPED | XState.SUSPENDED:
                    await self._begin(parameters)
                case XState.PROVISIONING | XState.STARTING | XState.LISTENING:
                    pass
                case state:
                    raise Unavailable(BUSY.format(state.value))
        finally:
            self._lock.release()
        return XState.STARTING.value

    async def x_suspend(self, parameters: Parameters) -> str:
        """Throw the client out. The original answers C{starting} to that."""
        return await shielded(self._end("suspend", XEvent.PUSH, (XState.CONNECTED,), XState.STARTING), self.log)

    async def x_stop(self, parameters: Parameters) -> str:
        """End the session and its programs."""
        running = tuple(set(XState) - {XState.STOPPED, XState.STOPPING})
        return await shielded(self._end("stop", XEvent.STOP, running, XState.STOPPING), self.log)

    async def expire(self, parameters: Parameters) -> int | None:
        """The VM will soon be too old: the hook tells its user."""
        return 1 if await shielded(self._hooks.act("expire", parameters), self.log) else None

    async def _end(self, hook: str, order: XEvent, during: tuple[XState, ...], answer: XState) -> str:
        await self._lock.acquire()
        try:
            if self._x_server.state not in during:
                return self._x_server.state.value
            await self._hooks.act(hook, {})
            # Whatever is being prepared is not wanted any more.
            self._turn += 1
            self._x_server.tell(order)
            return answer.value
        finally:
            self._lock.release()

    async def _settle(self) -> XState:
        """Wait a little for a state that can be gone on from.

        @raise Unavailable: a client holds on; it was ordered out.
        """
        x_server = self._x_server
        if await x_server.wait_while({XState.CONNECTED}, LET_GO) is XState.CONNECTED:
            x_server.tell(XEvent.PUSH)
            raise Unavailable(TAKEN)
        await x_server.wait_while({XState.SUSPENDING}, SUSPEND)
        return await x_server.wait_while({XState.STOPPING}, STOP)

    async def _begin(self, parameters: Parameters) -> None:
        """Start the preparations, and wait a little for what becomes of them.

        @raise QVDError: they have failed already.
        """
        self._turn += 1
        self._x_server.tell(XEvent.START)
        outcome: Deferred[QVDError | None] = Deferred()
        detach(self._prepare(self._turn, parameters, outcome.callback), self.log)
        outcome.addTimeout(PREPARE, self._clock)
        try:
            error = await outcome
        except TimeoutError:
            return
        if error is not None:
            raise error

    async def _prepare(self, turn: int, parameters: Parameters, done: Callable[[QVDError | None], None]) -> None:
        error: QVDError | None = Unavailable("Internal error of the agent; its log has the details")
        try:
            await self._bring_up(turn, parameters)
            error = None
        except QVDError as raised:
            error = raised
        except OSError as raised:
            error = Unavailable(f"The session's files cannot be written: {raised.strerror}")
        finally:
            if error is not None and turn == self._turn:
                self.log.warn("the X session was not started: {error}", error=error.text)
                self._x_server.tell(XEvent.FAILED)
            done(error)

    async def _bring_up(self, turn: int, parameters: Parameters) -> None:
        waking = self._x_server.step is Step.WAKING
        await self._hooks.act("pre_connect", parameters)
        account = await self._provisioner.provision(parameters)
        if waking and account.uid != self._owner:
            raise InvalidRequest(f"The X session belongs to another account than {account.login}")
        await self._hooks.act("connect", parameters)
        if turn != self._turn:
            raise Unavailable("The X session was stopped meanwhile")
        if waking:
            self._files.write_options(account, parameters)
            self._x_server.wake()
        else:
            self._owner = account.uid
            self._x_server.launch(self._files.write(account, parameters))
