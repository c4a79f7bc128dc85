"""The parts of a guest agent around its X session, of which nothing is run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.agent.account import Account
from qvd.agent.hooks import Hooks
from qvd.agent.marker import GuestMarker
from qvd.agent.provisioning import IProvisioner
from qvd.agent.xserver import Launch, XServer, XTimes
from qvd.model.secret import Secret
from qvd.model.settings import Settings, parse
from qvd.model.settings_vma import VMA_KEYS
from qvd.model.xsession import XEvent, XState
from tests.fakes.nx import FakeRunner, FakeXPrograms

SECRET = "a secret of forty three characters, or so ..."
MARKER = GuestMarker("sandbox", 9, Secret(SECRET), "127.0.0.1", 40123, 55001, "alice", "/home/alice", None)
ALICE = Account("alice", os.getuid(), os.getgid(), "/home/alice", "/bin/sh", False)
BOB = Account("bob", os.getuid() + 1, os.getgid(), "/home/bob", "/bin/sh", False)
LAUNCH = Launch(
    ALICE, ("/bin/true", ":55001"), {"NX_CLIENT": "/bin/false"}, ("/bin/false", "-x"), {"DISPLAY": ":55001"}
)
TIMES = XTimes(initiating=20, listening=65, suspending=15, stopping=10)

UP = (XEvent.START, XEvent.READY, XEvent.WAITING, XEvent.ACCEPTED, XEvent.STARTED)
"""From a stopped session to its first client."""
ASLEEP = (*UP, XEvent.SUSPENDING, XEvent.SUSPENDED, XEvent.TIMED_OUT)
"""From a stopped session to one that its client has left."""


def settings(values: Mapping[str, object] | None = None) -> Settings:
    return parse(values or {}, VMA_KEYS, "vma.conf")


class Desk:
    """One X session with programs that do nothing by themselves.

    @ivar states: all that was reported, in order.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.programs = FakeXPrograms()
        self.x_server = XServer(self.clock, TIMES, lambda tell: self.programs)
        self.states: list[XState] = []
        self.x_server.observe(self.states.append)

    def go(self, *events: XEvent) -> None:
        """Let these happen, one after the other."""
        for event in events:
            if event is XEvent.READY:
                self.x_server.launch(LAUNCH)
            else:
                self.x_server.tell(event)

    def state(self) -> XState:
        """As L{XServer} reports it; not remembered by the type checker."""
        return self.x_server.state

    def hooks(self, runner: FakeRunner, values: Mapping[str, object] | None = None) -> Hooks:
        return Hooks(runner, settings(values), lambda: self.x_server.state)


@implementer(IProvisioner)
class FakeProvisioner:
    """Has one account.

    @ivar error: what it raises instead.
    """

    def __init__(self) -> None:
        self.account = ALICE
        self.error: Exception | None = None
        self.asked: list[Mapping[str, str]] = []

    async def provision(self, parameters: Mapping[str, str]) -> Account:
        self.asked.append(parameters)
        if self.error is not None:
            raise self.error
        return self.account


def program(folder: Path, name: str) -> str:
    """A file that can be executed, and is not."""
    path = folder / name
    path.write_text("#!/bin/false\n")
    path.chmod(0o755)
    return str(path)
