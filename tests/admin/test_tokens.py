"""Tokens of the API."""

from __future__ import annotations

from typing import Any

from tests.admin.logins import Client
from tests.admin.test_login import logged_in
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


async def made(world: ApiWorld, client: Client, *scopes: str, name: str = "script") -> tuple[Client, dict[str, Any]]:
    row = world.ask("SELECT now() + interval '1 day' AS tomorrow")[0]
    body = {"name": name, "scopes": list(scopes), "expires_at": row["tomorrow"]}
    reply = await client.call("POST", "/me/tokens", body)
    assert reply.status == 201, reply.body
    return Client(world, token=reply.body["token"]), reply.body


@asynchronous
async def test_a_token(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    program, body = await made(logins, client, "user.see*", "user.create.", "vm.see-main.")
    assert body["token"].startswith("qvd_") and body["used_at"] is None
    # Neither cookie nor CSRF token.
    assert (await program.call("POST", "/users", {"name": "alice"})).status == 201
    assert (await program.call("GET", "/me/acls")).body["acls"] == [
        "user.create.",
        "user.see-main.",
        "user.see.block",
    ]
    narrow, _ = await made(logins, client, "user.see-main.", name="narrow")
    assert (await narrow.call("GET", "/me/acls")).body["acls"] == ["user.see-main."]
    assert (await narrow.call("POST", "/users", {"name": "bob"})).problem == "forbidden"
    listed = (await client.call("GET", "/me/tokens")).body["items"]
    assert [each["name"] for each in listed] == ["script", "narrow"]
    assert listed[0]["used_at"] and "token" not in listed[0]
    session = (await program.call("GET", "/auth/session")).body
    assert (session["name"], session["csrf_token"], session["fresh"]) == ("anna", None, False)
    stored = logins.ask("SELECT row_to_json(t)::text AS row FROM administrator_tokens t")
    assert body["token"] not in str(stored) and body["token"] not in str(logins.trail())


@asynchronous
async def test_what_tokens_may_not_do(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    program, body = await made(logins, client, "*")
    for method, path, sent in (
        ("POST", "/me/tokens", {"name": "x", "scopes": ["*"], "expires_at": body["expires_at"]}),
        ("PUT", "/me/password", {"current": "anna's password", "new": "a good new password"}),
        ("POST", "/auth/reauthenticate", {"password": "anna's password"}),
        ("POST", "/auth/logout", None),
        ("POST", "/me/mfa/totp", None),
        ("DELETE", "/me/mfa/totp", None),
        ("DELETE", "/me/sessions", None),
        ("DELETE", f"/me/tokens/{body['id']}", None),
    ):
        assert (await program.call(method, path, sent)).status == 403, path


async def dangerous_call(program: Client, world: ApiWorld) -> str:
    """Asks for something dangerous: to give rick a role that there is not, whom nobody of acme sees."""
    reply = await program.call("PUT", f"/administrators/{world.rick.administrator_id}/roles/1")
    return str(reply.problem)


@asynchronous
async def test_what_is_dangerous(logins: ApiWorld) -> None:
    """Programs do it with a scope that a person gave them, fresh, for a while."""
    logins.services.login.authority.held = frozenset({"administrator.update.assign-role"})  # type: ignore[attr-defined]
    client = await logged_in(logins)
    star, _ = await made(logins, client, "*", name="star")
    near, _ = await made(logins, client, "*", "dangerou*", "dangerous.", "dangerous*", name="near")
    narrow, _ = await made(logins, client, "dangerous", "user.see*", name="narrow")
    program, body = await made(logins, client, "dangerous", "administrator.*", name="dangerous")
    for each in (star, near):
        assert await dangerous_call(each, logins) == "reauthentication-required"
    # It gives no permission by itself.
    assert await dangerous_call(narrow, logins) == "forbidden"
    assert await dangerous_call(program, logins) == "not-found"
    assert (await program.call("GET", "/auth/session")).body["fresh"] is True
    assert "dangerous" not in (await program.call("GET", "/me/acls")).body["acls"]
    # What is the account's own stays a person's.
    for method, path, sent in (
        ("POST", "/me/tokens", {"name": "x", "scopes": ["*"], "expires_at": body["expires_at"]}),
        ("POST", "/me/mfa/totp", None),
        ("DELETE", "/me/mfa/totp", None),
        ("DELETE", f"/me/tokens/{body['id']}", None),
    ):
        assert (await program.call(method, path, sent)).problem == "forbidden", path
    logins.services.login.policy.dangerous = 0  # type: ignore[attr-defined]
    assert await dangerous_call(program, logins) == "reauthentication-required"


@asynchronous
async def test_who_gives_that_scope_and_for_how_long(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    later = logins.ask("SELECT now() + interval '25 hours' AS at")[0]["at"]
    body = {"name": "x", "scopes": ["*", "dangerous"], "expires_at": later}
    refused = await client.call("POST", "/me/tokens", body)
    assert (refused.problem, refused.body["errors"][0]["pointer"]) == ("invalid-value", "/expires_at")
    logins.services.login.policy.dangerous = 26 * 3600  # type: ignore[attr-defined]
    assert (await client.call("POST", "/me/tokens", body)).status == 201
    logins.services.login.policy.dangerous = 0  # type: ignore[attr-defined]
    refused = await client.call("POST", "/me/tokens", {**body, "name": "y"})
    assert (refused.problem, refused.body["errors"][0]["pointer"]) == ("invalid-value", "/scopes")
    logins.services.login.policy.dangerous = 26 * 3600  # type: ignore[attr-defined]
    logins.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '6 minutes'")
    assert (await client.call("POST", "/me/tokens", {**body, "name": "y"})).problem == "reauthentication-required"


@asynchronous
async def test_ends(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    program, body = await made(logins, client, "*")
    logins.ask("UPDATE administrator_tokens SET expires_at = now()")
    assert (await program.call("GET", "/users")).problem == "session-expired"
    logins.ask("UPDATE administrator_tokens SET expires_at = now() + interval '1 day'")
    assert (await program.call("GET", "/users")).status == 200
    logins.ask("UPDATE administrators SET blocked = true WHERE name = 'anna'")
    assert (await program.call("GET", "/users")).problem == "invalid-credentials"
    logins.ask("UPDATE administrators SET blocked = false WHERE name = 'anna'")
    client = await logged_in(logins)
    rick = await logged_in(logins, "rick", "rival")
    assert (await rick.call("DELETE", f"/me/tokens/{body['id']}")).status == 404
    assert (await client.call("DELETE", f"/me/tokens/{body['id']}")).status == 204
    assert (await program.call("GET", "/users")).problem == "invalid-credentials"


@asynchronous
async def test_refusals(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    _, body = await made(logins, client, "*")
    good = {"name": "other", "scopes": ["*"], "expires_at": body["expires_at"]}
    refused: list[dict[str, object]] = [
        {"scopes": []},
        {"scopes": ["USER"]},
        {"scopes": ["us*er"]},
        {"name": ""},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
    ]
    for wrong in refused:
        assert (await client.call("POST", "/me/tokens", {**good, **wrong})).status == 422, wrong
    assert (await client.call("POST", "/me/tokens", {**good, "name": "script"})).problem == "already-exists"
    logins.ask(
        "INSERT INTO administrator_tokens (administrator_id, name, hash, scopes, expires_at)"
        " SELECT %s, n::text, n::text::bytea, '{}', now() FROM generate_series(1, 49) n",
        logins.anna.administrator_id,
    )
    assert (await client.call("POST", "/me/tokens", good)).problem == "conflict"
    for header in ("Basic YTpi", "Bearer", "Bearer ", "Bearer qvd_nothing", "Bearer " + "x" * 500):
        reply = await Client(logins).call("GET", "/users", None, {"authorization": header})
        assert (reply.problem, reply.headers["WWW-Authenticate"]) == ("invalid-credentials", "Bearer")
