# -*- test-case-name: tests.unit.test_agent_channel -*-
"""
The guest's end of the channel to its node (L{qvd.protocols.guestchannel}), in a virtual machine.

The node's daemon may be away, and come back, at any time; the port then reads as ended, or takes nothing, and is as it
was before when somebody is there again. So it is looked at every so often, and never waited for.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from qvd.agent.detached import detach
from qvd.model.errors import SettingsError
from qvd.protocols.guestchannel import Lines, Saying, Word, encode

ASK_SECONDS = 2.0
"""Between two questions."""
PATIENCE = 300.0
"""Seconds for an answer. Then the agent ends, and is started again by the system."""
PAUSE = 0.2
LOOK_SECONDS = 0.5
"""Between two looks for an order."""
CHUNK = 65536


class Port:
    """A port of the machine.

    @raise OSError: there is none, or another program has it.
    """

    def __init__(self, path: str) -> None:
        self._lines = Lines()
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self.write(b"\n")

    def write(self, data: bytes) -> None:
        """Say something, if anybody is there to take it."""
        try:
            os.write(self._fd, data)
        except BlockingIOError:
            pass

    def read(self) -> list[Saying]:
        """What was said meanwhile."""
        try:
            return self._lines.feed(os.read(self._fd, CHUNK))
        except BlockingIOError:
            return []

    def wait(self, seconds: float) -> None:
        """Until something may have been said."""
        select.select([self._fd], [], [], seconds)

    def close(self) -> None:
        os.close(self._fd)


def ask_marker(path: str, patience: float = PATIENCE) -> bytes:
    """The marker, from the node. Waits for it: there is no agent without one, and the reactor does not run yet.

    @raise SettingsError: there is no answer, or no such port; a sentence.
    """
    try:
        port = Port(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: the channel to the node (key vma.channel)") from None
    try:
        marker = converse(port, time.monotonic() + patience)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: the channel to the node (key vma.channel)") from None
    finally:
        port.close()
    if marker is None:
        raise SettingsError(f"{path}: the node has not said in {patience:g} seconds which VM this is")
    return marker


def converse(port: Port, ends: float) -> bytes | None:
    """Ask until there is an answer."""
    asked = -ASK_SECONDS
    while (now := time.monotonic()) < ends:
        if now - asked >= ASK_SECONDS:
            asked = now
            port.write(encode(Word.ASK))
        port.wait(ASK_SECONDS)
        for saying in port.read():
            if saying.word is Word.MARKER:
                return saying.marker
        # A port without a node is always ready, and empty.
        time.sleep(PAUSE)  # noqa: TID251
    return None


class NodeOrders:
    """Looks for orders of the node, and obeys.

    @param poweroff: turns the guest off; see L{qvd.agent.power.Power.poweroff}.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, path: str, poweroff: Callable[[Mapping[str, str]], Awaitable[None]]
    ) -> None:
        self._path = path
        self._poweroff = poweroff
        self._port: Port | None = None
        self._trouble = ""
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def start(self) -> None:
        self._looks.start(LOOK_SECONDS)

    def stop(self) -> None:
        if self._looks.running:
            self._looks.stop()
        self._let_go()

    def _look(self) -> None:
        try:
            self._port = port = self._port or Port(self._path)
            if any(saying.word is Word.POWEROFF for saying in port.read()):
                self.log.info("the node orders the power off")
                port.write(encode(Word.OBEY))
                detach(self._obey(), self.log)
            self._trouble = ""
        except OSError as error:
            self._say(f"{self._path}: {error.strerror}")
            self._let_go()

    async def _obey(self) -> None:
        await self._poweroff({})

    def _let_go(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self.log.error("no orders of the node are heard: {trouble}", trouble=trouble)
        self._trouble = trouble
