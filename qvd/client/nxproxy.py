# -*- test-case-name: tests.unit.test_client_nxproxy -*-
"""The program that shows a desktop: C{nxproxy}, started for one session and ended with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from qvd.client.dialback import DialBack
from qvd.client.errors import ClientError, Exit, plain
from qvd.client.relay import Relay, Side
from qvd.client.wire import ServerConnection

DIAL_BACK_SECONDS = 10.0
END_SECONDS = 5.0
"""For nxproxy to end by itself when its connection is closed."""
KILL_SECONDS = 3.0
"""From TERM to KILL."""
MOST_OUTPUT = 4096
PRIVATE_PREFIX = "QVD_"
"""Our own variables, the password among them, are nobody else's business."""


@frozen
class Program:
    """What to run, and in which environment."""

    path: str
    environment: Mapping[str, str]


def find_program(environment: Mapping[str, str]) -> Program:
    """Look for all that is needed on this machine, before anybody dials.

    @raise ClientError: something is missing.
    """
    if not environment.get("DISPLAY"):
        raise ClientError(Exit.LOCAL, "There is no DISPLAY to show the desktop on: run this in a graphical session")
    path = shutil.which("nxproxy", path=environment.get("PATH"))
    if path is None:
        raise ClientError(Exit.LOCAL, "The program nxproxy is not installed (Debian: apt-get install nxproxy)")
    kept = {name: value for name, value in environment.items() if not name.startswith(PRIVATE_PREFIX)}
    # nxproxy asks the user through this program, and looks for one of its own name when it is not set.
    return Program(path, {"NX_CLIENT": "/bin/false", **kept})


class ProxyProcess(ProcessProtocol):
    """One run of nxproxy.

    @ivar ended: fires with None for an orderly end, with a description otherwise.
    """

    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self.ended: Deferred[str | None] = Deferred()
        self._clock = clock
        self._output = bytearray()

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._output += data
        del self._output[:-MOST_OUTPUT]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None if isinstance(reason.value, ProcessDone) else self._describe(reason))

    async def wait(self, seconds: float) -> str | None:
        """Until it has ended by itself.

        @raise twisted.internet.defer.TimeoutError: it has not.
        """
        waiting: Deferred[str | None] = Deferred()
        self.ended.addCallback(self._pass_on, waiting)
        return await waiting.addTimeout(seconds, self._clock)

    async def stop(self) -> None:
        """End it. Returns when it is gone."""
        for signal in ("TERM", "KILL"):
            self._signal(signal)
            try:
                await self.wait(KILL_SECONDS)
                return
            except DeferredTimeout:
                pass

    def _signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def _pass_on(self, result: str | None, waiting: Deferred[str | None]) -> str | None:
        if not waiting.called:
            waiting.callback(result)
        return result

    def _describe(self, reason: Failure) -> str:
        lines = self._output.decode("utf-8", "replace").split("\n")
        last = next((plain(line) for line in reversed(lines) if line.strip()), "it said nothing")
        status: Any = reason.value
        how = f"signal {status.signal}" if status.signal is not None else f"status {status.exitCode}"
        return f"nxproxy ended with {how}: {last}"


async def show(reactor: Any, server: ServerConnection, program: Program) -> str:
    """Show the desktop that the server has switched to, until one of the three ends: server, nxproxy, user.

    @return: how it ended, in a sentence.
    @raise ClientError: it did not end well.
    """
    dialback = DialBack()
    target = dialback.listen(reactor)
    process = ProxyProcess(reactor)
    try:
        arguments = [program.path, "-S", target]
        reactor.spawnProcess(process, program.path, arguments, env=dict(program.environment))
    except OSError as error:
        dialback.close()
        raise ClientError(Exit.LOCAL, f"nxproxy cannot be started: {error}") from None
    try:
        return await _relay(reactor, server, dialback, process)
    finally:
        dialback.close()
        await process.stop()


async def _relay(reactor: Any, server: ServerConnection, dialback: DialBack, process: ProxyProcess) -> str:
    process.ended.addCallback(_died_early, dialback.arrived)
    try:
        display = await dialback.arrived.addTimeout(DIAL_BACK_SECONDS, reactor)
    except DeferredTimeout:
        raise ClientError(Exit.LOCAL, f"nxproxy has not dialed in within {DIAL_BACK_SECONDS:g} s") from None
    ending = await Relay(reactor, server, display).run()
    if ending.side is Side.SERVER:
        if not ending.orderly:
            raise ClientError(Exit.UNREACHABLE, "The connection to the server was lost")
        return "The server has ended the session"
    try:
        trouble = await process.wait(END_SECONDS)
    except DeferredTimeout:
        trouble = None
    if trouble is not None:
        raise ClientError(Exit.LOCAL, trouble)
    return "The desktop was closed"


def _died_early(result: str | None, arrived: Deferred[Any]) -> str | None:
    if not arrived.called:
        arrived.errback(ClientError(Exit.LOCAL, result or "nxproxy ended before it had dialed in"))
    return result
