"""The line between two daemons, on real UNIX sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import TimeoutError, maybeDeferred

from qvd.protocols.adapters import control
from qvd.protocols.adapters.control import ControlLine, dial_control, listen_control
from qvd.protocols.adapters.heads import ConnectionClosed
from qvd.protocols.handover import LIMIT, End, Handed, HandOver
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, pause, spawn, until

LONG = "a_folder_of_a_rather_long_name" * 3


class Both:
    """A listener and what has dialled it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control"
        self.lines: list[ControlLine] = []
        self.dialled: list[ControlLine] = []
        self.ports: list[Any] = [listen_control(reactor, self.path, self.lines.append, None)]

    async def dial(self) -> tuple[ControlLine, ControlLine]:
        """Both ends of a new line: who dialled, and who was."""
        count = len(self.lines)
        near = dial_control(reactor, self.path)
        assert near is not None
        self.dialled.append(near)
        await until(lambda: len(self.lines) > count)
        return near, self.lines[-1]

    async def close(self) -> None:
        for line in self.lines + self.dialled:
            line.close()
            await until(lambda line=line: line.is_gone)  # type: ignore[misc]
        for port in self.ports:
            await maybeDeferred(port.stopListening)


@asynchronous_fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    folder = tmp_path / LONG
    folder.mkdir()
    made = Both(folder)
    yield made
    await made.close()


@asynchronous
async def test_messages_go_both_ways(both: Both) -> None:
    assert stat.S_IMODE(both.path.stat().st_mode) == 0o600
    near, far = await both.dial()
    near.send(HandOver("a"))
    near.send(End("b"))
    assert await far.receive(10) == HandOver("a")
    assert await far.receive(10) == End("b")
    far.send(End("c"))
    assert await near.receive(10) == End("c")


@asynchronous
async def test_a_listening_socket_goes_along_and_outlives_its_first_owner(both: Both) -> None:
    near, far = await both.dial()
    both.ports[0].stopReading()
    far.send(Handed(("control",)), [both.ports[0].fileno()])
    assert await near.receive(10) == Handed(("control",))
    (descriptor,) = near.descriptors
    assert not os.get_inheritable(descriptor)
    waiting = dial_control(reactor, both.path)
    assert waiting is not None
    both.dialled.append(waiting)
    waiting.send(HandOver("in between"))
    await maybeDeferred(both.ports.pop().stopListening)
    both.ports.append(listen_control(reactor, both.path, both.lines.append, descriptor))
    await until(lambda: len(both.lines) == 2)
    assert await both.lines[-1].receive(10) == HandOver("in between")


@asynchronous
async def test_nothing_comes_in_time_and_then_never(both: Both) -> None:
    near, far = await both.dial()
    with pytest.raises(TimeoutError):
        await near.receive(0.01)
    receiving = spawn(near.receive(10))
    far.close()
    with pytest.raises(ConnectionClosed):
        await receiving
    with pytest.raises(ConnectionClosed):
        await near.receive(10)
    near.send(End("in vain"))


@asynchronous
async def test_what_was_said_before_the_end_is_still_heard(both: Both) -> None:
    near, far = await both.dial()
    far.send(End("bye"))
    far.close()
    await until(lambda: near.is_gone)
    assert await near.receive(10) == End("bye")


@asynchronous
async def test_nonsense_ends_the_line(both: Both) -> None:
    for nonsense in (b"nonsense\n", b"x" * (LIMIT + 1)):
        near, far = await both.dial()
        transport: Any = near.transport
        transport.write(nonsense)
        with pytest.raises(ConnectionClosed):
            await far.receive(10)


@asynchronous
async def test_another_user_is_refused(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control.os, "geteuid", lambda: os.getuid() + 1)  # type: ignore[attr-defined]
    near = dial_control(reactor, both.path)
    await pause(0.05)
    assert near is None
    assert both.lines == []


@asynchronous
async def test_nobody_is_there(tmp_path: Path) -> None:
    path = tmp_path / "control"
    assert dial_control(reactor, path) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert dial_control(reactor, path) is None
    both = Both(tmp_path)
    near, far = await both.dial()
    near.send(HandOver("a"))
    assert await far.receive(10) == HandOver("a")
    await both.close()
