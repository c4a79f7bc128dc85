"""What becomes of calls when the database goes away, or says nothing, in the middle of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, pause, until
from tests.fakes.postgres import RealPostgres

HEADERS = {"Authorization": "Bearer anna", "Content-Type": "application/json"}
CALLS: Mapping[str, tuple[str, str, bytes | None]] = {
    "list": ("GET", "/users", None),
    "read": ("GET", "/users/{id}", None),
    "search": ("POST", "/users/search", b"{}"),
    "find": ("GET", "/search?q=ali", None),
    "statistics": ("GET", "/stats", None),
    "create": ("POST", "/users", b'{"name": "bob"}'),
    "change": ("PATCH", "/users/{id}", b'{"description": "new"}'),
    "delete": ("DELETE", "/users/{id}", None),
    "property": ("PUT", "/users/{id}/properties/desk", b'{"value": "new"}'),
    "bulk": ("POST", "/users/bulk", b'{"op": "block", "filter": {"field": "name", "op": "eq", "value": "alice"}}'),
}


def seed(api: ApiWorld) -> int:
    api.ask("INSERT INTO properties (tenant_id, key, kinds) VALUES (%s, 'desk', '{user}')", api.acme)
    return api.insert("users (tenant_id, login) VALUES (%s, 'alice')", api.acme)


def state(api: ApiWorld) -> Any:
    return api.ask("SELECT login, description, blocked FROM users ORDER BY id"), api.ask(
        "SELECT * FROM user_properties"
    )


@pytest.mark.parametrize("kind", CALLS)
@asynchronous
async def test_a_mute_database(api: ApiWorld, tmp_path: Path, kind: str) -> None:
    method, path, body = CALLS[kind]
    server = Server(api.dsn, tmp_path, {"anna": api.anna}, {"database.timeout": 0.7})
    user, changes = seed(api), method != "GET" and not path.endswith("/search")
    before = state(api)
    await server.start()
    try:
        api.ask("BEGIN")
        api.ask("LOCK TABLE users, user_properties")
        answer = await server.ask(method, f"/api/v1{path.format(id=user)}", body, HEADERS)
        api.ask("COMMIT")
        assert (answer.status, answer.document["type"]) == (503, "/problems/database-unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.document["detail"].startswith("The database did not answer within")
        # What the server was still to do for us, it gives up.
        await pause(0.3)
        assert state(api) == before
        assert [(row["outcome"], row["problem"]) for row in api.trail()] == (
            [("failed", "database-unavailable")] if changes else []
        )
        assert (await server.ask("GET", "/api/v1/users", headers=HEADERS)).status == 200
    finally:
        await server.stop()


@asynchronous
async def test_a_database_that_is_restarted(api: ApiWorld, tmp_path: Path, postgres: RealPostgres) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna})
    user = seed(api)
    before = state(api)
    await server.start()
    try:
        api.ask("BEGIN")
        api.ask("LOCK TABLE users, user_properties")
        answering = [
            server.ask(method, f"/api/v1{path.format(id=user)}", body, HEADERS) for method, path, body in CALLS.values()
        ]
        await until(lambda: server.composition.underway.count == len(CALLS), "all are being answered")
        postgres.stop()
        for each in answering:
            answer = await each
            assert (answer.status, answer.document["type"]) == (503, "/problems/database-unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        away = await server.ask("POST", "/api/v1/users", b'{"name": "bob"}', HEADERS)
        assert away.status == 503
        postgres.start()
        await until(lambda: server.composition.pool.available, "the database is back")
        api.reconnect()
        assert state(api) == before
        assert (await server.ask("GET", "/api/v1/users", headers=HEADERS)).status == 200
        assert not server.composition.underway.count
    finally:
        await server.stop()
