# -*- test-case-name: tests.unit.test_hkd_succession -*-
"""
From one process of this node to the next, without a client noticing: C{docs/decisions/0013-upgrade.md}.

L{Succession} is both sides of it. A process begins as the successor of the one that runs, if there is one; later it may
be asked to let go for the next. Until the new one says that it serves, the old one can take everything up again; of
one that says nothing in time it makes certain first that it is dead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from qvd.hkd.periodic import observe
from qvd.hkd.serving import Listener
from qvd.model.errors import QVDError, Unavailable
from qvd.protocols.adapters.control import ControlLine, dial_control, listen_control
from qvd.protocols.adapters.heads import ConnectionClosed
from qvd.protocols.handover import End, Follow, Handed, HandOver, Message, NoLease, Refused, Serving

ANSWER = 45.0
"""Seconds for the old process to let go: boots that are under way, and database statements, are waited for."""
TAKE_OVER = 10.0
"""Seconds for the new one to serve, once it has the sockets."""
TICK = 0.25
"""The time is counted in pieces: after a process was stopped (SIGSTOP) what was said meanwhile is heard first."""
NEWS = 1.0
"""Seconds between two words to those that follow."""
SOCKET = "control"


class HandOverFailed(QVDError):
    """The daemon that runs does not let go."""

    code = "hand_over"


class Holder(Protocol):
    """The process that has the lease."""

    def hand_over(self, successor: ControlLine) -> None: ...

    def standing(self) -> Serving | None: ...

    def look_for_strays(self) -> None: ...


@frozen
class Place:
    """Where the processes of this node find each other.

    @ivar reactor: for sockets and time.
    @ivar run: the run folder.
    @ivar instance: UUID of this process.
    @ivar node: name of the node.
    """

    reactor: Any
    run: Path
    instance: str
    node: str = ""

    @property
    def path(self) -> Path:
        return self.run / SOCKET

    def dial(self) -> ControlLine | None:
        return dial_control(self.reactor, self.path)


@define(eq=False)
class Succession:
    """Of one process.

    @ivar listeners: what is handed over, by name.
    @ivar others: whether another process of this node is alive.
    @ivar holder: this process, while it has the lease.
    @ivar farewell: seconds for those that follow to end their sessions when the node is stopped.
    """

    place: Place
    listeners: Mapping[str, Listener]
    farewell: float
    others: Callable[[], bool]
    holder: Holder | None = None
    control: Listener = field(init=False)
    _dismissed: End | None = field(default=None, init=False)
    _predecessor: ControlLine | None = field(default=None, init=False)
    _followers: set[ControlLine] = field(factory=set, init=False)

    log: ClassVar[Logger] = Logger()

    def __attrs_post_init__(self) -> None:
        self.control = Listener(self._listen, "other daemons of this node are heard")

    def _listen(self, inherited: int | None) -> Any:
        return listen_control(self.place.reactor, self.place.path, self._dialled, inherited)

    def _all(self) -> dict[str, Listener]:
        return {**self.listeners, SOCKET: self.control}

    # The new process

    async def inherit(self) -> bool:
        """Take over from the process that runs, if there is one.

        @return: whether there is: from now on this process has to be quick.
        @raise HandOverFailed: it does not let go; nothing has changed.
        """
        line = self.place.dial()
        if line is None:
            return False
        line.send(HandOver(self.place.instance, self.place.node))
        try:
            match await line.receive(ANSWER):
                case Handed(names=names) if len(names) == len(line.descriptors):
                    self._take(dict(zip(names, line.descriptors, strict=True)))
                case Refused(reason=reason):
                    raise HandOverFailed(f"The daemon that runs does not let go: {reason}")
                case message:
                    raise HandOverFailed(f"The daemon that runs says what was not to be expected: {message}")
        except TimeoutError:
            raise HandOverFailed(f"The daemon that runs has not let go in {ANSWER:g} s") from None
        except ConnectionClosed:
            raise HandOverFailed("The daemon that runs has ended before it had let go; start again") from None
        self._predecessor = line
        self.log.info("taking over from the daemon that runs")
        return True

    def _take(self, sockets: Mapping[str, int]) -> None:
        listeners = self._all()
        for name, descriptor in sockets.items():
            if name in listeners:
                listeners[name].inherited = descriptor
            else:
                # Of a listener that the settings have no more.
                os.close(descriptor)

    async def serving(self) -> None:
        """All is taken over: the other one may go. Returns when it has heard of it, or is no more."""
        line, self._predecessor = self._predecessor, None
        standing = None if self.holder is None else self.holder.standing()
        if line is not None and standing is not None:
            line.send(standing)
            heard = observe(line.gone)
            heard.addTimeout(TAKE_OVER, self.place.reactor)
            try:
                await heard
            except TimeoutError:
                self.log.warn("the former daemon has not confirmed that another one serves")
            line.close()

    def abandon(self) -> None:
        """It has failed; this process has let go of everything."""
        line, self._predecessor = self._predecessor, None
        if line is not None:
            line.close()

    # The old one

    async def hand(self, successor: ControlLine, limit: float) -> Serving | None:
        """Give the sockets, and wait.

        @param limit: seconds.
        @return: the lease of the new process, when it serves; L{None}: it is dead, and this one to go on.
        """
        sockets = {name: listener.pause() for name, listener in self._all().items() if listener.is_open}
        successor.send(Handed(tuple(sockets)), list(sockets.values()))
        for _ in range(int(min(limit, TAKE_OVER) / TICK)):
            try:
                message = await successor.receive(TICK)
            except TimeoutError:
                continue
            except ConnectionClosed:
                break
            if isinstance(message, Serving):
                # This confirms it.
                successor.close()
                return message
        else:
            self.log.error("the new daemon does not come up in time, and is killed")
            await self._kill(successor)
        return None

    async def _kill(self, successor: ControlLine) -> None:
        """After the signal it does nothing of its own any more, however long the kernel takes to bury it."""
        successor.kill_peer()
        for _ in range(int(TAKE_OVER / TICK)):
            if successor.is_gone:
                break
            await deferLater(self.place.reactor, TICK)

    def resume(self) -> None:
        """Accept clients again."""
        for listener in self._all().values():
            if listener.is_open:
                listener.resume()

    async def retire(self) -> None:
        """Give up the listeners, and send those that follow to the new process."""
        for listener in self._all().values():
            await listener.stop()
        for line in list(self._followers):
            line.close()

    # Who has the lease, to others

    def _dialled(self, line: ControlLine) -> None:
        serving = Deferred.fromCoroutine(self._serve(line))
        serving.addErrback(lambda failure: self.log.failure("another daemon was not answered", failure))

    async def _serve(self, line: ControlLine) -> None:
        try:
            message: Message = await line.receive(TAKE_OVER)
        except (ConnectionClosed, TimeoutError):
            line.close()
            return
        match message:
            case HandOver(node=node):
                self._asked(line, node)
            case Follow():
                await self._tell(line)
            case _:
                line.close()

    def _asked(self, line: ControlLine, node: str) -> None:
        try:
            if self.holder is None:
                raise Unavailable("Server is starting")
            if node not in ("", self.place.node):
                # None of the VMs here would be its own by its rows, and it would end them.
                raise Unavailable(f"it is the node {self.place.node}, and the new one is {node}: mend nodename")
            self.holder.hand_over(line)
        except QVDError as error:
            line.send(Refused(error.text))
            line.close()

    async def _tell(self, line: ControlLine) -> None:
        self._followers.add(line)
        line.gone.addCallback(lambda _: self._left(line))
        while line in self._followers:
            standing = None if self.holder is None else self.holder.standing()
            news = NoLease("the lease of the new daemon is over") if standing is None else standing
            line.send(self._dismissed or news)
            await deferLater(self.place.reactor, NEWS)

    def _left(self, line: ControlLine) -> None:
        self._followers.discard(line)
        if self.holder is not None:
            self.holder.look_for_strays()

    async def dismiss(self, reason: str) -> None:
        """The node is being stopped: so must be those that follow. One that is just dialling is heard, too."""
        self._dismissed = End(reason)
        for line in list(self._followers):
            line.send(self._dismissed)
        until = self.place.reactor.seconds() + self.farewell
        while self.others() and self.place.reactor.seconds() < until:
            await deferLater(self.place.reactor, TICK)

    @property
    def is_head(self) -> bool:
        """This process is the one that the others follow."""
        return self.control.is_open and self._predecessor is None


@frozen
class ControlPart:
    """The socket that other processes of this node dial: the node starts it last and stops it first."""

    succession: Succession

    async def start(self) -> None:
        await self.succession.control.start()

    async def stop(self) -> None:
        if self.succession.is_head:
            await self.succession.dismiss("The node is being stopped")
        await self.succession.control.stop()
