"""Ports: what the collection of garbage asks of the database and of the storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from zope.interface import Interface

from qvd.model.garbage import Key, Known, Mark, Thing


class IGarbage(Interface):
    """What the database knows of the storage. Time is its own. One node at a time collects; its right is a token."""

    async def installation() -> str:
        """Names this installation, for ever."""

    async def take(holder: str, seconds: float) -> str:
        """Get the right to collect, for so long; it is prolonged by each L{collect} and L{renew}.

        @param holder: who, for others that ask.
        @return: the token.
        @raise Conflict: somebody else has it.
        """

    async def renew(token: str, seconds: float) -> None:
        """@raise OwnershipLost: somebody else has it by now."""

    async def give_back(token: str) -> None:
        """No effect when somebody else has it by now."""

    async def known() -> Known:
        """All that things may belong to."""

    async def marks(storages: Collection[str]) -> Mapping[Key, Mark]:
        """The marks in these folders."""

    async def mark(things: Sequence[Thing]) -> None:
        """From now on they are without reference. Those that were marked before keep their time."""

    async def unmark(keys: Sequence[Key]) -> None:
        """They have one, or are no more."""

    async def collect(
        token: str, seconds: float, thing: Thing, age: float, move: Callable[[str], Awaitable[str]], cause: str
    ) -> bool:
        """Take one thing away, unless it has a reference by now, or its mark is gone or younger than C{age}.

        While C{move} works, what could refer to the thing cannot come into being, and no VM that it belongs to starts.
        @param seconds: prolongs the right to collect.
        @param move: given the date; takes the thing away, at once or not at all, and returns what it is called in the
            trash; empty: it is not there.
        @return: whether it was moved.
        @raise OwnershipLost: somebody else collects by now.
        """


class IStorage(Interface):
    """The folders of the storage. Nothing blocks the reactor, no symbolic link is followed, no mount is crossed.

    All of it raises L{TransientError} when the storage does not answer in time, and nothing is changed late then.
    """

    async def identify(installation: str, claim: bool) -> Collection[str]:
        """Make sure that the folders belong to this installation.

        @param claim: take those that belong to none.
        @return: the names of those that have one.
        @raise Conflict: one belongs to another installation.
        """

    async def things() -> Sequence[Thing]:
        """All that is there, and that QVD made."""

    async def size(thing: Thing) -> int | None:
        """Bytes on the disk; L{None}: that cannot be said."""

    async def trash(thing: Thing, date: str) -> str:
        """Move it to the trash. @return: its path there.

        @raise PermanentError: it must not be touched: it is locked, or is not what it should be.
        """

    async def doom(thing: Thing, date: str) -> str:
        """Move it to where nobody needs it any more, for L{remove}. @return: its path there.

        @raise PermanentError: as in L{trash}.
        """

    async def put_back(thing: Thing, path: str) -> None:
        """Undo L{trash} or L{doom}, which have returned this path. What was made in its place stays."""

    async def doomed() -> Sequence[Key]:
        """What waits there, from this run or one that was cut short."""

    async def remove(key: Key) -> None:
        """Remove it for good.

        @raise PermanentError: something is mounted in it, or the file system says no.
        """
