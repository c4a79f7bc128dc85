"""Programs that set up the network, with a shell in their place."""

from __future__ import annotations

from unittest.mock import patch

import psutil
import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from qvd.hkd.network import commands
from qvd.hkd.network.commands import run
from qvd.model.errors import PermanentError, TransientError
from tests.fakes.asynchronous import asynchronous, until


async def sh(script: str, given: str = "") -> str:
    return await run(reactor, ["sh", "-c", script], given)  # type: ignore[arg-type]


def sleepers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "sleep"]


@asynchronous
async def test_what_it_is_given_and_what_it_says() -> None:
    assert await sh("cat; echo done", "one\ntwo\n") == "one\ntwo\ndone\n"


@asynchronous
async def test_a_failure_says_what_the_program_said_first() -> None:
    with pytest.raises(TransientError, match=r"^sh: what is wrong$"):
        await sh("echo what is wrong >&2; echo where >&2; exit 1")
    with pytest.raises(TransientError, match="exit code 3"):
        await sh("exit 3")


@asynchronous
async def test_one_that_is_not_there() -> None:
    with pytest.raises(PermanentError, match="no-such-program is not installed"):
        await run(reactor, ["no-such-program"])  # type: ignore[arg-type]


@asynchronous
async def test_one_that_does_not_end_is_killed() -> None:
    with patch.object(commands, "SECONDS", 0.1), pytest.raises(TransientError, match="did not end"):
        await sh("exec sleep 1000")
    await until(lambda: sleepers() == [])


@asynchronous
async def test_one_that_nobody_waits_for_is_killed() -> None:
    running = Deferred.fromCoroutine(sh("exec sleep 1000"))
    await until(lambda: len(sleepers()) == 1)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await until(lambda: sleepers() == [])


@asynchronous
async def test_one_that_says_too_much_is_killed() -> None:
    with patch.object(commands, "LIMIT", 1000), pytest.raises(TransientError):
        await sh("exec cat /dev/zero")
