"""What is said through a virtual machine's port, over a terminal that stands for it."""

from __future__ import annotations

import json
import os
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from qvd.agent.channel import HELLO, LONGEST, LOOK, SAY, Lines, NodeChannel, parse
from qvd.model.errors import SettingsError


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node, port = os.openpty()
        tty.setraw(port)
        os.set_blocking(self.node, False)
        self.clock = Clock()
        self.marked: list[dict[str, object]] = []
        self.orders: list[str] = []
        self.channel = NodeChannel(
            self.clock, os.ttyname(port), self.marked.append, lambda: self.orders.append("poweroff")
        )
        self.channel.start()
        for end in (lambda: os.close(port), lambda: os.close(self.node), self.channel.stop):
            self.addCleanup(end)

    def heard(self) -> bytes:
        try:
            return os.read(self.node, 65536)
        except BlockingIOError:
            return b""

    def say(self, *messages: object) -> None:
        os.write(self.node, b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.clock.advance(LOOK)

    def wait(self, seconds: float) -> None:
        self.clock.pump([LOOK] * round(seconds / LOOK))

    def test_it_asks_until_it_is_told(self) -> None:
        assert self.heard() == HELLO
        self.wait(SAY)
        assert self.heard() == HELLO
        self.say({"guest": {"vm_id": 9}})
        assert self.marked == [{"vm_id": 9}]
        self.wait(10 * SAY)
        assert self.heard() == b""

    def test_one_answer_is_enough(self) -> None:
        self.say({"guest": {"vm_id": 9}}, {"guest": {"vm_id": 10}})
        assert self.marked == [{"vm_id": 9}]

    def test_the_power_off_is_an_order(self) -> None:
        self.say({"order": "poweroff"})
        assert self.orders == ["poweroff"]

    def test_what_is_not_known_is_ignored(self) -> None:
        self.say({"order": "dance"}, 7, [], None, {"guest": "nobody"})
        os.write(self.node, b"login: \n\xff\xfe\n" + b"[" * 3000 + b"\n")
        self.clock.advance(LOOK)
        self.say({"guest": {"vm_id": 9}})
        assert (self.marked, self.orders) == ([{"vm_id": 9}], [])

    def test_it_ends(self) -> None:
        self.channel.stop()
        assert self.clock.getDelayedCalls() == []
        self.channel.stop()


def test_a_port_that_is_not_there_is_named() -> None:
    channel = NodeChannel(Clock(), "/nowhere/port", lambda _: None, lambda: None)
    with pytest.raises(SettingsError, match="/nowhere/port: No such file"):
        channel.start()


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_come_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    reader = Lines()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == lines


def test_a_line_that_is_too_long_is_dropped_and_the_next_one_is_not() -> None:
    reader = Lines()
    assert list(reader.feed(b"x" * LONGEST)) == []
    assert list(reader.feed(b"x" * LONGEST)) == []
    assert list(reader.feed(b"x\nyes\n")) == [b"yes"]
    assert list(reader.feed(b"x" * (LONGEST + 1) + b"\nagain\n")) == [b"again"]


def test_only_objects_count() -> None:
    assert parse(b'{"a": 1}') == {"a": 1}
    assert parse(b"[1]") == parse(b"nonsense") == parse(b"\xff") == parse(b"") == {}
