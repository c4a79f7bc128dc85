# -*- test-case-name: tests.integration.test_client -*-
"""
Console script C{qvd-client}: the composition root of the client.

Results go to standard output; what happens meanwhile, and errors, to standard error.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from qvd.client.errors import ClientError, Exit, plain
from qvd.client.nxproxy import Program, find_program, show
from qvd.client.options import Options, parse
from qvd.client.session import VM, Session, choose
from qvd.client.tls import ServerTLS
from qvd.client.wire import ServerConnection, dial


class Timeline:
    """What happened when, in milliseconds since the start; told to the user as it happens."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._start = clock.seconds()
        self.events: list[dict[str, object]] = []

    def mark(self, event: str) -> None:
        """Keep an event to ourselves."""
        self.events.append({"ms": round((self._clock.seconds() - self._start) * 1000, 1), "event": event})

    def tell(self, text: str) -> None:
        """Show what the server reports."""
        self.mark(text)
        print(text, file=sys.stderr, flush=True)


@frozen
class Command:
    """One run.

    @ivar program: what shows the desktop; L{None} where none is to be shown.
    """

    reactor: Any
    options: Options
    tls: ServerTLS
    program: Program | None
    timeline: Timeline = field(repr=False)

    async def run(self) -> None:
        """@raise ClientError: it could not be done."""
        options = self.options
        server = await dial(self.reactor, options.host, options.port, self.tls)
        self.timeline.mark("TLS connection")
        try:
            await self._serve(server, Session(server, options.credentials, options.seconds, self.timeline.tell))
        finally:
            await server.finish()

    async def _serve(self, server: ServerConnection, session: Session) -> None:
        if self.options.command == "ping":
            self._say(answer := await session.ping(), {"text": answer})
            return
        vms = await session.list_vms()
        self.timeline.mark("list")
        if self.options.command == "list":
            self._say(table(vms), [vm.fields for vm in vms])
            return
        vm = choose(vms, self.options.vm)
        if self.options.command == "stop":
            self._say(answer := await session.stop(vm.vm_id), {"vm_id": vm.vm_id, "text": answer})
        else:
            await self._connect(server, session, vm)

    async def _connect(self, server: ServerConnection, session: Session, vm: VM) -> None:
        await session.connect(vm.vm_id, self.options.desktop)
        self.timeline.mark("switch to NX")
        reason = "Connected, and left at once"
        if self.program is not None:
            reason = await show(self.reactor, server, self.program)
            self.timeline.mark("end")
        self._say(reason, {"vm_id": vm.vm_id, "name": vm.name, "text": reason, "timeline": self.timeline.events})

    def _say(self, text: str, document: object) -> None:
        print(json.dumps(document) if self.options.json else text, flush=True)


def table(vms: Sequence[VM]) -> str:
    """The list for people."""
    if not vms:
        return "You have no virtual machine on this server"
    rows = [("ID", "NAME", "STATE", "")]
    for vm in vms:
        blocked = "blocked" if vm.fields.get("blocked") else ""
        rows.append((str(vm.vm_id), plain(vm.name), plain(str(vm.fields.get("state") or "?")), blocked))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run(reactor: Any, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on the reactor. A signal cancels it, and the reactor stops when it has cleaned up.

    @raise KeyboardInterrupt: it was cancelled.
    """
    outcome: list[object] = []
    ended: Deferred[None] = Deferred()

    def finish(result: object) -> None:
        outcome.append(result)
        ended.callback(None)
        if not interrupted:
            reactor.callWhenRunning(reactor.stop)

    interrupted: list[bool] = []

    def begin() -> None:
        task = Deferred.fromCoroutine(work())

        def interrupt() -> Deferred[None]:
            if not outcome:
                interrupted.append(True)
                task.cancel()
            return ended

        reactor.addSystemEventTrigger("before", "shutdown", interrupt)
        task.addBoth(finish)

    reactor.callWhenRunning(begin)
    reactor.run()
    result = outcome[0] if outcome else None
    if interrupted or (isinstance(result, Failure) and isinstance(result.value, CancelledError)):
        raise KeyboardInterrupt
    if isinstance(result, Failure):
        result.raiseException()


def ask(prompt: str) -> str:
    """A password from the terminal. Without one there is nobody to ask, and nothing is read with an echo.

    @raise EOFError: no terminal.
    """
    if not sys.stdin.isatty():
        raise EOFError
    return getpass.getpass(prompt)


def perform(arguments: list[str]) -> None:
    """@raise ClientError: it could not be done."""
    options = parse(arguments, os.environ, ask)
    tls = ServerTLS(options.host, options.ca_file, options.pin)
    wanted = options.command == "connect" and options.show
    program = find_program(os.environ) if wanted else None
    # Imported late: until here nothing needs a reactor, and a wrong command line is answered without one.
    from twisted.internet import reactor

    run(reactor, Command(reactor, options, tls, program, Timeline(IReactorTime(reactor))).run)


def main() -> int:
    """The console script."""
    try:
        perform(sys.argv[1:])
    except ClientError as error:
        print(f"qvd-client: {error.text}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(error.document()))
        return int(error.exit)
    except KeyboardInterrupt:
        print("qvd-client: interrupted", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    return int(Exit.OK)
