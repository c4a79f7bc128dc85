"""The fixture of the API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.admin.canary import CANARY, no_canary_in_the_log
from tests.admin.desks import Desks
from tests.admin.listening import Listening
from tests.admin.logins import PlainHasher, real_gate
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous_fixture


@asynchronous_fixture
async def api(database: str, tmp_path: Path) -> AsyncIterator[ApiWorld]:
    made = ApiWorld(database)
    work = made.keep_images(tmp_path)
    await made.pool.start()
    yield made
    await work.stop()
    written = made.ask(
        "SELECT entry::text AS text FROM audit UNION ALL SELECT encode(body, 'escape') FROM replies"
        " UNION ALL SELECT jobs::text FROM jobs UNION ALL SELECT dis::text FROM dis"
    )
    await made.close()
    assert [row for row in written if CANARY in row["text"]] == []


@pytest.fixture
def desks(api: ApiWorld) -> Desks:
    return Desks(api)


@pytest.fixture
def listening(api: ApiWorld) -> Iterator[Listening]:
    made = Listening(api)
    yield made
    made.close()
    assert made.feed.streams == set()


@pytest.fixture
def logins(api: ApiWorld) -> ApiWorld:
    """The same with the real gate; C{anna}, C{rick} and C{boss} have passwords: C{anna's password} and so on."""
    api.services.gate = real_gate(api.services.login)
    for name in ("anna", "rick", "boss"):
        password = f"{name}'s password"
        api.ask("UPDATE administrators SET password = %s WHERE name = %s", f"hash of {password}", name)
    api.services.hasher = PlainHasher()
    return api


@pytest.fixture(autouse=True)
def secrets_are_not_logged() -> Iterator[None]:
    """Whatever a test does."""
    with no_canary_in_the_log():
        yield
