# -*- test-case-name: tests.contract.test_sim_run -*-
"""Simulated users: they log in, wait for their desktop, work, and leave; they try again when it goes wrong."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from qvd.protocols.http1 import RemoteProtocolError, Response, ResponseReader, encode_request
from qvd.sim.scenario import Patience
from qvd.sim.wires import Outside, Wire, greeting

ANSWER_SECONDS = 15.0
"""So long a client waits for the first answer before it tries another node."""
REFUSED_SECONDS = 0.5
WISHES = (
    ("qvd.client.keyboard", "pc105/us"),
    ("qvd.client.os", "linux"),
    ("qvd.client.link", "lan"),
    ("qvd.client.geometry", "1024x768"),
)
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "QVD/1.0"))


class NoDesktop(Exception):
    """It went wrong. @ivar status: of HTTP; 0 where there was no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Dial(Protocol):
    """Connects a client to some node. Gives the wire and the node's name. Raises C{ConnectionRefusedError}."""

    def __call__(self, outside: Outside, rng: Random) -> tuple[Wire, str]: ...


@frozen
class Person:
    """A user and the VM that is his or hers."""

    user_id: int
    vm_id: int
    tenant: str

    @property
    def token(self) -> str:
        """What the database has the hash of."""
        return f"sim-{self.user_id}"


@define
class Visit:
    """One try to get a desktop. Times are the world's seconds.

    @ivar news: what the client was told, and when.
    @ivar desktop_at: when NX began.
    @ivar status: of HTTP, where it brought none; 0 where there was no answer.
    @ivar cut_off: it was over before the user wanted it to be.
    """

    person: Person
    node: str
    asked_at: float
    news: list[tuple[float, str]] = field(factory=list)
    desktop_at: float | None = None
    failed_at: float | None = None
    status: int = 0
    reason: str = ""
    cut_off: bool = False


class Terminal:
    """The client's end of one connection."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._reader = ResponseReader(65536, 1 << 20)
        self._waiter: Deferred[None] | None = None
        self._nx: deque[bytes] = deque()
        self._switched = False
        self.gone = False
        self.wire: Wire

    def received(self, data: bytes) -> None:
        if self._switched:
            self._nx.append(data)
        else:
            self._reader.feed(data)
        self._wake()

    def lost(self) -> None:
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    async def _more(self, seconds: float) -> None:
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        waiter.addTimeout(seconds, self._clock)
        try:
            await waiter
        finally:
            self._waiter = None

    async def response(self, seconds: float) -> Response:
        """The next one. @raise NoDesktop: none came."""
        while True:
            try:
                found = self._reader.next_response()
            except RemoteProtocolError as error:
                raise NoDesktop(0, f"Not understood: {error}") from None
            if found is not None:
                return found
            if self.gone:
                raise NoDesktop(0, "The connection was closed")
            try:
                await self._more(seconds)
            except TimeoutError:
                raise NoDesktop(0, "No answer") from None

    def switch(self) -> None:
        """What comes from now on is NX."""
        self._switched = True
        if rest := self._reader.take_rest():
            self._nx.append(rest)

    async def nx(self, seconds: float) -> bytes | None:
        """Some bytes of the X session; L{None} after C{seconds}, or when the connection is gone."""
        if not self._nx and not self.gone:
            try:
                await self._more(seconds)
            except TimeoutError:
                return None
        return self._nx.popleft() if self._nx else None


class UserDay:
    """One user's day.

    @param done: called with each visit, once it is known whether it brought a desktop.
    @param wrong: called when the desktop was somebody else's.
    """

    def __init__(
        self,
        clock: IReactorTime,
        person: Person,
        patience: Patience,
        dial: Dial,
        rng: Random,
        done: Callable[[Visit], None],
        wrong: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._person = person
        self._patience = patience
        self._dial = dial
        self._rng = rng
        self._done = done
        self._wrong = wrong

    async def live(self, delay: float, session: float) -> None:
        """@param delay: seconds until the log-in; C{session}: how long the user works."""
        await deferLater(self._clock, delay)
        left, tries = session, 0
        while left > 0 and tries <= self._patience.retries:
            visit = await self._try(left)
            if visit.desktop_at is not None:
                if not visit.cut_off:
                    return
                left -= self._clock.seconds() - visit.desktop_at
                tries = 0
            tries += 1
            await deferLater(self._clock, self._rng.uniform(0.5, 1.0) * self._patience.pause)

    async def _connect(self, terminal: Terminal) -> str:
        """Some node that takes the connection."""
        while True:
            try:
                terminal.wire, node = self._dial(terminal, self._rng)
                return node
            except ConnectionRefusedError:
                await deferLater(self._clock, REFUSED_SECONDS)

    async def _try(self, session: float) -> Visit:
        terminal = Terminal(self._clock)
        node = await self._connect(terminal)
        visit = Visit(self._person, node, self._clock.seconds())
        try:
            await self._ask(terminal, visit)
        except NoDesktop as failure:
            visit.failed_at, visit.status, visit.reason = self._clock.seconds(), failure.status, failure.reason
            self._done(visit)
        else:
            self._done(visit)
            visit.cut_off = await self._work(terminal, visit, session)
        finally:
            terminal.wire.hang_up()
        return visit

    def _request(self, path: str, query: tuple[tuple[str, str], ...], headers: tuple[tuple[str, str], ...]) -> bytes:
        bearer = b64encode(self._person.token.encode()).decode()
        return encode_request("GET", path, query, (("Authorization", f"Bearer {bearer}"), *headers))

    async def _ask(self, terminal: Terminal, visit: Visit) -> None:
        terminal.wire.send(self._request("/qvd/list_of_vm", (), ()))
        listed = await terminal.response(ANSWER_SECONDS)
        if listed.head.status != 200:
            raise NoDesktop(listed.head.status, listed.body.decode(errors="replace").strip())
        visit.asked_at = self._clock.seconds()
        query = (("id", str(self._person.vm_id)), *WISHES)
        terminal.wire.send(self._request("/qvd/connect_to_vm", query, UPGRADE))
        until = visit.asked_at + self._patience.waits
        while True:
            response = await terminal.response(max(until - self._clock.seconds(), 0.0))
            match response.head.status:
                case 102:
                    visit.news.append((self._clock.seconds(), response.head.header("X-QVD-VM-Info") or ""))
                case 101:
                    visit.desktop_at = self._clock.seconds()
                    return
                case status:
                    raise NoDesktop(status, response.body.decode(errors="replace").strip())

    async def _work(self, terminal: Terminal, visit: Visit, session: float) -> bool:
        """@return: it was ended by somebody else."""
        terminal.switch()
        until = self._clock.seconds() + session
        expected = greeting(self._person.vm_id)
        said = b""
        while len(said) < len(expected) and (more := await terminal.nx(ANSWER_SECONDS)) is not None:
            said += more
        if said and not expected.startswith(said[: len(expected)]):
            self._wrong(f"VM {self._person.vm_id}: its client was given {said[:80]!r}")
        terminal.wire.send(b"typing\n")
        while not terminal.gone and (left := until - self._clock.seconds()) > 0:
            await terminal.nx(left)
        return terminal.gone
