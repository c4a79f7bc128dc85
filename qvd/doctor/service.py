# -*- test-case-name: tests.doctor.test_service -*-
"""The doctor within a daemon: the process that looks is started beside the reactor, one at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from qvd.doctor.asking import COMMAND, MOST_SAID, silent
from qvd.doctor.findings import About, Finding, finding_of
from qvd.doctor.look import Orders
from qvd.doctor.report import Report

SECONDS = 60.0
KEPT_SECONDS = 5.0
"""A report is good for so long: each look takes a connection or two to the database, and a second of a processor."""
NOT_HANDED_ON = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")


@frozen
class Kept:
    """The last report."""

    at: float
    report: Report


class Looking(ProcessProtocol):
    """The process.

    @ivar done: fires with the findings. The process itself may be there for longer, if it hangs.
    """

    transport: IProcessTransport | None = None

    def __init__(self, orders: Orders) -> None:
        self.done: Deferred[list[Finding]] = Deferred()
        self._orders = orders
        self._rest = b""
        self._said = b""
        self._found: list[Finding] = []

    def complain(self, why: str) -> None:
        """There can be no process."""
        self._said = why.encode()
        self.end(whole=False)

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.writeToChild(0, json.dumps(self._orders.document()).encode() + b"\n")
        self.transport.closeChildFD(0)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line:
                self._found.append(finding_of(json.loads(line)))
            else:
                self.end(whole=True)

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data)[-MOST_SAID:]

    def processEnded(self, reason: Failure) -> None:
        self.end(whole=False)

    def end(self, whole: bool, seconds: float = SECONDS) -> None:
        """Tell what was found."""
        if self.done.called:
            return
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
        self.done.callback(
            self._found if whole else [*self._found, silent(seconds, self._said.decode("utf-8", "replace"))]
        )


class Doctor:
    """Looks at the daemon's machine and its installation when somebody asks.

    @param path: the daemon's settings.
    """

    def __init__(self, reactor: Any, about: About, path: Path, seconds: float = SECONDS) -> None:
        self._reactor = reactor
        self._orders = Orders({about: path.absolute()})
        self._seconds = seconds
        self._looking: Looking | None = None
        self._deadline: IDelayedCall | None = None
        self._waiting: list[Deferred[Kept]] = []
        self._kept: Kept | None = None

    async def report(self) -> tuple[dict[str, Any], float]:
        """The document of a report, and its age in seconds. Who asks while somebody looks gets the same."""
        if self._kept is not None and self._age(self._kept) < KEPT_SECONDS:
            kept = self._kept
        else:
            kept = await self._wait()
        return kept.report.document(), self._age(kept)

    def _age(self, kept: Kept) -> float:
        return float(self._reactor.seconds() - kept.at)

    def _wait(self) -> Deferred[Kept]:
        waiting: Deferred[Kept] = Deferred(self._waiting_no_more)
        self._waiting.append(waiting)
        if self._looking is None:
            self._begin()
        return waiting

    def _waiting_no_more(self, waiting: Deferred[Kept]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _begin(self) -> None:
        self._looking = looking = Looking(self._orders)
        environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
        self._deadline = self._reactor.callLater(self._seconds, looking.end, False, self._seconds)
        looking.done.addCallback(self._looked)
        try:
            self._reactor.spawnProcess(looking, COMMAND[0], COMMAND, env=environment, path="/")
        except OSError as error:
            looking.complain(error.strerror or str(error))

    def _looked(self, found: list[Finding]) -> None:
        self._looking = None
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._kept = Kept(self._reactor.seconds(), Report(tuple(found)))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._kept)

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._looking is not None:
            self._looking.end(whole=False)
