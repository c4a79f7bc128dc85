"""A server with two tenants and a few desktops, and somebody who types commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from qvd.cli.session import Options
from tests.admin.conftest import api, desks
from tests.admin.desks import Desks
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.cli.gate import let_anna_in
from tests.cli.terminal import Terminal, terminal_of
from tests.fakes.asynchronous import asynchronous_fixture

__all__ = ["api", "desks"]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of the one who runs the tests is read or written."""
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("URL", "TOKEN", "TOKEN_FILE", "CA", "PROFILE", "TIMEOUT", "OUTPUT", "CONFIG"):
        monkeypatch.delenv(f"QVD_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    yield


@asynchronous_fixture
async def server(api: ApiWorld, tmp_path: Path) -> AsyncIterator[Server]:
    """It knows boss and anna by tokens of these names."""
    made = Server(api.dsn, tmp_path, {"boss": api.boss, "anna": api.anna})
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def anna(server: Server, desks: Desks, tmp_path: Path) -> Terminal:
    """Of acme, with alice's VM."""
    return terminal_of(tmp_path, server.url, server.ca_file, "anna")


@pytest.fixture
def boss(server: Server, desks: Desks, tmp_path: Path) -> Terminal:
    """Over all tenants."""
    (tmp_path / "boss").mkdir()
    return terminal_of(tmp_path / "boss", server.url, server.ca_file, "boss")


@asynchronous_fixture
async def gate(api: ApiWorld, tmp_path: Path) -> AsyncIterator[Server]:
    """It asks for anna's password."""
    let_anna_in(api)
    made = Server(api.dsn, tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def terminal(gate: Server, tmp_path: Path) -> Terminal:
    """Nobody is logged in there."""
    return Terminal(Options(config=tmp_path / "cli.toml"))
