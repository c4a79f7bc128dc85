# -*- test-case-name: tests.integration.test_network_commands -*-
"""Runs C{ip} and C{nft}: off the reactor, with a deadline, and with what they say last as the reason of a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from qvd.model.errors import PermanentError, TransientError

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 10.0
LIMIT = 16 << 20
"""Bytes of an answer: the elements of some ten thousand VMs."""
TAIL = 2000


class ICommandReactor(IReactorProcess, IReactorTime):
    """What it takes of a reactor."""


class Command(ProcessProtocol):
    """One that runs.

    @ivar done: fires with what it printed; fails with a L{TransientError}.
    """

    transport: IProcessTransport

    def __init__(self, name: str, given: str) -> None:
        self.done: Deferred[str] = Deferred(lambda _: self._kill())
        self._name = name
        self._given = given.encode()
        self._out = bytearray()
        self._errors = b""

    def connectionMade(self) -> None:
        self.transport.writeToChild(0, self._given)
        self.transport.closeChildFD(0)

    def outReceived(self, data: bytes) -> None:
        if len(self._out) + len(data) > LIMIT:
            self._kill()
            return
        self._out += data

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-TAIL:]

    def processEnded(self, reason: Failure) -> None:
        if self.done.called:
            return
        if isinstance(reason.value, ProcessDone):
            self.done.callback(self._out.decode("utf-8", "replace"))
            return
        said = first_line(self._errors.decode("utf-8", "replace")) or reason.getErrorMessage()
        self.done.errback(TransientError(f"{self._name}: {said}"))

    def _kill(self) -> None:
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass


def first_line(text: str) -> str:
    """Of what a program complains of: C{nft} and C{ip} say what is wrong first, and then show where."""
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "")


async def run(reactor: ICommandReactor, words: Sequence[str], given: str = "") -> str:
    """Run a program to its end.

    @param given: its standard input.
    @return: its standard output.
    @raise TransientError: it failed, or did not end in time and was killed.
    @raise PermanentError: it is not installed.
    """
    program = shutil.which(words[0], path=PATH)
    if program is None:
        raise PermanentError(f"The program {words[0]} is not installed on this node")
    command = Command(words[0], given)
    reactor.spawnProcess(command, program, list(words), env={"PATH": PATH, "LC_ALL": "C"}, path=os.sep)
    try:
        return await command.done.addTimeout(SECONDS, reactor)
    except TimeoutError:
        raise TransientError(f"{words[0]} did not end in {SECONDS:.0f} seconds") from None
