"""The own account: profile, password, permissions, sessions."""

from __future__ import annotations

from tests.admin.logins import Client
from tests.admin.test_login import PASSWORD, logged_in
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_profile(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    mine = await client.call("GET", "/me")
    assert (mine.body["name"], mine.body["page_size"], mine.body["totp"]) == ("anna", None, False)
    change = {"language": "es", "page_size": 25, "description": "x", "time_zone": "Europe/Madrid", "theme": "dark"}
    changed = await client.call("PATCH", "/me", change)
    assert changed.status == 200 and change.items() <= changed.body.items()
    session = await client.call("GET", "/auth/session")
    assert (session.body["language"], session.body["page_size"]) == ("es", 25)
    assert (await client.call("PATCH", "/me", {"page_size": None})).body["page_size"] is None
    assert (await client.call("PATCH", "/me", {})).status == 200
    for wrong in ({"name": "x"}, {"theme": "pink"}, {"time_zone": "a b"}, {"page_size": 0}, {"description": "\0"}):
        assert (await client.call("PATCH", "/me", wrong)).status == 422
    row = next(each for each in logins.trail() if each["action"] == "me.update")
    assert (row["before"]["theme"], row["after"]["theme"], row["object_name"]) == ("auto", "dark", "anna")
    assert "password" not in row["after"]


@asynchronous
async def test_password(logins: ApiWorld) -> None:
    client, other = await logged_in(logins), await logged_in(logins)
    rick = await logged_in(logins, "rick", "rival")
    new = "correct horse battery"
    for wrong, kind in (
        ({"current": "not it", "new": new}, "invalid-credentials"),
        ({"new": new}, "missing-attribute"),
        ({"current": PASSWORD, "new": "short"}, "invalid-value"),
        ({"current": PASSWORD, "new": "aaaaaaaaaaaa"}, "invalid-value"),
        ({"current": PASSWORD, "new": "Qwertyuiop"}, "invalid-value"),
        ({"current": PASSWORD, "new": "I am Anna, hello"}, "invalid-value"),
        ({"current": PASSWORD, "new": PASSWORD}, "invalid-value"),
    ):
        assert (await client.call("PUT", "/me/password", wrong)).problem == kind
    assert (await client.call("PUT", "/me/password", {"current": PASSWORD, "new": new})).status == 204
    assert (await client.call("GET", "/users")).status == 200
    assert (await other.call("GET", "/users")).problem == "session-expired"
    assert (await rick.call("GET", "/users")).status == 200
    assert (await Client(logins).log_in("anna", "acme", PASSWORD)).status == 401
    assert (await Client(logins).log_in("anna", "acme", new)).status == 200
    assert new not in str(logins.trail()) and PASSWORD not in str(logins.trail())


@asynchronous
async def test_another_administrators_change_ends_all_sessions(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    logins.ask("UPDATE administrators SET password = 'other' WHERE name = 'anna'")
    assert (await client.call("GET", "/users")).problem == "session-expired"


@asynchronous
async def test_acls(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    assert (await client.call("GET", "/me/acls")).body == {
        "acls": ["user.create.", "user.see-main.", "user.see.block"],
    }


@asynchronous
async def test_sessions(logins: ApiWorld) -> None:
    client, second, third = [await logged_in(logins) for _ in range(3)]
    rick = await logged_in(logins, "rick", "rival")
    items = (await client.call("GET", "/me/sessions")).body["items"]
    assert [each["current"] for each in items] == [False, False, True]
    assert (items[0]["client_address"], items[0]["client"]) == ("192.0.2.1", "tests")
    assert (await client.call("DELETE", f"/me/sessions/{items[0]['hash']}")).status == 204
    assert (await third.call("GET", "/me")).problem == "session-expired"
    [foreign] = (await rick.call("GET", "/me/sessions")).body["items"]
    for absent in (foreign["hash"], items[0]["hash"], "0" * 64, "x", "0" * 63 + "G"):
        assert (await client.call("DELETE", f"/me/sessions/{absent}")).status == 404
    assert (await client.call("DELETE", "/me/sessions?others=true")).status == 204
    assert (await second.call("GET", "/me")).status == 401
    assert (await client.call("GET", "/me")).status == 200
    assert (await client.call("DELETE", "/me/sessions?others=maybe")).status == 400
    assert (await client.call("DELETE", "/me/sessions")).status == 204
    assert client.cookie == ""
    assert (await rick.call("GET", "/me")).status == 200
