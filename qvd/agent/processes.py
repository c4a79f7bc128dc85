# -*- test-case-name: tests.unit.test_agent_processes -*-
"""Programs that do one thing and end: hooks, C{useradd}. Each has a deadline."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from qvd.agent.logfile import BoundedLog
from qvd.model.errors import DeadlineExceeded, Unavailable

SETSID = "/usr/bin/setsid"
TAIL = 400
LINGER = 1.0
"""Seconds that the output of a program which has ended is still read: its children may hold the pipe for ever."""


class IAgentReactor(IReactorProcess, IReactorTime):
    """What the agent needs of a reactor, but for the network."""


class IProcessRunner(Interface):
    """Runs programs as the agent's own user."""

    async def run(argv: Sequence[str], seconds: float) -> None:
        """Run a program to its end; what it prints goes to the log.

        @raise Unavailable: it is not there or fails; the text has the last line that it printed.
        @raise DeadlineExceeded: it did not end in time, and was killed.
        """

    async def execute(command: Command, seconds: float) -> None:
        """The same, with an environment and an account of its own."""


@frozen
class Command:
    """A program and its arguments, without secrets: they show in process lists."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    cwd: str | None = None
    uid: int | None = None
    gid: int | None = None


def spawn(reactor: IReactorProcess, protocol: ProcessProtocol, command: Command) -> IProcessTransport:
    """Start a program in a session of its own, without input, with both its outputs in pipes.

    @raise Unavailable: there is no such program.
    """
    program = command.argv[0]
    if not os.access(program, os.X_OK) or os.path.isdir(program):
        raise Unavailable(f"{program} does not exist, or is no program")
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return reactor.spawnProcess(
            protocol,
            SETSID,
            ("setsid", *command.argv),
            env=command.environment,
            path=command.cwd,
            uid=command.uid,
            gid=command.gid,
            childFDs={0: nothing, 1: "r", 2: "r"},
        )
    except OSError as error:
        raise Unavailable(f"{program}: {error.strerror}") from None
    finally:
        os.close(nothing)


class LingeringProtocol(ProcessProtocol):
    """A process whose exit counts when it happens, not when its last child lets go of its pipes."""

    transport: IProcessTransport

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._linger: IDelayedCall | None = None

    def processExited(self, reason: Failure) -> None:
        self._linger = self._clock.callLater(LINGER, self._let_go)
        self.exited(str(reason.value))

    def processEnded(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()

    def _let_go(self) -> None:
        self.transport.loseConnection()

    def exited(self, how: str) -> None:
        """Overridden: the process is gone; C{how} says how, for people."""


class _OneProgram(LingeringProtocol):
    """Waits for the end of a program.

    @ivar done: fires with L{None}, or with what it said last when it failed.
    """

    def __init__(self, clock: IReactorTime, log: BoundedLog) -> None:
        super().__init__(clock)
        self.done: Deferred[str | None] = Deferred(lambda _: self.kill())
        self._log = log
        self._tail = b""
        self._failed: str | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._log.write(data)
        self._tail = (self._tail + data)[-TAIL:]

    def processExited(self, reason: Failure) -> None:
        self._failed = None if getattr(reason.value, "exitCode", None) == 0 else str(reason.value)
        super().processExited(reason)

    def processEnded(self, reason: Failure) -> None:
        super().processEnded(reason)
        if not self.done.called:
            lines = self._tail.decode("utf-8", "replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), self._failed)
            self.done.callback(said if self._failed else None)

    def kill(self) -> None:
        """End it and those that it started, as far as they have stayed with it."""
        pid = self.transport.pid
        try:
            if pid:
                os.killpg(pid, 9)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass


@implementer(IProcessRunner)
class ProcessRunner:
    """Runs programs by the reactor.

    @param environment: all that they find.
    """

    log = Logger()

    def __init__(self, reactor: IAgentReactor, output: BoundedLog, environment: dict[str, str]) -> None:
        self._reactor = reactor
        self._output = output
        self._environment = environment
        self._running: set[_OneProgram] = set()

    async def run(self, argv: Sequence[str], seconds: float) -> None:
        await self.execute(Command(tuple(argv), self._environment), seconds)

    async def execute(self, command: Command, seconds: float) -> None:
        argv = command.argv
        protocol = _OneProgram(self._reactor, self._output)
        spawn(self._reactor, protocol, command)
        self._running.add(protocol)
        protocol.done.addTimeout(seconds, self._reactor)
        try:
            said = await protocol.done
        except TimeoutError:
            raise DeadlineExceeded(f"{argv[0]} did not end within {seconds:g} s") from None
        finally:
            self._running.discard(protocol)
        if said is not None:
            self.log.warn("{program} failed: {said}", program=argv[0], said=said)
            raise Unavailable(f"{argv[0]} failed: {said}")

    def close(self) -> None:
        """Kill all that still run."""
        for protocol in list(self._running):
            protocol.kill()
