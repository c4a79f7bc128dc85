"""L{qvd.db.connection.Link} against a real server: what libpq does to its socket, and the reactor's view of it."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFDSet

from qvd.db.connection import Address, Link
from qvd.model.errors import DatabaseUnavailable


def cut(link: Link) -> None:
    """As a server that is gone, and the reactor has no turn to see it."""
    with socket.socket(fileno=os.dup(link.pollable().fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


class Victim(Link):
    """Its session may end right after an answer."""

    cut_after = False

    def cursorFinished(self, cursor: Any) -> None:
        super().cursorFinished(cursor)
        if self.cut_after:
            cut(self)


@pytest.mark.parametrize("when", ["before a statement", "after an answer"])
@pytest_twisted.ensureDeferred
async def test_the_reactor_forgets_a_session_that_the_server_ended(empty_database: str, when: str) -> None:
    """libpq closes the socket by itself then, while the reactor still watches it: its number may be another's next."""
    readers = IReactorFDSet(reactor).getReaders
    watched, descriptors = set(readers()), len(os.listdir("/proc/self/fd"))
    gone: list[str] = []
    link = Victim(reactor, lambda _, reason: gone.append(reason), heard=lambda channel, payload: None)
    await link.open(Address(empty_database, 5, "qvd"))
    if when == "after an answer":
        link.cut_after = True
    else:
        cut(link)
    with pytest.raises(DatabaseUnavailable):
        await link.run("SELECT 1")
    assert len(gone) == 1
    assert (set(readers()), len(os.listdir("/proc/self/fd"))) == (watched, descriptors)

    # The next connection probably has the same number for its socket.
    again = Link(reactor, lambda _, reason: gone.append(reason))
    await again.open(Address(empty_database, 5, "qvd"))
    assert await again.fetch("SELECT 1 AS one") == [{"one": 1}]
    again.discard("the test is over")
    assert (set(readers()), len(os.listdir("/proc/self/fd"))) == (watched, descriptors)
