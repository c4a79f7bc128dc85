"""What the guest agent runs, without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.agent.processes import Command, IAgentReactor, IProcessRunner
from qvd.agent.xserver import IXPrograms, Launch
from qvd.model.errors import QVDError, Unavailable

FIRST_PID = 2**30
"""Far above any real process: a signal that goes astray finds nobody."""


class FakeTransport:
    """A process that does what the test says."""

    def __init__(self, pid: int) -> None:
        self.pid: int | None = pid
        self.signals: list[str] = []
        self.closed = False

    def signalProcess(self, name: str) -> None:
        if self.pid is None:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def loseConnection(self) -> None:
        self.closed = True


@define
class Spawned:
    """One start of a program.

    @ivar argv: without the program that gives it a session of its own.
    """

    protocol: ProcessProtocol
    transport: FakeTransport
    argv: tuple[str, ...]
    options: dict[str, Any]

    def say(self, text: str, fd: int = 2) -> None:
        self.protocol.childDataReceived(fd, text.encode())

    def exit(self, code: int = 0, signal: int | None = None, *, pipes: bool = True) -> None:
        """It ends; with C{pipes} nobody else has its output open."""
        self.transport.pid = None
        done = how_it_ended(code, signal)
        self.protocol.processExited(done)
        if pipes:
            self.protocol.processEnded(done)


def how_it_ended(code: int, signal: int | None) -> Failure:
    """As the reactor tells of it."""
    done: Any = ProcessDone
    terminated: Any = ProcessTerminated
    failure: Any = Failure
    made: Failure = failure(done(0) if code == 0 and signal is None else terminated(None if signal else code, signal))
    return made


class ProcessClock(Clock):
    """A clock that also starts processes."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Spawned] = []

    @property
    def reactor(self) -> IAgentReactor:
        """The same, for the type checker."""
        itself: Any = self
        typed: IAgentReactor = itself
        return typed

    def spawnProcess(self, protocol: Any, program: str, args: Sequence[str], **options: Any) -> FakeTransport:
        transport = FakeTransport(FIRST_PID + len(self.spawned))
        assert args[0] == "setsid", args
        self.spawned.append(Spawned(protocol, transport, tuple(args[1:]), options))
        protocol.makeConnection(transport)
        return transport


@implementer(IXPrograms)
class FakeXPrograms:
    """Notes what it is told to do.

    @ivar fails: what starting raises.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.launches: list[Launch] = []
        self.fails: QVDError | None = None

    def launch(self, launch: Launch) -> None:
        self._do("launch")
        self.launches.append(launch)

    def run_session(self, launch: Launch) -> None:
        self._do("run session")

    def hang_up(self) -> None:
        self.done.append("hang up")

    def terminate(self) -> None:
        self.done.append("terminate")

    def kill(self) -> None:
        self.done.append("kill")

    def clean(self) -> None:
        self.done.append("clean")

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.fails is not None:
            raise self.fails


def nothing(argv: Sequence[str]) -> None:
    """What most programs do here."""


@implementer(IProcessRunner)
@define
class FakeRunner:
    """Notes the programs that it is to run.

    @ivar failing: those that fail.
    @ivar slow: those that end only when the test fires L{waiting}.
    """

    ran: list[list[str]] = field(factory=list)
    failing: set[str] = field(factory=set)
    slow: set[str] = field(factory=set)
    waiting: list[Deferred[None]] = field(factory=list)
    effect: Callable[[Sequence[str]], None] = nothing

    async def execute(self, command: Command, seconds: float) -> None:
        await self.run(command.argv, seconds)

    async def run(self, argv: Sequence[str], seconds: float) -> None:
        self.ran.append(list(argv))
        if argv[0] in self.slow:
            waiter: Deferred[None] = Deferred()
            self.waiting.append(waiter)
            await waiter
        if argv[0] in self.failing:
            raise Unavailable(f"{argv[0]} failed: as told")
        self.effect(argv)

    def close(self) -> None:
        self.ran.append(["closed"])
