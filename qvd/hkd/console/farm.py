# -*- test-case-name: tests.unit.test_hkd_cli -*-
"""What all commands have: the farm's database, as the settings of a node name it."""

from __future__ import annotations

import getpass
import os
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from attrs import frozen

from qvd.db.parameters import database_parameters
from qvd.db.pool import Pool
from qvd.model.settings import Settings


@frozen
class Farm:
    """Where a command works.

    @ivar command: its name, for the database's list of connections.
    """

    reactor: Any
    settings: Settings
    command: str

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Pool]:
        """One connection.

        @raise DatabaseUnavailable: the server does not answer.
        """
        deadline = self.settings.seconds("database.timeout")
        parameters = database_parameters(self.settings)
        pool = Pool(self.reactor, parameters, 1, deadline, Random(), f"qvd-node {self.command}")
        try:
            await pool.start()
            yield pool
        finally:
            await pool.stop()


def who(farm: Farm) -> str:
    """Who gives the command, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}, qvd-node {farm.command}"


Command = Callable[[Farm, Namespace], Awaitable[str]]
"""Does what was asked and returns what to print, or raises L{qvd.model.errors.QVDError}. Each command's parser has one
as its default C{run}."""
