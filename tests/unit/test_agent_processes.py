"""Programs with a deadline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from qvd.agent.logfile import BoundedLog
from qvd.agent.processes import LINGER, Command, ProcessRunner, spawn
from qvd.model.errors import DeadlineExceeded, Unavailable
from tests.fakes.case import Case
from tests.fakes.nx import ProcessClock, Spawned

TRUE = "/bin/true"


class RunnerTests(Case):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = Path(folder.name) / "log"
        self.reactor = ProcessClock()
        self.runner = ProcessRunner(self.reactor.reactor, BoundedLog(self.output), {"PATH": "/bin"})
        self.groups: list[int] = []
        self.addCleanup(setattr, os, "killpg", os.killpg)
        os.killpg = lambda pid, number: self.groups.append(pid)

    def tearDown(self) -> None:
        assert self.reactor.getDelayedCalls() == []

    def start(self, *argv: str, seconds: float = 30) -> tuple[Deferred[None], Spawned]:
        running = self.begin(self.runner.run([TRUE, *argv], seconds))
        return running, self.reactor.spawned[-1]

    def test_a_program_that_succeeds(self) -> None:
        running, program = self.start("a", "b c")
        assert program.argv == (TRUE, "a", "b c")
        assert program.options["env"] == {"PATH": "/bin"}
        program.say("working\n")
        assert self.waits(running)
        program.exit()
        self.result(running)
        assert self.output.read_text() == "working\n"

    def test_one_that_fails_says_why(self) -> None:
        running, program = self.start()
        program.say("first\nno such luck\n\n")
        program.exit(3)
        assert self.failure(running, Unavailable).text == f"{TRUE} failed: no such luck"

    def test_one_that_fails_in_silence(self) -> None:
        running, program = self.start()
        program.exit(3)
        assert "exit code 3" in self.failure(running, Unavailable).text

    def test_one_that_is_killed_has_failed(self) -> None:
        running, program = self.start()
        program.exit(signal=9)
        assert "signal 9" in self.failure(running, Unavailable).text

    def test_one_that_says_much_keeps_the_end(self) -> None:
        running, program = self.start()
        program.say("x" * 5000)
        program.exit(1)
        assert len(self.failure(running, Unavailable).text) < 500

    def test_one_that_does_not_end_is_killed_with_its_group(self) -> None:
        running, program = self.start(seconds=5)
        pid = program.transport.pid
        self.reactor.advance(5)
        assert "did not end within 5 s" in self.failure(running, DeadlineExceeded).text
        assert program.transport.signals == ["KILL"]
        assert self.groups == [pid]
        program.exit(signal=9)

    def test_its_children_do_not_hold_it_up(self) -> None:
        running, program = self.start()
        program.exit(pipes=False)
        self.reactor.advance(LINGER)
        assert program.transport.closed
        program.exit()
        self.reactor.advance(LINGER)
        self.result(running)

    def test_one_that_is_not_there(self) -> None:
        self.output.touch(mode=0o644)
        for path in ("/no/such/program", str(self.output), "/tmp"):
            error = self.failure(self.runner.run([path], 1), Unavailable)
            assert path in error.text
        assert self.reactor.spawned == []

    def test_at_the_end_all_are_killed(self) -> None:
        running, program = self.start()
        done, other = self.start()
        other.exit()
        self.result(done)
        self.runner.close()
        assert program.transport.signals == ["KILL"]
        assert other.transport.signals == []
        program.exit(signal=9)
        self.failure(running, Unavailable)


class SpawnTests(Case):
    def test_where_and_as_whom(self) -> None:
        reactor = ProcessClock()
        command = Command((TRUE,), {"A": "b"}, "/home/alice", 1001, 1002)
        spawn(reactor.reactor, ProcessProtocol(), command)
        options = reactor.spawned[0].options
        wanted = {"env": {"A": "b"}, "path": "/home/alice", "uid": 1001, "gid": 1002}
        assert {key: options[key] for key in wanted} == wanted
        assert set(options["childFDs"]) == {0, 1, 2}

    def test_its_input_is_empty_and_not_left_open_here(self) -> None:
        before = os.listdir("/proc/self/fd")
        spawn(ProcessClock().reactor, ProcessProtocol(), Command((TRUE,), {}))
        assert os.listdir("/proc/self/fd") == before

    def test_a_system_that_has_no_processes_left(self) -> None:
        class Exhausted(ProcessClock):
            def spawnProcess(self, protocol: Any, program: str, args: Sequence[str], **options: Any) -> Any:
                raise OSError(11, "Resource temporarily unavailable")

        with pytest.raises(Unavailable, match="temporarily"):
            spawn(Exhausted().reactor, ProcessProtocol(), Command((TRUE,), {}))
