"""DHCP: what the program is told, when it is started again, and who may run it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from attrs import evolve
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock

from qvd.hkd.network.dhcp import COALESCE, LOOK, REWRITE, STEADY, Dhcp
from qvd.hkd.network.dnsmasq import SETPRIV, command, hosts_text
from qvd.model.errors import PermanentError
from qvd.model.ids import VMId
from qvd.model.network import parse_plan
from qvd.model.records import Nic
from tests.fakes.case import Case
from tests.fakes.nx import how_it_ended

PLAN = parse_plan("10.88.0.0/16", "10.88.1.0")
FIRST = Nic("10.88.1.1", 16, "02:51:00:00:00:01")
SECOND = Nic("10.88.1.2", 16, "02:51:00:00:00:02")


class Transport:
    """A process that notes its signals."""

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.gone = False

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready()
        self.signals.append(name)


class Run:
    """One start of the program."""

    def __init__(self, protocol: ProcessProtocol, argv: Sequence[str], hosts: str) -> None:
        self.protocol = protocol
        self.argv = argv
        self.hosts = hosts
        self.transport = Transport()
        cast(Any, protocol).makeConnection(self.transport)

    @property
    def signals(self) -> list[str]:
        return self.transport.signals

    def say(self, text: str = "started\n") -> None:
        self.protocol.childDataReceived(2, text.encode())

    def exit(self, code: int = 0) -> None:
        self.transport.gone = True
        self.protocol.processEnded(how_it_ended(code, None))


class Reactor(Clock):
    """Notes what is started, and what it finds."""

    def __init__(self, hosts: Path) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.refuses: OSError | None = None
        self._hosts = hosts

    def spawnProcess(self, protocol: ProcessProtocol, program: str, argv: Sequence[str], *_: Any, **__: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        assert program == SETPRIV
        self.runs.append(Run(protocol, argv, self._hosts.read_text()))


class WordsTests(Case):
    def test_hosts(self) -> None:
        text = hosts_text([SECOND, FIRST])
        assert text == "02:51:00:00:00:01,10.88.1.1\n02:51:00:00:00:02,10.88.1.2\n"

    def test_only_addresses_of_the_file_are_given(self) -> None:
        words = command("brq", Path("/r/hosts"), PLAN, None)
        assert "--dhcp-range=10.88.0.0,static,255.255.0.0,12h" in words
        assert "--dhcp-hostsfile=/r/hosts" in words
        assert "--interface=brq" in words
        assert "--dhcp-lease-max=65279" in words

    def test_what_vms_are_told(self) -> None:
        words = command("brq", Path("/r/hosts"), PLAN, None)
        assert [word for word in words if "dhcp-option" in word] == [
            "--dhcp-option=option:router",
            "--dhcp-option=option:dns-server",
        ]
        words = command("brq", Path("/r/hosts"), evolve(PLAN, dns=IPv4Address("10.88.0.9")), "10.88.0.1")
        assert [word for word in words if "dhcp-option" in word] == [
            "--dhcp-option=option:router,10.88.0.1",
            "--dhcp-option=option:dns-server,10.88.0.9",
        ]


class DhcpTests(Case):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_folder = Path(folder.name)
        self.run_folder.chmod(0o755)
        self.hosts = self.run_folder / "dhcp-brq.hosts"
        self.reactor = Reactor(self.hosts)
        self.dhcp = self.another(self.reactor)
        cast(Any, self).patch(shutil, "which", lambda name, path: name)

    def another(self, reactor: Reactor) -> Dhcp:
        made = Dhcp(cast(Any, reactor), "brq", self.run_folder, PLAN, None)
        self.addCleanup(made._release)
        return made

    def start(self, *nics: Nic) -> Run:
        self.tell(*nics)
        self.result(self.dhcp.start())
        self.current.say()
        return self.current

    def tell(self, *nics: Nic) -> None:
        self.dhcp.set_hosts({VMId(number): nic for number, nic in enumerate(nics)})

    @property
    def runs(self) -> list[Run]:
        return self.reactor.runs

    @property
    def current(self) -> Run:
        return self.runs[-1]

    def test_it_is_started_with_what_is_known(self) -> None:
        assert self.start(FIRST).hosts == hosts_text([FIRST])
        assert self.hosts.stat().st_mode & 0o777 == 0o644

    def test_what_an_earlier_daemon_wrote_holds_until_we_know(self) -> None:
        self.hosts.write_text("before")
        self.result(self.dhcp.start())
        assert self.current.hosts == "before"
        self.tell()
        self.reactor.advance(COALESCE)
        assert self.hosts.read_text() == ""

    def test_changes_are_told_together(self) -> None:
        run = self.start(FIRST)
        self.tell()
        self.tell(FIRST, SECOND)
        assert run.signals == []
        self.reactor.advance(COALESCE)
        assert self.hosts.read_text() == hosts_text([FIRST, SECOND])
        assert run.signals == ["HUP"]

    def test_nothing_new_is_not_written(self) -> None:
        run = self.start(FIRST)
        before = self.hosts.stat().st_ino
        self.tell(FIRST)
        self.reactor.advance(COALESCE)
        assert (self.hosts.stat().st_ino, run.signals) == (before, [])

    def test_no_signal_before_its_first_words(self) -> None:
        self.result(self.dhcp.start())
        self.tell(FIRST)
        self.reactor.advance(COALESCE)
        assert self.current.signals == []
        self.current.say()
        self.current.say("more\n")
        assert self.current.signals == ["HUP"]

    def test_a_file_that_cannot_be_written_is_tried_again(self) -> None:
        run = self.start()
        self.hosts.unlink()
        self.hosts.mkdir()
        self.tell(FIRST)
        self.reactor.advance(COALESCE)
        assert run.signals == []
        self.hosts.rmdir()
        self.reactor.advance(REWRITE)
        assert run.signals == ["HUP"]

    def test_an_address_that_went_to_another_vm(self) -> None:
        """The old lease would keep it."""
        run = self.start(FIRST)
        self.tell()
        self.reactor.advance(COALESCE)
        self.tell(evolve(SECOND, address=FIRST.address))
        self.reactor.advance(COALESCE)
        assert run.signals == ["HUP", "KILL"]
        run.exit(9)
        assert len(self.runs) == 2
        assert self.current.hosts == f"{SECOND.mac},{FIRST.address}\n"

    def test_it_is_started_again_ever_later(self) -> None:
        self.start(FIRST)
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            self.current.exit(2)
            before = len(self.runs)
            self.reactor.advance(pause - 0.5)
            assert len(self.runs) == before
            self.reactor.advance(0.5)
            assert len(self.runs) == before + 1

    def test_a_long_run_makes_up_for_failures(self) -> None:
        self.start(FIRST)
        for _ in range(4):
            self.current.exit(2)
            self.reactor.advance(60)
        self.reactor.advance(STEADY)
        self.current.exit(2)
        before = len(self.runs)
        self.reactor.advance(1)
        assert len(self.runs) == before + 1

    def test_no_process_to_be_had(self) -> None:
        self.reactor.refuses = OSError(11, "Resource temporarily unavailable")
        self.result(self.dhcp.start())
        self.reactor.refuses = None
        self.reactor.advance(1)
        assert len(self.runs) == 1

    def test_stop(self) -> None:
        run = self.start(FIRST)
        self.tell(SECOND)
        stopping = self.begin(self.dhcp.stop())
        assert run.signals == ["TERM"]
        assert self.waits(stopping)
        run.exit()
        self.result(stopping)
        assert self.reactor.getDelayedCalls() == []

    def test_stop_of_one_that_does_not_listen(self) -> None:
        run = self.start(FIRST)
        stopping = self.begin(self.dhcp.stop())
        self.reactor.advance(3)
        assert run.signals == ["TERM", "KILL"]
        run.exit(9)
        self.result(stopping)
        assert self.reactor.getDelayedCalls() == []

    def test_stop_gives_up_on_one_that_cannot_be_killed(self) -> None:
        run = self.start(FIRST)
        stopping = self.begin(self.dhcp.stop())
        self.reactor.pump([3, 3])
        self.result(stopping)
        run.exit(9)
        assert self.reactor.getDelayedCalls() == []

    def test_stop_between_two_runs(self) -> None:
        self.start(FIRST).exit(2)
        self.result(self.dhcp.stop())
        assert self.reactor.getDelayedCalls() == []

    def test_it_can_be_started_again(self) -> None:
        run = self.start(FIRST)
        stopping = self.begin(self.dhcp.stop())
        run.exit()
        self.result(stopping)
        self.start(SECOND)
        assert self.current.hosts == hosts_text([SECOND])

    def test_a_successor_waits_for_the_lock(self) -> None:
        run = self.start(FIRST)
        later = Reactor(self.hosts)
        successor = self.another(later)
        successor.set_hosts({VMId(2): SECOND})
        self.result(successor.start())
        later.advance(LOOK)
        assert later.runs == []
        assert self.hosts.read_text() == hosts_text([FIRST])
        stopping = self.begin(self.dhcp.stop())
        later.advance(LOOK)
        assert later.runs == []
        run.exit()
        self.result(stopping)
        later.advance(LOOK)
        assert [each.hosts for each in later.runs] == [hosts_text([SECOND])]

    def test_no_descriptor_is_left(self) -> None:
        before = os.listdir("/proc/self/fd")
        run = self.start(FIRST)
        stopping = self.begin(self.dhcp.stop())
        run.exit()
        self.result(stopping)
        assert os.listdir("/proc/self/fd") == before

    def test_a_folder_that_it_cannot_enter(self) -> None:
        self.run_folder.chmod(0o700)
        error = self.failure(self.dhcp.start(), PermanentError)
        assert f"chmod o+x {self.run_folder}" in error.text

    def test_a_program_that_is_missing(self) -> None:
        cast(Any, self).patch(shutil, "which", lambda name, path: None)
        error = self.failure(self.dhcp.start(), PermanentError)
        assert error.text.startswith("dnsmasq is missing")
