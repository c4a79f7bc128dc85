"""Acceptance points 9, 19 and 20, with the parts that the service itself is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from qvd.admin.login.passwords import legacy_hash
from qvd.admin.settings import LoginSettings
from qvd.auth.local import Argon2Hasher
from qvd.db.roles import Authority
from qvd.model.acls import CATALOGUE
from qvd.model.configuration import EXPIRING_DAYS, MULTITENANT
from qvd.model.shipped_roles import BY_NAME, ROOT
from tests.admin.logins import Client, real_gate
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture
from tests.unit.test_model_acls import totals

ARGON2 = "$argon2id$"
DAYS, MULTI = f"/config/{EXPIRING_DAYS}", f"/config/{MULTITENANT}"


@asynchronous_fixture
async def real(api: ApiWorld) -> AsyncIterator[ApiWorld]:
    """Hashes, roles and settings as in production; all three administrators hold Root."""
    any_reactor: Any = reactor
    hasher = Argon2Hasher(any_reactor)
    hasher.start()
    ports = evolve(api.services.login, policy=LoginSettings(api.pool), authority=Authority(api.pool))
    api.services.hasher, api.services.login, api.services.gate = hasher, ports, real_gate(ports)
    for who in (api.anna, api.rick, api.boss):
        hashed = await hasher.hash(f"{who.name}'s password")
        api.ask("UPDATE administrators SET password = %s WHERE id = %s", hashed, who.administrator_id)
        api.ask("INSERT INTO administrator_roles VALUES (%s, %s, %s, -1)", who.administrator_id, who.tenant_id, ROOT)
    yield api
    hasher.stop()
    await deferToThread(hasher.join)


@pytest.mark.acceptance(9)
@asynchronous
async def test_hashes(real: ApiWorld) -> None:
    def stored(table: str, name: str) -> str:
        column = "login" if table == "users" else "name"
        return str(real.ask(f"SELECT password FROM {table} WHERE {column} = %s", name)[0]["password"])

    anna = Client(real)
    assert (await anna.log_in("anna", "acme", "anna's password")).status == 200
    new = {"name": "new", "password": "a good one 7"}
    made = await anna.call("POST", "/administrators", new)
    assert (made.status, (await anna.call("POST", "/users", new)).status) == (201, 201)
    path = f"/users/{real.ask('SELECT id FROM users')[0]['id']}/password"
    first = stored("users", "new")
    assert (await anna.call("PUT", path, {"password": "another one"})).status == 204
    assert all(each.startswith(ARGON2) for each in (first, stored("users", "new"), stored("administrators", "new")))
    assert stored("users", "new") != first
    old = legacy_hash("qvd1234", "old secret")
    real.ask("UPDATE administrators SET password = %s WHERE name = 'rick'", old)
    assert (await Client(real).log_in("rick", "rival", "wrong")).status == 401
    assert (await Client(real).log_in("rick", "rival", old)).status == 401
    real.services.hasher = None  # type: ignore[assignment]
    assert (await Client(real).log_in("rick", "rival", "")).status == 422, "nobody is asked about an empty password"
    real.services.hasher = hasher = Argon2Hasher(reactor)  # type: ignore[arg-type]
    hasher.start()
    try:
        assert stored("administrators", "rick") == old
        for _ in range(2):
            assert (await Client(real).log_in("rick", "rival", "old secret")).status == 200
            assert stored("administrators", "rick").startswith(ARGON2)
    finally:
        hasher.stop()
        await deferToThread(hasher.join)


async def acls_of(client: Client) -> set[str]:
    return set((await client.call("GET", "/me/acls")).body["acls"])


@pytest.mark.acceptance(20)
@asynchronous
async def test_the_two_modes(real: ApiWorld) -> None:
    tenants = {name for name in CATALOGUE if name.startswith("tenant.")}
    boss, anna = Client(real), Client(real)
    assert (await boss.log_in("boss", "*", "boss's password")).status == 200
    assert (await anna.log_in("anna", "", "anna's password")).status == 401, "a tenant must be named"
    assert (await anna.log_in("anna", "acme", "anna's password")).status == 200
    assert await acls_of(boss) == CATALOGUE.keys() and await acls_of(anna) == CATALOGUE.keys() - tenants
    assert len((await boss.call("GET", "/administrators")).body["items"]) == 3
    assert (await anna.call("PUT", DAYS, {"value": 5})).body["source"] == "tenant"
    assert (await boss.call("PUT", DAYS, {"value": 6})).body["source"] == "global"
    refused = await boss.call("PUT", MULTI, {"value": False})
    assert (refused.status, refused.body["code"]) == (409, 7373)
    assert [each["name"] for each in refused.body["tenants"]] == ["acme", "rival"]
    real.ask("DELETE FROM administrators WHERE name = 'rick'")
    real.ask("DELETE FROM tenants WHERE id = %s", real.rival)
    assert (await boss.call("PUT", MULTI, {"value": False})).status == 200
    assert (await boss.call("GET", "/administrators")).status == 401
    assert (await Client(real).log_in("boss", "*", "boss's password")).status == 401
    assert (await anna.log_in("anna", "", "anna's password")).status == 200
    assert await acls_of(anna) == CATALOGUE.keys() - tenants
    assert (await anna.call("GET", "/tenants")).status in (403, 404)
    assert (await anna.call("PUT", DAYS, {"value": 7})).body["source"] == "global"
    assert (await anna.call("PUT", MULTI, {"value": True})).status == 200
    assert (await Client(real).log_in("boss", "*", "boss's password")).status == 200


@pytest.mark.acceptance(19)
@asynchronous
async def test_totals_as_told(api: ApiWorld) -> None:
    """Of each shipped role, as many permissions of the original as it had there, through the API."""
    told = {}
    for name in totals():
        reply = await api.call(api.boss, "GET", f"/roles/{BY_NAME[name].role_id}/acls?view=effective")
        told[name] = sum(CATALOGUE[each["name"]].original for each in reply.body["items"])
    assert told == totals()
