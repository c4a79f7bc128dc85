"""L{qvd.client.nxproxy}: what it is started with, and that it is gone afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from qvd.client.dialback import DialBack
from qvd.client.errors import ClientError, Exit
from qvd.client.nxproxy import DIAL_BACK_SECONDS, KILL_SECONDS, Program, ProxyProcess, find_program, show

make_failure: Any = Failure
make_done: Any = ProcessDone
make_terminated: Any = ProcessTerminated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "nxproxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def test_program_and_its_environment(folder: Path) -> None:
    given = {"PATH": str(folder), "DISPLAY": ":0", "QVD_PASSWORD": "secret", "QVD_OTHER": "x", "HOME": "/home/alice"}
    program = find_program(given)
    assert program.path == str(folder / "nxproxy")
    expected = {"PATH": str(folder), "DISPLAY": ":0", "HOME": "/home/alice", "NX_CLIENT": "/bin/false"}
    assert program.environment == expected


@pytest.mark.parametrize(
    ("change", "text"), [({"DISPLAY": ""}, "DISPLAY"), ({"PATH": "/nonexistent"}, "not installed")]
)
def test_what_is_missing(folder: Path, change: dict[str, str], text: str) -> None:
    with pytest.raises(ClientError, match=text) as raised:
        find_program({"PATH": str(folder), "DISPLAY": ":0", **change})
    assert raised.value.exit is Exit.LOCAL


class Transport:
    """A process that obeys some signals."""

    def __init__(self, obeys: tuple[str, ...]) -> None:
        self.signals: list[str] = []
        self.process: ProxyProcess | None = None
        self._obeys = obeys

    def closeStdin(self) -> None:
        """It reads nothing."""

    def signalProcess(self, name: str) -> None:
        if self.process is None:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name in self._obeys:
            self.end(signal=15)

    def end(self, status: int | None = None, signal: int | None = None) -> None:
        process, self.process = self.process, None
        assert process is not None
        reason = make_done(0) if status == 0 else make_terminated(status, signal)
        process.processEnded(make_failure(reason))


class Reactor(Clock):
    """Starts processes that a test plays; nobody dials in."""

    def __init__(self, *obeys: str) -> None:
        super().__init__()
        self.transport = Transport(obeys)
        self.spawned: list[tuple[list[str], dict[str, str]]] = []
        self.open = False

    def listenTCP(self, port: int, factory: object, backlog: int, interface: str) -> Any:
        self.open = True
        return self

    def getHost(self) -> Any:
        return type("Address", (), {"port": 40000})

    def stopListening(self) -> None:
        self.open = False

    def spawnProcess(self, process: ProxyProcess, path: str, arguments: list[str], env: dict[str, str]) -> None:
        self.spawned.append((arguments, env))
        self.transport.process = process
        make_connection: Any = process.makeConnection
        make_connection(self.transport)


def showing(reactor: Reactor) -> tuple[Deferred[str], list[Any]]:
    server: Any = None
    work = Deferred.fromCoroutine(show(reactor, server, Program("/usr/bin/nxproxy", {"DISPLAY": ":0"})))
    seen: list[Any] = []
    work.addBoth(seen.append)
    return work, seen


def test_command_line() -> None:
    reactor = Reactor("TERM")
    work, _ = showing(reactor)
    assert reactor.spawned == [(["/usr/bin/nxproxy", "-S", "localhost:36000"], {"DISPLAY": ":0"})]
    work.cancel()


def test_it_dies_before_it_dials() -> None:
    reactor = Reactor()
    _, seen = showing(reactor)
    process = reactor.transport.process
    assert process is not None
    process.outReceived(b"NXPROXY - Version 3.5\n")
    process.errReceived(b"Error: Can't open\x1b display.\n\n")
    reactor.transport.end(status=1)
    assert seen[0].value.exit is Exit.LOCAL
    assert seen[0].value.text == "nxproxy ended with status 1: Error: Can't open? display."
    assert not reactor.open
    assert reactor.getDelayedCalls() == []


def test_it_ends_well_before_it_dials() -> None:
    reactor = Reactor()
    _, seen = showing(reactor)
    reactor.transport.end(status=0)
    assert seen[0].value.text == "nxproxy ended before it had dialed in"


def test_it_never_dials() -> None:
    reactor = Reactor("TERM")
    _, seen = showing(reactor)
    reactor.advance(DIAL_BACK_SECONDS)
    assert seen[0].value.exit is Exit.LOCAL
    assert reactor.transport.signals == ["TERM"]
    assert not reactor.open
    assert reactor.getDelayedCalls() == []


def test_interrupted_while_it_is_starting() -> None:
    reactor = Reactor("KILL")
    work, seen = showing(reactor)
    work.cancel()
    assert reactor.transport.signals == ["TERM"]
    assert seen == []
    reactor.advance(KILL_SECONDS)
    assert reactor.transport.signals == ["TERM", "KILL"]
    assert len(seen) == 1
    assert not reactor.open


def test_output_is_bounded() -> None:
    process = ProxyProcess(Clock())
    for _ in range(100):
        process.outReceived(b"x" * 1000)
    assert len(process._output) == 4096


def test_owner_of_the_port_is_asked_by_default() -> None:
    """The dial-back that is used in earnest asks the kernel."""
    from qvd.client.dialback import socket_owner

    assert DialBack()._owner is socket_owner
