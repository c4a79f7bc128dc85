"""nxagent and the session program: what they say, how they are signaled, and what they leave behind."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
from zope.interface.verify import verifyObject

from qvd.agent import xprograms
from qvd.agent.account import Account
from qvd.agent.family import Process
from qvd.agent.logfile import BoundedLog
from qvd.agent.processes import LINGER
from qvd.agent.xprograms import GONE_LOOKS, GONE_SECONDS, HEEDS_SECONDS, LEFTOVER_SECONDS, XPrograms
from qvd.agent.xserver import IXPrograms
from qvd.model.errors import Unavailable
from qvd.model.xsession import XEvent
from tests.fakes.agent import LAUNCH
from tests.fakes.case import Case
from tests.fakes.nx import FIRST_PID, ProcessClock, Spawned

SAYS = {
    "Info: Waiting for connection from 'x' on port '1'.": XEvent.WAITING,
    "Info: Accepted connection from '127.0.0.1'.": XEvent.ACCEPTED,
    "Session: Session started at 'now'.": XEvent.STARTED,
    "Session: Suspending session at 'now'.": XEvent.SUSPENDING,
    "Session: Resuming session at 'now'.": XEvent.RESUMING,
    "Session: Session resumed at 'now'.": XEvent.STARTED,
    "Session: Terminating session at 'now'.": XEvent.ENDING,
    "Session: Session terminated at 'now'.": XEvent.ENDING,
    "Session: Aborting session at 'now'.": XEvent.ENDING,
    "Session: Session aborted at 'now'.": XEvent.ENDING,
}
SUSPENDED = "Session: Session suspended at 'now'.\n"
RESUMING = "Session: Resuming session at 'now'.\n"
SILENT = ("Session: Starting session at 'now'.", "Info: Agent running with pid '7'.", "nonsense", "")


class Table:
    """A process table of the test's own, and the signals sent to what is in it.

    @ivar stubborn: pids that no signal ends.
    """

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.sent: list[tuple[int, str]] = []
        self.stubborn: set[int] = set()

    def add(self, pid: int, parent: int, session: int) -> None:
        self.processes[pid] = Process(pid, dead=False, parent=parent, session=session, started=pid)

    def process_table(self) -> dict[int, Process]:
        return dict(self.processes)

    def still_there(self, processes: Iterable[Process]) -> list[Process]:
        return [process for process in processes if process.pid in self.processes]

    def signal_all(self, processes: Iterable[Process], number: signal.Signals) -> list[Process]:
        found = self.still_there(processes)
        self.sent += [(process.pid, number.name) for process in found]
        for process in found:
            if number is signal.SIGKILL and process.pid not in self.stubborn:
                del self.processes[process.pid]
        return found


class ProgramsCase(Case):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.table = Table()
        for name in ("process_table", "still_there", "signal_all"):
            self.addCleanup(setattr, xprograms, name, getattr(xprograms, name))
            setattr(xprograms, name, getattr(self.table, name))
        self.reactor = ProcessClock()
        self.told: list[XEvent] = []
        output = BoundedLog(self.folder / "log")
        self.programs = XPrograms(self.reactor.reactor, 55001, output, self.told.append, self.folder)

    def launch(self) -> Spawned:
        self.programs.launch(LAUNCH)
        nxagent = self.reactor.spawned[-1]
        self.table.add(self.pid(nxagent), 1, self.pid(nxagent))
        return nxagent

    def run_session(self) -> Spawned:
        self.programs.run_session(LAUNCH)
        session = self.reactor.spawned[-1]
        self.table.add(self.pid(session), 1, self.pid(session))
        return session

    def both(self) -> tuple[Spawned, Spawned]:
        return self.launch(), self.run_session()

    def pid(self, program: Spawned) -> int:
        return FIRST_PID + self.reactor.spawned.index(program)

    def exit(self, program: Spawned) -> None:
        """It ends; what it has started does not."""
        self.table.processes.pop(self.pid(program), None)
        program.exit()

    def log(self) -> str:
        return (self.folder / "log").read_text()


class StartTests(ProgramsCase):
    def test_port(self) -> None:
        verifyObject(IXPrograms, self.programs)

    def test_each_with_its_own_line_and_environment(self) -> None:
        nxagent, session = self.both()
        assert (nxagent.argv, nxagent.options["env"]) == (LAUNCH.x_server, LAUNCH.x_environment)
        assert (session.argv, session.options["env"]) == (LAUNCH.program, LAUNCH.environment)

    def test_as_the_sessions_account_at_its_home(self) -> None:
        home = str(self.folder)
        for account, wanted in (
            (Account("alice", 1001, 1002, home, "/bin/sh", True), (1001, 1002, home)),
            (Account("alice", 1001, 1002, home, "/bin/sh", False), (None, None, home)),
            (Account("alice", 1001, 1002, f"{home}/missing", "/bin/sh", True), (1001, 1002, "/")),
        ):
            launch = attrs.evolve(LAUNCH, account=account)
            self.programs.launch(launch)
            self.programs.run_session(launch)
            for program in self.reactor.spawned[-2:]:
                assert tuple(program.options[name] for name in ("uid", "gid", "path")) == wanted

    def test_the_session_program_runs_once_for_each_nxagent(self) -> None:
        nxagent, session = self.both()
        self.programs.run_session(LAUNCH)
        self.exit(session)
        self.programs.run_session(LAUNCH)
        assert self.reactor.spawned == [nxagent, session]
        self.exit(nxagent)
        self.both()
        assert len(self.reactor.spawned) == 4

    def test_one_that_is_not_there(self) -> None:
        missing = attrs.evolve(LAUNCH, x_server=("/no/such/nxagent",), program=("/no/such/session",))
        with pytest.raises(Unavailable, match="/no/such/nxagent"):
            self.programs.launch(missing)
        self.launch()
        with pytest.raises(Unavailable, match="/no/such/session"):
            self.programs.run_session(missing)
        self.run_session()
        assert self.told == []

    def test_what_a_killed_one_left_is_removed_first(self) -> None:
        socket = self.folder / ".X11-unix" / "X55001"
        socket.parent.mkdir()
        lock, other = self.folder / ".X55001-lock", self.folder / ".X55002-lock"
        for clean in (self.programs.clean, self.launch):
            for path in (socket, lock, other):
                path.touch()
            clean()
            assert [path.exists() for path in (socket, lock, other)] == [False, False, True]

    def test_where_nothing_is_left_there_is_nothing_to_remove(self) -> None:
        self.programs.clean()
        assert list(self.folder.iterdir()) == []


class SayingTests(ProgramsCase):
    def test_what_nxagent_says_is_told(self) -> None:
        for line, event in SAYS.items():
            for fd in (1, 2):
                self.told.clear()
                self.launch().say(f"{line}\n", fd)
                assert self.told == [event], line

    def test_much_of_it_moves_nothing(self) -> None:
        self.launch().say("\n".join([*SILENT, ""]))
        assert self.told == []

    def test_a_line_may_come_in_pieces(self) -> None:
        nxagent = self.launch()
        for character in "Info: Waiting for connection \n":
            assert self.told == []
            nxagent.say(character)
        assert self.told == [XEvent.WAITING]

    def test_its_two_outputs_are_not_mixed(self) -> None:
        nxagent = self.launch()
        nxagent.say("Info: Waiting for ", 1)
        nxagent.say("no event\n", 2)
        nxagent.say("connection \n", 1)
        assert self.told == [XEvent.WAITING]

    def test_the_session_program_cannot_pass_for_it(self) -> None:
        _, session = self.both()
        session.say("Session: Session terminated at 'now'.\n", 1)
        session.say(SUSPENDED, 2)
        self.reactor.advance(HEEDS_SECONDS)
        assert self.told == []

    def test_all_is_kept(self) -> None:
        nxagent, session = self.both()
        nxagent.say("one\n", 1)
        session.say("two\n", 2)
        assert self.log() == "one\ntwo\n"

    def test_that_it_is_suspended_is_told_when_it_heeds_signals(self) -> None:
        self.launch().say(SUSPENDED)
        self.reactor.advance(HEEDS_SECONDS / 2)
        assert self.told == []
        self.reactor.advance(HEEDS_SECONDS / 2)
        assert self.told == [XEvent.SUSPENDED]

    def test_that_it_was_suspended_is_not_told_once_it_resumes(self) -> None:
        for pieces in ([SUSPENDED, RESUMING], [SUSPENDED + RESUMING]):
            self.told.clear()
            nxagent = self.launch()
            for piece in pieces:
                nxagent.say(piece)
            self.reactor.advance(HEEDS_SECONDS)
            assert self.told == [XEvent.RESUMING]

    def test_nor_after_its_end(self) -> None:
        nxagent = self.launch()
        nxagent.say(SUSPENDED)
        self.exit(nxagent)
        self.reactor.advance(HEEDS_SECONDS)
        assert self.told == [XEvent.EXITED]

    def test_nor_is_anything_said_by_one_that_has_gone(self) -> None:
        nxagent = self.launch()
        nxagent.exit(pipes=False)
        self.reactor.advance(LINGER)
        nxagent.say(RESUMING)
        assert self.told == [XEvent.EXITED]


class SignalTests(ProgramsCase):
    def test_without_programs_nobody_is_signaled(self) -> None:
        for order in (self.programs.hang_up, self.programs.terminate, self.programs.kill):
            order()
        assert self.table.sent == []

    def test_only_nxagent_is_hung_up(self) -> None:
        nxagent, session = self.both()
        self.programs.hang_up()
        assert (nxagent.transport.signals, session.transport.signals, self.table.sent) == (["HUP"], [], [])

    def test_both_are_ended_with_all_that_the_session_has_started(self) -> None:
        for order, name in ((self.programs.terminate, "TERM"), (self.programs.kill, "KILL")):
            self.table.sent.clear()
            nxagent, session = self.both()
            self.table.add(11, self.pid(session), self.pid(session))
            self.table.add(12, 11, 12)
            self.table.add(20, 1, 20)
            order()
            assert (nxagent.transport.signals, session.transport.signals) == ([name], [name])
            assert sorted(self.table.sent) == [(11, f"SIG{name}"), (12, f"SIG{name}")]

    def test_what_is_asked_to_end_and_does_not_is_killed(self) -> None:
        _, session = self.both()
        self.table.add(11, self.pid(session), 11)
        self.programs.terminate()
        self.reactor.advance(LEFTOVER_SECONDS)
        assert self.table.sent == [(11, "SIGTERM"), (11, "SIGKILL")]

    def test_what_was_killed_is_not_killed_again(self) -> None:
        _, session = self.both()
        self.table.add(11, self.pid(session), 11)
        self.table.stubborn = {11}
        self.programs.kill()
        self.reactor.advance(LEFTOVER_SECONDS)
        assert self.table.sent == [(11, "SIGKILL")]

    def test_those_that_have_ended_are_left_alone(self) -> None:
        nxagent, session = self.both()
        self.exit(session)
        # Somebody else's, whose leader has got the same number.
        self.table.add(11, 1, self.pid(session))
        self.programs.terminate()
        assert (nxagent.transport.signals, session.transport.signals) == (["TERM"], [])
        self.exit(nxagent)
        self.programs.kill()
        self.programs.hang_up()
        assert nxagent.transport.signals == ["TERM"]
        assert self.table.sent == []


class ExitTests(ProgramsCase):
    def test_nxagent_alone(self) -> None:
        self.exit(self.launch())
        assert self.told == [XEvent.EXITED]

    def test_one_then_the_other(self) -> None:
        for first in (0, 1):
            self.told.clear()
            both = self.both()
            self.exit(both[first])
            assert self.told == [XEvent.PART_EXITED]
            self.exit(both[1 - first])
            assert self.told == [XEvent.PART_EXITED, XEvent.EXITED]

    def test_the_holder_of_nxagents_sockets_is_killed_and_waited_for(self) -> None:
        nxagent = self.launch()
        self.table.add(11, self.pid(nxagent), self.pid(nxagent))
        self.table.stubborn = {11}
        self.exit(nxagent)
        assert self.table.sent == [(11, "SIGKILL")]
        self.reactor.advance(GONE_SECONDS)
        assert self.told == []
        del self.table.processes[11]
        self.reactor.advance(GONE_SECONDS)
        assert self.told == [XEvent.EXITED]

    def test_but_not_for_ever(self) -> None:
        nxagent = self.launch()
        self.table.add(11, self.pid(nxagent), self.pid(nxagent))
        self.table.stubborn = {11}
        self.exit(nxagent)
        self.reactor.pump([GONE_SECONDS] * (GONE_LOOKS - 1))
        assert self.told == []
        self.reactor.advance(GONE_SECONDS)
        assert self.told == [XEvent.EXITED]

    def test_while_it_is_waited_for_the_session_has_not_ended_alone(self) -> None:
        nxagent, session = self.both()
        self.table.add(11, self.pid(nxagent), self.pid(nxagent))
        self.table.stubborn = {11}
        self.exit(nxagent)
        self.exit(session)
        assert self.told == [XEvent.PART_EXITED]
        del self.table.processes[11]
        self.reactor.advance(GONE_SECONDS)
        assert self.told == [XEvent.PART_EXITED, XEvent.EXITED]

    def test_what_the_session_leaves_is_asked_to_end_and_then_killed(self) -> None:
        _, session = self.both()
        self.table.add(11, 1, self.pid(session))
        self.table.add(20, 1, 20)
        self.exit(session)
        assert self.told == [XEvent.PART_EXITED]
        assert self.table.sent == [(11, "SIGTERM")]
        self.reactor.advance(LEFTOVER_SECONDS)
        assert self.table.sent == [(11, "SIGTERM"), (11, "SIGKILL")]
