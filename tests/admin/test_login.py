"""Logging in: sessions, cookies, what the audit trail says of it."""

from __future__ import annotations

import string

import pytest
from attrs import evolve

from qvd.admin.login.passwords import legacy_hash
from qvd.admin.settings import LEGACY_SALT
from qvd.interfaces.logins import Lifetime
from tests.admin.logins import Client, real_gate
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

PASSWORD = "anna's password"


async def logged_in(world: ApiWorld, name: str = "anna", tenant: str = "acme") -> Client:
    client = Client(world)
    reply = await client.log_in(name, tenant, f"{name}'s password")
    assert reply.status == 200, reply.body
    return client


@pytest.mark.acceptance(8)
@asynchronous
async def test_a_session(logins: ApiWorld) -> None:
    client = Client(logins)
    reply = await client.log_in(" Anna ", "ACME", PASSWORD)
    assert reply.status == 200
    assert (reply.body["name"], reply.body["tenant_name"], reply.body["superadmin"]) == ("anna", "acme", False)
    name, *attributes = reply.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-qvd=") and len(name) > 50
    assert set(attributes) == {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"}
    session = await client.call("GET", "/auth/session")
    assert session.body == reply.body and session.body["fresh"] is True
    assert (await client.call("POST", "/users", {"name": "alice"})).status == 201
    [row] = logins.ask("SELECT encode(hash, 'escape') AS hash FROM administrator_sessions")
    assert client.cookie not in row["hash"]
    assert (await client.call("POST", "/auth/logout")).status == 204
    assert client.cookie == ""
    assert [(each["action"], each["administrator_name"]) for each in logins.trail()] == [
        ("auth.login", "anna"),
        ("user.create", "anna"),
        ("auth.logout", "anna"),
    ]


@asynchronous
async def test_nothing_of_a_login_is_repeated_by_an_ended_session(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    old = client.cookie
    await client.call("POST", "/auth/logout")
    client.cookie = old
    assert (await client.call("GET", "/users")).problem == "session-expired"


@asynchronous
async def test_failures_are_alike_and_in_the_audit_trail(logins: ApiWorld) -> None:
    client = Client(logins)
    wrong = await client.log_in("anna", "acme", "something else")
    unknown = await client.log_in("nobody", "acme", "something else")
    elsewhere = await client.log_in("anna", "rival", PASSWORD)
    odd = await client.log_in("an\x00na", "acme", PASSWORD)
    logins.ask("UPDATE administrators SET blocked = true WHERE name = 'rick'")
    blocked = await client.log_in("rick", "rival", "rick's password")
    assert [wrong.status, unknown.status, elsewhere.status, blocked.status] == [401] * 4
    assert odd.status == 422
    assert wrong.problem == "invalid-credentials"
    assert wrong.body == unknown.body == elsewhere.body == blocked.body
    assert wrong.headers == unknown.headers
    # Where there is nothing to compare with, the hasher is asked as well.
    assert [stored for stored, _ in logins.services.hasher.verified][1:3] == [None, None]  # type: ignore[attr-defined]
    trail = logins.trail()
    assert {(each["action"], each["outcome"]) for each in trail} == {("auth.login", "denied"), ("auth.login", "failed")}
    assert len(trail) == 5
    assert [each["object_name"] for each in trail[:3]] == ["anna", "nobody", "anna"]
    assert (trail[0]["object_tenant_id"], trail[1]["object_tenant_id"]) == (logins.acme, None)
    assert trail[0]["arguments"]["body"] == {"name": "anna", "tenant": "acme", "password": "***", "otp": None}
    assert trail[0]["client_address"] == "192.0.2.1" and trail[0]["administrator_id"] is None
    assert "something else" not in str(trail) and PASSWORD not in str(trail)


@asynchronous
async def test_blocks_act_at_once(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    logins.ask("UPDATE tenants SET blocked = true WHERE id = %s", logins.acme)
    assert (await client.call("GET", "/users")).problem == "tenant-blocked"
    assert (await Client(logins).log_in("anna", "acme", PASSWORD)).problem == "tenant-blocked"
    assert (await Client(logins).log_in("anna", "acme", "wrong")).problem == "invalid-credentials"
    logins.ask("UPDATE tenants SET blocked = false WHERE id = %s", logins.acme)
    assert (await client.call("GET", "/users")).status == 200
    logins.ask("UPDATE administrators SET blocked = true WHERE name = 'anna'")
    assert (await client.call("GET", "/users")).status == 401
    logins.ask("UPDATE administrators SET blocked = false WHERE name = 'anna'")
    assert (await client.call("GET", "/users")).problem == "session-expired"
    client = await logged_in(logins)
    logins.services.login.authority.held = frozenset()  # type: ignore[attr-defined]
    assert (await client.call("GET", "/users")).problem == "forbidden"


@asynchronous
async def test_idle_and_absolute_end(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    logins.ask("UPDATE administrator_sessions SET used_at = now() - interval '29 minutes'")
    assert (await client.call("GET", "/users")).status == 200
    # Reading moved the end, and only where it was far enough to be worth a write.
    [row] = logins.ask("SELECT now() - used_at < interval '1 minute' AS moved FROM administrator_sessions")
    assert row["moved"]
    logins.ask("UPDATE administrator_sessions SET used_at = now() - interval '31 minutes'")
    assert (await client.call("GET", "/users")).problem == "session-expired"
    client = await logged_in(logins)
    logins.ask("UPDATE administrator_sessions SET created_at = now() - interval '12 hours 1 second'")
    assert (await client.call("GET", "/users")).problem == "session-expired"
    await logged_in(logins)
    assert len(logins.ask("SELECT hash FROM administrator_sessions")) == 1


@asynchronous
async def test_rotation(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    first, csrf = client.cookie, client.csrf
    logins.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '6 minutes'")
    assert (await client.call("GET", "/auth/session")).body["fresh"] is False
    body = {"name": "script", "scopes": ["*"], "expires_at": "2099-01-01T00:00:00Z"}
    assert (await client.call("POST", "/me/tokens", body)).problem == "reauthentication-required"
    assert (await client.call("POST", "/auth/reauthenticate", {"password": "wrong"})).status == 401
    again = await client.call("POST", "/auth/reauthenticate", {"password": PASSWORD})
    assert again.status == 200 and again.body["fresh"] is True
    assert client.cookie != first and client.csrf != csrf
    old = Client(logins, cookie=first, csrf=csrf)
    assert (await old.call("GET", "/users")).status == 401
    await client.log_in("anna", "acme", PASSWORD)
    assert len(logins.ask("SELECT hash FROM administrator_sessions")) == 1


@pytest.mark.acceptance(8)
@asynchronous
async def test_foreign_pages(logins: ApiWorld) -> None:
    """Point 8 of the acceptance checklist; the cookie's attributes are in L{test_a_session}."""
    client = await logged_in(logins)
    body = {"name": "alice"}
    good = {"origin": "https://api.example", "sec-fetch-site": "same-origin"}
    for headers in (
        {"x-csrf-token": ""},
        {"x-csrf-token": "0" * 64},
        {"x-csrf-token": "ñ"},
        {"origin": "https://evil.example"},
        {"origin": "http://api.example"},
        {"origin": "null"},
        {"origin": "https://api.example:99999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert (await client.call("POST", "/users", body, {**good, **headers})).problem == "csrf", headers
    assert (await client.call("POST", "/users", body, good)).status == 201
    login = {"name": "anna", "tenant": "acme", "password": PASSWORD}
    assert (await Client(logins).call("POST", "/auth/login", login, {"sec-fetch-site": "cross-site"})).status == 403
    logins.services.gate = evolve(logins.services.gate, origins=frozenset({"https://panel.example"}))  # type: ignore[misc]
    there = {"origin": "https://panel.example", "sec-fetch-site": "cross-site"}
    assert (await client.call("POST", "/users", {"name": "bob"}, there)).status == 201


@pytest.mark.acceptance(9)
@asynchronous
async def test_legacy_hashes(logins: ApiWorld) -> None:
    """Point 9 of the acceptance checklist."""
    stored = legacy_hash(LEGACY_SALT, "old secret")
    assert len(stored) == 43
    logins.ask("UPDATE administrators SET password = %s WHERE name = 'anna'", stored)

    def now() -> str:
        return str(logins.ask("SELECT password FROM administrators WHERE name = 'anna'")[0]["password"])

    assert (await Client(logins).log_in("anna", "acme", "old secreT")).status == 401
    assert (await Client(logins).log_in("anna", "acme", "")).status == 422
    assert now() == stored
    # A legacy one takes as long as others.
    assert logins.services.hasher.verified == [(None, "old secreT")]  # type: ignore[attr-defined]
    assert (await Client(logins).log_in("anna", "acme", "old secret")).status == 200
    assert now() == "hash of old secret"
    assert (await Client(logins).log_in("anna", "acme", "old secret")).status == 200


@asynchronous
async def test_every_character(logins: ApiWorld) -> None:
    for password in (string.printable.strip() + " ", "contraseña 密码 🔑", "&#+%@ab"):
        logins.ask("UPDATE administrators SET password = %s WHERE name = 'anna'", f"hash of {password}")
        assert (await Client(logins).log_in("anna", "acme", password)).status == 200


@pytest.mark.acceptance(20)
@asynchronous
async def test_tenants_and_modes(logins: ApiWorld) -> None:
    boss = Client(logins)
    reply = await boss.log_in("boss", "*", "boss's password")
    assert (reply.status, reply.body["superadmin"]) == (200, True)
    assert (await Client(logins).log_in("anna", "", PASSWORD)).status == 401
    logins.services.login.policy.has_tenants = False  # type: ignore[attr-defined]
    assert (await boss.call("GET", "/users")).status == 401
    assert (await Client(logins).log_in("boss", "*", "boss's password")).status == 401
    # There are two, and nobody is searched for across them.
    assert (await Client(logins).log_in("anna", "", PASSWORD)).status == 401
    logins.ask("DELETE FROM administrators WHERE name = 'rick'")
    logins.ask("DELETE FROM tenants WHERE id = %s", logins.rival)
    anna = Client(logins)
    reply = await anna.log_in("anna", "", PASSWORD)
    assert (reply.status, reply.body["multitenant"]) == (200, False)
    assert (await Client(logins).call("GET", "/info")).body["multitenant"] is False


@asynchronous
async def test_a_one_time_secret(logins: ApiWorld) -> None:
    logins.ask(
        "UPDATE administrators SET must_change_password = true, password_expires_at = now() + interval '1 hour'"
        " WHERE name = 'anna'"
    )
    client = await logged_in(logins)
    assert (await client.call("GET", "/auth/session")).body["must_change_password"] is True
    assert (await client.call("GET", "/users")).problem == "password-change-required"
    assert (await client.call("PATCH", "/me", {"theme": "dark"})).problem == "password-change-required"
    assert (await client.call("GET", "/me")).body["must_change_password"] is True
    change = {"current": PASSWORD, "new": "a much better one"}
    assert (await client.call("PUT", "/me/password", change)).status == 204
    assert (await client.call("GET", "/users")).status == 200
    logins.ask("UPDATE administrators SET password_expires_at = now() WHERE name = 'anna'")
    assert (await Client(logins).log_in("anna", "acme", "a much better one")).status == 401


@asynchronous
async def test_sessions_are_bounded(logins: ApiWorld) -> None:
    for _ in range(23):
        await logged_in(logins)
    assert len(logins.ask("SELECT hash FROM administrator_sessions")) == 20


@asynchronous
async def test_lifetime_of_the_configuration(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    logins.services.login.policy.lasting = Lifetime(idle=60)  # type: ignore[attr-defined]
    logins.ask("UPDATE administrator_sessions SET used_at = now() - interval '61 seconds'")
    assert (await client.call("GET", "/users")).problem == "session-expired"


@pytest.mark.parametrize("cookie", ["__Host-qvd=", "__Host-qvd", "__Host-qvd=" + "a" * 300, '__Host-qvd="\\', "x=;;=="])
@asynchronous
async def test_broken_cookies(logins: ApiWorld, cookie: str) -> None:
    assert (await Client(logins).call("GET", "/users", None, {"cookie": cookie})).status == 401
    assert (await Client(logins).call("GET", "/info", None, {"cookie": cookie})).status == 200


@asynchronous
async def test_an_open_connection_is_no_use(logins: ApiWorld) -> None:
    """Whoever leaves a page open is away all the same."""
    client = await logged_in(logins)
    endpoint, parameters = logins.find("GET", "/users")
    call = logins.make_call(endpoint, parameters, "/users", {"cookie": f"__Host-qvd={client.cookie}"})
    logins.ask("UPDATE administrator_sessions SET used_at = now() - interval '20 minutes'")
    found = await real_gate(logins.services.login).recheck(call)
    assert found is not None and found.name == "anna"
    [row] = logins.ask("SELECT now() - used_at > interval '19 minutes' AS idle FROM administrator_sessions")
    assert row["idle"]
