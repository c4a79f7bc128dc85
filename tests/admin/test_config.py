"""Configuration: acceptance points 20 and 21."""

from __future__ import annotations

from typing import Any

import psycopg2.errors
import pytest
from attrs import evolve

from qvd.admin.resources.configuration import Configuration
from qvd.admin.settings import LoginSettings, value_of
from qvd.interfaces.logins import Lifetime
from qvd.model.configuration import EXPIRING_DAYS, KEYS, MULTITENANT, Key, Level, Type
from qvd.model.declared import Principal
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

DAYS, MULTI = f"/config/{EXPIRING_DAYS}", f"/config/{MULTITENANT}"
SECRET = Key(name="trial.secret", type=Type.TEXT, default="", text="t", read_by="tests", secret=True)
ON_HOSTS = Key(name="trial.host", type=Type.TEXT, default="built in", text="t", read_by="tests", levels=tuple(Level))


@pytest.fixture
def more_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret, and one that may be set for nodes: nothing reads such keys yet."""
    monkeypatch.setattr(Configuration, "keys", (*KEYS, SECRET, ON_HOSTS))


def alone(principal: Principal) -> Principal:
    """The same one, where there is a single tenant."""
    return evolve(principal, multitenant=False)


def days(reply: Any) -> tuple[Any, ...]:
    return tuple(reply.body[name] for name in ("value", "source", "default", "is_default"))


@pytest.mark.acceptance(21)
@asynchronous
async def test_the_nearest_value_counts_and_resetting_returns_to_the_wider_one(api: ApiWorld) -> None:
    assert days(await api.call(api.anna, "GET", DAYS)) == (30, "built-in", 30, True)
    assert days(await api.call(api.boss, "PUT", DAYS, {"value": 20})) == (20, "global", 30, False)
    assert days(await api.call(api.anna, "GET", DAYS)) == (20, "global", 20, True)
    assert days(await api.call(api.anna, "PUT", DAYS, {"value": 10})) == (10, "tenant", 20, False)
    assert days(await api.call(api.rick, "GET", DAYS)) == (20, "global", 20, True)
    assert days(await api.call(api.boss, "GET", f"{DAYS}?tenant_id={api.acme}")) == (10, "tenant", 20, False)
    assert await value_of(api.pool, EXPIRING_DAYS, api.acme) == 10
    assert await value_of(api.pool, EXPIRING_DAYS) == 20
    assert days(await api.call(api.anna, "DELETE", DAYS)) == (20, "global", 20, True)
    assert days(await api.call(api.boss, "DELETE", DAYS)) == (30, "built-in", 30, True)
    assert api.ask("SELECT * FROM configs") == []
    assert [(each["action"], each["object_name"], each["before"], each["after"]) for each in api.trail()] == [
        ("config.set", EXPIRING_DAYS, {EXPIRING_DAYS: 30}, {EXPIRING_DAYS: 20}),
        ("config.set", EXPIRING_DAYS, {EXPIRING_DAYS: 20}, {EXPIRING_DAYS: 10}),
        ("config.reset", EXPIRING_DAYS, {EXPIRING_DAYS: 10}, {EXPIRING_DAYS: 20}),
        ("config.reset", EXPIRING_DAYS, {EXPIRING_DAYS: 20}, {EXPIRING_DAYS: 30}),
    ]


@pytest.mark.acceptance(21)
@asynchronous
async def test_who_may_set_what(api: ApiWorld) -> None:
    refused = await api.call(api.boss, "PUT", MULTI, {"value": False, "tenant_id": api.acme})
    assert (refused.status, refused.problem, refused.body["code"]) == (422, "not-overridable", 7382)
    # A tenant's administrator does not learn that there are tenants.
    for method, body in (("GET", None), ("PUT", {"value": False}), ("DELETE", None)):
        assert (await api.call(api.anna, method, MULTI, body)).status == 404
    assert [each["key"] for each in (await api.call(api.anna, "GET", "/config")).body["items"]] == [EXPIRING_DAYS]
    assert (await api.call(api.anna, "PUT", DAYS, {"value": 3, "tenant_id": api.rival})).problem == "unknown-attribute"
    assert (await api.call(api.anna, "GET", f"{DAYS}?tenant_id=-1")).problem == "unknown-attribute"
    for tenant_id in (0, 999999, -7):
        reply = await api.call(api.boss, "PUT", DAYS, {"value": 3, "tenant_id": tenant_id})
        assert reply.problem == "reference-not-found"
    nobody = api.with_only(api.anna, "log.see-main.")
    assert (await api.call(nobody, "GET", "/config")).problem == "forbidden"
    assert (await api.call(api.boss, "GET", "/config/path.storage.images")).status == 404
    assert api.ask("SELECT * FROM configs") == []


@asynchronous
async def test_values_are_checked(api: ApiWorld) -> None:
    for value in (0, 4000, "30", None, 1.5, True):
        reply = await api.call(api.boss, "PUT", DAYS, {"value": value})
        assert (reply.status, reply.problem) == (422, "invalid-value")
        assert reply.body["errors"][0]["pointer"] == f"/set/{EXPIRING_DAYS}"


@pytest.mark.acceptance(21)
@asynchronous
async def test_several_are_set_all_or_none(api: ApiWorld, more_keys: None) -> None:
    wrong = {"set": {EXPIRING_DAYS: 5, "no.such": 1, MULTITENANT: "x"}, "reset": ["trial.nothing"]}
    reply = await api.call(api.boss, "PATCH", "/config", wrong)
    assert reply.status == 422
    assert [each["pointer"] for each in reply.body["errors"]] == [
        "/set/no.such",
        f"/set/{MULTITENANT}",
        "/reset/0",
    ]
    several = await api.call(api.boss, "PATCH", "/config", {"set": {EXPIRING_DAYS: 5, MULTITENANT: False}})
    assert several.body["code"] == 7373
    assert api.ask("SELECT * FROM configs") == []
    body: dict[str, Any] = {"set": {EXPIRING_DAYS: 5, "trial.host": "x"}, "reset": ["trial.secret"]}
    tried = await api.call(api.boss, "PATCH", "/config", body | {"dry_run": True})
    assert [each["value"] for each in tried.body["items"]] == [5, "x", None]
    assert tried.body["dry_run"] and api.ask("SELECT * FROM configs") == []
    done = await api.call(api.boss, "PATCH", "/config", body)
    assert [each["value"] for each in done.body["items"]] == [5, "x", None]
    assert len(api.ask("SELECT * FROM configs")) == 2
    modified = await api.call(api.boss, "GET", "/config?modified=true")
    assert [each["key"] for each in modified.body["items"]] == [EXPIRING_DAYS, "trial.host"]
    twice = await api.call(api.boss, "PATCH", "/config", {"set": {EXPIRING_DAYS: 5}, "reset": [EXPIRING_DAYS]})
    assert twice.problem == "invalid-value"
    assert [each["outcome"] for each in api.trail()] == ["failed", "failed", "done", "done", "failed"]


@asynchronous
async def test_a_nodes_own_value(api: ApiWorld, more_keys: None) -> None:
    host = api.insert("hosts (name, address) VALUES ('node1', '127.0.0.1')")
    set_there = await api.call(api.boss, "PUT", "/config/trial.host", {"value": "here", "host_id": host})
    assert set_there.body["source"] == "host"
    assert (await api.call(api.boss, "GET", "/config/trial.host")).body["value"] == "built in"
    assert (await api.call(api.boss, "GET", f"/config/trial.host?host_id={host}")).body["value"] == "here"
    assert (await api.call(api.anna, "PUT", "/config/trial.host", {"value": "x", "host_id": host})).status == 422
    both = {"value": "x", "host_id": host, "tenant_id": api.acme}
    assert (await api.call(api.boss, "PUT", "/config/trial.host", both)).problem == "invalid-value"
    none = {"value": "x", "host_id": 999999}
    assert (await api.call(api.boss, "PUT", "/config/trial.host", none)).problem == "reference-not-found"


@pytest.mark.acceptance(6)
@asynchronous
async def test_a_secret_is_shown_nowhere(api: ApiWorld, more_keys: None) -> None:
    replies = [
        await api.call(api.boss, "PUT", "/config/trial.secret", {"value": "hunter2"}),
        await api.call(api.boss, "PATCH", "/config", {"set": {"trial.secret": "hunter2hunter2"}}),
        await api.call(api.boss, "PATCH", "/config", {"set": {"trial.secret": 2222, "trail.secret": "hunter2"}}),
        await api.call(api.boss, "GET", "/config/trial.secret"),
        await api.call(api.boss, "GET", "/config"),
        await api.call(api.boss, "GET", "/config/history"),
    ]
    assert [reply.status for reply in replies] == [200, 200, 422, 200, 200, 200]
    assert replies[3].body["is_set"] is True and replies[3].body["value"] is None
    assert "hunter2" not in str([reply.body for reply in replies]) + str(api.trail())
    assert api.ask("SELECT value FROM configs") == [{"value": "hunter2hunter2"}]


@asynchronous
async def test_history(api: ApiWorld) -> None:
    for value in (1, 2, 3):
        await api.call(api.anna, "PUT", DAYS, {"value": value})
    await api.call(api.boss, "PUT", DAYS, {"value": 7, "tenant_id": api.acme})
    await api.call(api.boss, "PUT", DAYS, {"value": 8})
    await api.call(api.rick, "PUT", DAYS, {"value": 9})
    await api.call(api.boss, "PATCH", "/config", {"set": {EXPIRING_DAYS: 99}, "dry_run": True})
    mine = (await api.call(api.anna, "GET", f"/config/history?key={EXPIRING_DAYS}")).body
    assert [(each["administrator_name"], each["after"][EXPIRING_DAYS]) for each in mine["items"]] == [
        ("administrator of the installation", 7),
        ("anna", 3),
        ("anna", 2),
        ("anna", 1),
    ]
    assert mine["next"] is None and "tenant_id" not in mine["items"][0]
    first = (await api.call(api.boss, "GET", "/config/history?limit=4")).body
    assert [each["administrator_name"] for each in first["items"]] == ["rick", "boss", "boss", "anna"]
    rest = (await api.call(api.boss, "GET", f"/config/history?limit=4&cursor={first['next']}")).body
    assert [each["after"][EXPIRING_DAYS] for each in rest["items"]] == [2, 1]
    assert (await api.call(api.anna, "GET", f"/config/history?key={MULTITENANT}")).status == 404
    reader = api.with_only(api.anna, "config.qvd.")
    assert (await api.call(reader, "GET", "/config/history")).problem == "forbidden"


@pytest.mark.acceptance(20)
@asynchronous
async def test_back_to_a_single_tenant(api: ApiWorld) -> None:
    refused = await api.call(api.boss, "PUT", MULTI, {"value": False})
    assert (refused.status, refused.body["code"]) == (409, 7373)
    assert refused.body["tenants"] == [{"id": api.acme, "name": "acme"}, {"id": api.rival, "name": "rival"}]
    assert await value_of(api.pool, MULTITENANT) is True
    api.ask("DELETE FROM administrators WHERE tenant_id = %s", api.rival)
    api.ask("DELETE FROM tenants WHERE id = %s", api.rival)
    done = await api.call(api.boss, "PUT", MULTI, {"value": False})
    assert (done.status, done.body["value"]) == (200, False), done.body
    with pytest.raises(psycopg2.errors.CheckViolation, match="single tenant"):
        api.insert("tenants (name) VALUES ('third')")
    # Now what was the installation's is the only tenant's administrators'.
    anna = alone(api.anna)
    assert (await api.call(anna, "PUT", DAYS, {"value": 5})).body["source"] == "global"
    assert {"tenant_id": -1, "key": EXPIRING_DAYS, "value": 5} in api.ask("SELECT tenant_id, key, value FROM configs")
    assert (await api.call(anna, "PUT", DAYS, {"value": 5, "tenant_id": api.acme})).problem == "unknown-attribute"
    seen = (await api.call(anna, "GET", "/config/history")).body["items"]
    assert [each["administrator_name"] for each in seen] == ["anna", "boss"]
    back = await api.call(anna, "PUT", MULTI, {"value": True})
    assert back.status == 200
    assert api.insert("tenants (name) VALUES ('third')")


@asynchronous
async def test_no_single_tenant_without_any(api: ApiWorld) -> None:
    api.ask("DELETE FROM administrators WHERE tenant_id > 0")
    api.ask("DELETE FROM tenants WHERE id > 0")
    assert (await api.call(api.boss, "PUT", MULTI, {"value": False})).problem == "several-tenants"


@asynchronous
async def test_what_logins_read(api: ApiWorld) -> None:
    read = LoginSettings(api.pool)
    assert (await read.multitenant(), await read.lifetime()) == (True, Lifetime(1800, 43200, 300))
    await api.call(api.boss, "PATCH", "/config", {"set": {"api.session.idle": 600, "api.session.fresh": 60}})
    assert await read.lifetime() == Lifetime(600, 43200, 60)
    assert (await api.call(api.anna, "PUT", "/config/api.session.idle", {"value": 100})).status == 404
    assert (await api.call(api.boss, "PUT", "/config/api.session.idle", {"value": 1})).problem == "invalid-value"
