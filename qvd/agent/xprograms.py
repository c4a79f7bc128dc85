# -*- test-case-name: tests.unit.test_agent_xprograms -*-
"""
nxagent and the session program as processes.

They are started apart, not through xinit: so the pid that gets the toggling signal is known rather than read from a
log, the session cannot write lines that pass for nxagent's, and each exit is seen when it happens. Neither is ever
process 1, where nxagent's watchdog aborts.
"""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from qvd.agent.family import Process, family, process_table, signal_all, still_there
from qvd.agent.logfile import BoundedLog
from qvd.agent.processes import Command, IAgentReactor, LingeringProtocol, spawn
from qvd.agent.xserver import IXPrograms, Launch, Tell
from qvd.model.xsession import XEvent
from qvd.protocols.nxlog import LineReader, NXKind, parse_line

LEFTOVER_SECONDS = 2.0
"""From TERM to KILL, for what a session program leaves behind."""
HEEDS_SECONDS = 0.1
"""nxagent says that it is suspended a moment before it heeds the signal to resume: one sent at once was lost."""
GONE_SECONDS = 0.01
GONE_LOOKS = 100
EVENTS = {
    NXKind.WAITING: XEvent.WAITING,
    NXKind.ACCEPTED: XEvent.ACCEPTED,
    NXKind.STARTED: XEvent.STARTED,
    NXKind.RESUMED: XEvent.STARTED,
    NXKind.SUSPENDING: XEvent.SUSPENDING,
    NXKind.SUSPENDED: XEvent.SUSPENDED,
    NXKind.RESUMING: XEvent.RESUMING,
    NXKind.TERMINATING: XEvent.ENDING,
    NXKind.TERMINATED: XEvent.ENDING,
    NXKind.ABORTING: XEvent.ENDING,
    NXKind.ABORTED: XEvent.ENDING,
}


class Child(LingeringProtocol):
    """One of the two.

    @ivar leader: its process id, which is also its process session's; it stays when the process has gone.
    @ivar alive: its end has not been told.
    """

    def __init__(self, programs: XPrograms, name: str) -> None:
        super().__init__(programs.reactor)
        self.name = name
        self.leader = 0
        self.alive = False
        self._programs = programs

    def connectionMade(self) -> None:
        self.leader = self.transport.pid
        self.alive = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._programs.output.write(data)

    def send_signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            # Its exit is about to be told.
            pass

    def exited(self, how: str) -> None:
        self._programs.exited(self, how)


class NXAgent(Child):
    """Reads what it says of itself, on each of its two outputs."""

    def __init__(self, programs: XPrograms) -> None:
        super().__init__(programs, "nxagent")
        self._readers = {1: LineReader(), 2: LineReader()}
        self._heeds: IDelayedCall | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        super().childDataReceived(childFD, data)
        for line in self._readers[childFD].feed(data):
            event = parse_line(line)
            if event is not None and event.kind in EVENTS:
                self._hear(EVENTS[event.kind])

    def _hear(self, event: XEvent) -> None:
        """Tell it, at once but for a suspension, which is over if anything else is heard meanwhile."""
        if self._heeds is not None and self._heeds.active():
            self._heeds.cancel()
        if event is XEvent.SUSPENDED:
            self._heeds = self._programs.reactor.callLater(HEEDS_SECONDS, self._tell, event)
        else:
            self._tell(event)

    def _tell(self, event: XEvent) -> None:
        if self.alive:
            self._programs.tell(event)


@implementer(IXPrograms)
class XPrograms:
    """The processes of one X session after the other.

    @ivar output: gets what both print.
    @param temporary: where X servers keep locks and sockets.
    """

    log = Logger()

    def __init__(
        self, reactor: IAgentReactor, display: int, output: BoundedLog, tell: Tell, temporary: Path = Path("/tmp")
    ) -> None:
        self.reactor = reactor
        self.output = output
        self.tell = tell
        self._leftovers = (temporary / f".X{display}-lock", temporary / ".X11-unix" / f"X{display}")
        self._agent: NXAgent | None = None
        self._session: Child | None = None

    def launch(self, launch: Launch) -> None:
        self.clean()
        agent = NXAgent(self)
        command = self._command(launch, launch.x_server, dict(launch.x_environment))
        spawn(self.reactor, agent, command)
        self._agent, self._session = agent, None

    def run_session(self, launch: Launch) -> None:
        if self._session is not None:
            return
        session = Child(self, "session program")
        command = self._command(launch, launch.program, dict(launch.environment))
        spawn(self.reactor, session, command)
        self._session = session

    def hang_up(self) -> None:
        if self._agent is not None:
            self._agent.send_signal("HUP")

    def terminate(self) -> None:
        self._signal("TERM", signal.SIGTERM)

    def kill(self) -> None:
        self._signal("KILL", signal.SIGKILL)

    def clean(self) -> None:
        for path in self._leftovers:
            try:
                path.unlink()
            except OSError:
                # Mostly not there; nxagent says what keeps it from starting.
                continue

    def exited(self, child: Child, how: str) -> None:
        """One of them has ended."""
        self.log.info("{name} ended: {how}", name=child.name, how=how)
        members = family(process_table(), child.leader)
        if child is self._agent:
            # nxagent has a child that holds its sockets: its successor could not have them.
            self._tell_when_gone(child, signal_all(members, signal.SIGKILL), GONE_LOOKS)
        else:
            self._end_leftovers(members)
            self._tell_exit(child)

    def _tell_when_gone(self, child: Child, members: list[Process], looks: int) -> None:
        members = still_there(members)
        if members and looks:
            self.reactor.callLater(GONE_SECONDS, self._tell_when_gone, child, members, looks - 1)
        else:
            self._tell_exit(child)

    def _tell_exit(self, child: Child) -> None:
        child.alive = False
        other = self._session if child is self._agent else self._agent
        self.tell(XEvent.PART_EXITED if other is not None and other.alive else XEvent.EXITED)

    def _command(self, launch: Launch, argv: tuple[str, ...], environment: dict[str, str]) -> Command:
        uid, gid = launch.account.ids
        home = launch.account.home if Path(launch.account.home).is_dir() else "/"
        return Command(argv, environment, home, uid, gid)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if self._agent is not None and self._agent.alive:
            self._agent.send_signal(name)
        session = self._session
        if session is not None and session.alive:
            # Before the leader is gone, and its descendants belong to somebody else.
            members = family(process_table(), session.leader)
            session.send_signal(name)
            self._end_leftovers([member for member in members if member.pid != session.leader], number)

    def _end_leftovers(self, members: list[Process], number: signal.Signals = signal.SIGTERM) -> None:
        alive = signal_all(members, number)
        if alive and number is not signal.SIGKILL:
            self.reactor.callLater(LEFTOVER_SECONDS, signal_all, alive, signal.SIGKILL)
