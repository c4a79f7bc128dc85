"""The daemon of the administration, and an administrator over all tenants who calls it with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import psycopg2.extras
from twisted.internet.threads import deferToThread

from qvd.admin.login.proofs import TOKEN_MARK, digest, new_proof
from qvd.apiclient import Api
from tests.admin.server import Server
from tests.fakes.asynchronous import asynchronous_fixture

T = TypeVar("T")


class Installation:
    """A server on a database of its own, with C{root}, who may do everything.

    @ivar waited: seconds that clients would have waited.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        folder.mkdir(parents=True)
        self.images = folder / "images"
        self.images.mkdir()
        self.staging = folder / "staging"
        self.staging.mkdir()
        places = {"path.storage.images": str(self.images), "path.storage.staging": str(self.staging)}
        self.server = Server(dsn, folder, settings=places)
        self.waited: list[float] = []
        self.ask("INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'wat.multitenant', 'true')")
        self.token = self.administrator("root", 0, "Root")

    def administrator(self, name: str, tenant_id: int, role: str) -> str:
        """Make one. Returns a token."""
        proof = new_proof(TOKEN_MARK)
        [made] = self.ask(
            "INSERT INTO administrators (tenant_id, name, password) VALUES (%s, %s, '') RETURNING id", tenant_id, name
        )
        self.ask(
            "INSERT INTO administrator_roles (administrator_id, tenant_id, role_id, role_tenant_id)"
            " SELECT %s, %s, id, tenant_id FROM roles WHERE name = %s",
            made["id"],
            tenant_id,
            role,
        )
        self.ask(
            "INSERT INTO administrator_tokens (administrator_id, hash, name, scopes, expires_at)"
            " VALUES (%s, %s, 'test', '{*}', now() + interval '1 hour')",
            made["id"],
            digest(proof),
        )
        return proof.reveal()

    def ask(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of a statement."""
        with (
            psycopg2.connect(self.dsn) as connection,
            connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor,
        ):
            cursor.execute(sql, parameters)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def client(self, **more: Any) -> Api:
        """One that does not really wait."""
        given: dict[str, Any] = {"ca": self.server.ca_file, "token": self.token, "wait": self.waited.append} | more
        return Api(self.server.url, **given)

    async def run(self, work: Callable[[Api], T], **more: Any) -> T:
        """Work with a client, beside the reactor."""

        def whole() -> T:
            with self.client(**more) as api:
                return work(api)

        result: T = await deferToThread(whole)
        return result


@asynchronous_fixture
async def installation(database: str, tmp_path: Path) -> AsyncIterator[Installation]:
    made = Installation(database, tmp_path / "installation")
    await made.server.start()
    yield made
    await made.server.stop()
