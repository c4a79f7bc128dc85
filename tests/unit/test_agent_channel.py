"""The guest's end of the channel, on a pseudo terminal in its place."""

from __future__ import annotations

import os
import threading
import tty
from collections.abc import Iterator, Mapping

import pytest
from twisted.internet.task import Clock

from qvd.agent.channel import LOOK_SECONDS, NodeOrders, ask_marker
from qvd.model.errors import SettingsError
from qvd.protocols.guestchannel import Word, encode, encode_marker


class Node:
    """The other end of the port."""

    def __init__(self) -> None:
        self.fd, guest = os.openpty()
        tty.setraw(guest)
        self.guest = guest
        self.path = os.ttyname(guest)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.guest)


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


class Power:
    def __init__(self) -> None:
        self.orders = 0

    async def poweroff(self, parameters: Mapping[str, str]) -> None:
        self.orders += 1


def test_the_marker_comes_through_it(node: Node) -> None:
    heard: list[bytes] = []

    def answer() -> None:
        while encode(Word.ASK) not in b"".join(heard):
            heard.append(os.read(node.fd, 4096))
        os.write(node.fd, b"login: \n" + encode_marker({"vm_id": 9}))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        assert ask_marker(node.path, 30) == b'{"vm_id": 9}'
    finally:
        thread.join()


def test_a_node_that_says_nothing(node: Node) -> None:
    with pytest.raises(SettingsError, match="has not said in 0 seconds which VM this is"):
        ask_marker(node.path, 0)


def test_no_port() -> None:
    with pytest.raises(SettingsError, match=r"/nowhere: No such file or directory: the channel .*vma\.channel"):
        ask_marker("/nowhere")


def test_an_order_is_obeyed_and_said_so(node: Node) -> None:
    clock, power = Clock(), Power()
    orders = NodeOrders(clock, node.path, power.poweroff)
    orders.start()
    clock.advance(LOOK_SECONDS)
    assert power.orders == 0
    os.write(node.fd, b"noise\n" + encode(Word.POWEROFF))
    clock.advance(LOOK_SECONDS)
    assert power.orders == 1
    assert os.read(node.fd, 4096) == b"\n" + encode(Word.OBEY)
    orders.stop()
    assert not clock.getDelayedCalls()


def test_a_port_that_is_not_there_yet(node: Node) -> None:
    """It is looked for again and again."""
    clock, power = Clock(), Power()
    orders = NodeOrders(clock, "/nowhere", power.poweroff)
    orders.start()
    clock.advance(LOOK_SECONDS)
    orders._path = node.path
    os.write(node.fd, encode(Word.POWEROFF))
    clock.advance(LOOK_SECONDS)
    assert power.orders == 1
    orders.stop()
