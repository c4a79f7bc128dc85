"""Sessions, tokens, second factors and passwords of other administrators."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from qvd.model.acls import CATALOGUE
from qvd.model.shipped_roles import ROOT
from tests.admin.logins import Client
from tests.admin.test_login import PASSWORD, logged_in
from tests.admin.test_mfa import enrolled
from tests.admin.test_tokens import made
from tests.admin.world import ApiWorld, as_principals
from tests.fakes.asynchronous import asynchronous

SESSIONS, TOKENS, PASSWORDS = "session.manage.administrators", "token.manage.", "administrator.update.password"
OPERATIONS: tuple[tuple[str, str, str], ...] = (
    ("GET", "/sessions", SESSIONS),
    ("DELETE", "/sessions", SESSIONS),
    ("DELETE", f"/sessions/{'0' * 64}", SESSIONS),
    ("GET", "/tokens", TOKENS),
    ("DELETE", "/tokens", TOKENS),
    ("DELETE", "/tokens/1", TOKENS),
    ("GET", "/mfa", SESSIONS),
    ("DELETE", "/mfa", SESSIONS),
    ("POST", "/password/expire", PASSWORDS),
)


def of_anna(api: ApiWorld) -> str:
    return f"/administrators/{api.anna.administrator_id}"


@asynchronous
async def test_sessions(logins: ApiWorld) -> None:
    anna, other = await logged_in(logins), await logged_in(logins)
    with as_principals(logins) as call:
        found = (await call(logins.boss, "GET", f"{of_anna(logins)}/sessions")).body["items"]
        assert [(each["client_address"], each["client"]) for each in found] == [("192.0.2.1", "tests")] * 2
        path = f"{of_anna(logins)}/sessions/{found[0]['hash']}"
        assert (await call(logins.boss, "DELETE", path)).status == 204
        assert (await call(logins.boss, "DELETE", path)).problem == "not-found"
        assert (await call(logins.boss, "DELETE", f"{of_anna(logins)}/sessions/x")).problem == "not-found"
    assert (await other.call("GET", "/users")).problem == "session-expired"
    assert (await anna.call("GET", "/users")).status == 200
    rick = await logged_in(logins, "rick", "rival")
    with as_principals(logins) as call:
        assert (await call(logins.boss, "DELETE", f"{of_anna(logins)}/sessions")).status == 204
    assert (await anna.call("GET", "/users")).problem == "session-expired"
    assert (await rick.call("GET", "/users")).status == 200
    done = [each for each in logins.trail() if each["action"].startswith("administrator.close")]
    assert [each["outcome"] for each in done] == ["done", "denied", "denied", "done"]
    assert (done[-1]["before"], done[-1]["after"]) == ({"sessions": 1}, {"sessions": 0})
    assert {each["object_tenant_id"] for each in done if each["outcome"] == "done"} == {logins.acme}


@asynchronous
async def test_tokens(logins: ApiWorld) -> None:
    anna = await logged_in(logins)
    program, body = await made(logins, anna, "user.see*")
    second, _ = await made(logins, anna, "user.see*", name="second")
    with as_principals(logins) as call:
        found = (await call(logins.boss, "GET", f"{of_anna(logins)}/tokens")).body["items"]
        assert [(each["name"], each["scopes"]) for each in found] == [
            ("script", ["user.see*"]),
            ("second", ["user.see*"]),
        ]
        assert "token" not in found[0]
        assert (await call(logins.boss, "DELETE", f"{of_anna(logins)}/tokens/{body['id']}")).status == 204
        theirs = f"/administrators/{logins.rick.administrator_id}/tokens/{found[1]['id']}"
        assert (await call(logins.boss, "DELETE", theirs)).problem == "not-found"
    assert (await program.call("GET", "/users")).problem == "invalid-credentials"
    assert (await second.call("GET", "/users")).status == 200
    with as_principals(logins) as call:
        assert (await call(logins.boss, "DELETE", f"{of_anna(logins)}/tokens")).status == 204
    assert (await second.call("GET", "/users")).problem == "invalid-credentials"
    one, all_of_them = [each for each in logins.trail() if each["action"].startswith("administrator.delete-token")][::2]
    assert (one["kind"], one["object_name"], one["before"]["scopes"], one["after"]) == (
        "token",
        "script",
        ["user.see*"],
        None,
    )
    assert (all_of_them["before"], all_of_them["after"]) == ({"tokens": ["second"]}, {"tokens": []})


@asynchronous
async def test_a_lost_authenticator(logins: ApiWorld) -> None:
    anna, _, _ = await enrolled(logins)
    with as_principals(logins) as call:
        path = f"{of_anna(logins)}/mfa"
        assert (await call(logins.boss, "GET", path)).body == {"totp": True, "recovery_codes_left": 10}
        stale = evolve(logins.boss, fresh=False)
        assert (await call(stale, "DELETE", path)).problem == "reauthentication-required"
        assert (await call(logins.boss, "DELETE", path)).status == 204
        assert (await call(logins.boss, "DELETE", path)).problem == "not-found"
        assert (await call(logins.boss, "GET", path)).body == {"totp": False, "recovery_codes_left": 0}
    assert (await anna.call("GET", "/users")).problem == "session-expired"
    await logged_in(logins)


@asynchronous
async def test_another_password_is_due(logins: ApiWorld) -> None:
    anna = await logged_in(logins)
    program, _ = await made(logins, anna, "*")
    with as_principals(logins) as call:
        assert (await call(logins.boss, "POST", f"{of_anna(logins)}/password/expire")).status == 204
    assert logins.trail()[-1]["before"] == {"must_change_password": False}
    assert (await anna.call("GET", "/users")).problem == "password-change-required"
    assert (await program.call("GET", "/users")).problem == "password-change-required"
    change = {"current": PASSWORD, "new": "a much better one"}
    assert (await anna.call("PUT", "/me/password", change)).status == 204
    assert (await anna.call("GET", "/users")).status == 200


@asynchronous
async def test_a_password_that_somebody_else_sets(logins: ApiWorld) -> None:
    """It takes the place of a one-time secret, also of one that is out of date."""
    logins.ask(
        "UPDATE administrators SET must_change_password = true, password_expires_at = now() - interval '1 hour'"
        " WHERE name = 'anna'"
    )
    path = f"{of_anna(logins)}/password"
    with as_principals(logins) as call:
        assert (await call(logins.boss, "PUT", path, {"password": "set by boss"})).status == 204
    client = Client(logins)
    assert (await client.log_in("anna", "acme", "set by boss")).body["must_change_password"] is False
    with as_principals(logins) as call:
        body = {"password": "for the first time", "must_change": True}
        assert (await call(logins.boss, "PUT", path, body)).status == 204
    assert (await client.call("GET", "/users")).problem == "session-expired"
    assert (await client.log_in("anna", "acme", "for the first time")).body["must_change_password"] is True
    assert (await client.call("GET", "/users")).problem == "password-change-required"


@pytest.mark.acceptance(2)
@pytest.mark.parametrize(("method", "below", "needed"), OPERATIONS)
@asynchronous
async def test_permissions(api: ApiWorld, method: str, below: str, needed: str) -> None:
    made = await api.call(api.anna, "POST", "/administrators", {"name": "ada", "password": "long enough"})
    path = f"/administrators/{made.body['id']}{below}"
    refused = await api.call(api.with_only(api.anna, *(CATALOGUE.keys() - {needed})), method, path)
    assert refused.problem == "forbidden"
    allowed = await api.call(api.with_only(api.anna, needed), method, path)
    assert allowed.status < 300 or allowed.problem == "not-found", allowed.body


@pytest.mark.acceptance(4)
@pytest.mark.parametrize(("method", "below", "needed"), OPERATIONS)
@asynchronous
async def test_nobody_reaches_who_may_do_more(api: ApiWorld, method: str, below: str, needed: str) -> None:
    body = {"name": "ada", "password": "long enough", "roles": [ROOT]}
    made = await api.call(api.anna, "POST", "/administrators", body)
    path = f"/administrators/{made.body['id']}{below}"
    weak = api.with_only(api.anna, needed)
    assert (await api.call(weak, method, path)).problem == "grants-more"
    if method != "GET":
        assert (api.trail()[-1]["action"].partition(".")[0], api.trail()[-1]["outcome"]) == ("administrator", "denied")


@pytest.mark.acceptance(3)
@pytest.mark.parametrize(("method", "below", "needed"), OPERATIONS)
@asynchronous
async def test_those_of_another_tenant_are_absent(api: ApiWorld, method: str, below: str, needed: str) -> None:
    there = await api.call(api.anna, method, f"/administrators/{api.rick.administrator_id}{below}")
    absent = await api.call(api.anna, method, f"/administrators/2000000000{below}")
    above = await api.call(api.anna, method, f"/administrators/{api.boss.administrator_id}{below}")
    assert there.problem == absent.problem == above.problem == "not-found"
    assert there.body["detail"] == absent.body["detail"] == above.body["detail"]


@asynchronous
async def test_a_token_does_not_make_its_account_its_own(api: ApiWorld) -> None:
    token = evolve(api.anna, by_token=True)
    bodies: dict[str, Any] = {"/password": {"password": "long enough"}}
    for method, below, _ in (*OPERATIONS, ("PUT", "/password", "")):
        if method != "GET":
            reply = await api.call(token, method, f"{of_anna(api)}{below}", bodies.get(below))
            assert reply.problem == "forbidden", below
