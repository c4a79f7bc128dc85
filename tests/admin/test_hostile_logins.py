"""What somebody with bad intentions tries with logins, sessions, tokens and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from qvd.admin.login.codes import STEP
from qvd.admin.replies import KeptReplies
from qvd.auth.local import Argon2Hasher
from qvd.db.replies import Replies
from tests.admin.canary import CANARY
from tests.admin.logins import Client
from tests.admin.server import Server
from tests.admin.test_login import PASSWORD, logged_in
from tests.admin.test_mfa import enrolled, seconds
from tests.admin.test_tokens import made
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, spawn

KEY = {"Idempotency-Key": "one"}


@asynchronous
async def test_a_session_that_somebody_else_chose_is_never_used(logins: ApiWorld) -> None:
    """Fixation: before the login, and with a session of the one who does it."""
    victim = Client(logins, cookie="chosen-by-somebody-else")
    assert (await victim.log_in("anna", "acme", PASSWORD)).status == 200
    assert victim.cookie != "chosen-by-somebody-else"
    rick = await logged_in(logins, "rick", "rival")
    planted = rick.cookie
    victim = Client(logins, cookie=planted)
    assert (await victim.log_in("anna", "acme", PASSWORD)).status == 200
    assert victim.cookie != planted
    # What was planted is nobody's now, least of all anna's.
    assert (await Client(logins, cookie=planted, csrf=rick.csrf).call("GET", "/me")).problem == "session-expired"


@asynchronous
async def test_a_failed_login_ends_no_session(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    before = client.cookie
    assert (await client.log_in("anna", "acme", "wrong")).status == 401
    assert client.cookie == before and (await client.call("GET", "/users")).status == 200


@asynchronous
async def test_the_csrf_token_of_another_session(logins: ApiWorld) -> None:
    one, other = await logged_in(logins), await logged_in(logins)
    mixed = Client(logins, cookie=one.cookie, csrf=other.csrf)
    assert (await mixed.call("POST", "/users", {"name": "x"})).problem == "csrf"
    # A token in the header is no excuse for a cookie that comes with it, and takes its place altogether.
    program, _ = await made(logins, one, "user.see*")
    both = Client(logins, cookie=one.cookie, csrf=one.csrf, token=program.token)
    assert (await both.call("POST", "/users", {"name": "x"})).problem == "forbidden"


@asynchronous
async def test_one_code_two_logins_at_a_time(logins: ApiWorld) -> None:
    _, totp, codes = await enrolled(logins)

    async def attempt(otp: str, number: int) -> int:
        client = Client(logins, address=f"192.0.2.{number}")
        return int((await client.log_in("anna", "acme", PASSWORD, otp=otp)).status)

    for code in (totp.at(seconds(logins)), codes[0]):
        found = await gatherResults([spawn(attempt(code, number)) for number in range(10, 14)])
        # Too few failures for anybody to wait.
        assert sorted(found) == [200, 401, 401, 401]


@asynchronous
async def test_a_code_that_was_used_to_log_in_proves_nothing_later(logins: ApiWorld) -> None:
    _, totp, _ = await enrolled(logins)
    client, code = Client(logins), totp.at(seconds(logins))
    assert (await client.log_in("anna", "acme", PASSWORD, otp=code)).status == 200
    for method, path, body in (
        ("POST", "/auth/reauthenticate", {"password": PASSWORD, "otp": code}),
        ("PUT", "/me/password", {"current": PASSWORD, "new": "a much better one", "otp": code}),
    ):
        assert (await client.call(method, path, body)).problem == "invalid-credentials"
    later = totp.at(seconds(logins) + STEP)
    assert (await client.call("POST", "/auth/reauthenticate", {"password": PASSWORD, "otp": later})).status == 200


@asynchronous
async def test_a_second_factor_ends_sessions_that_were_opened_without_it(logins: ApiWorld) -> None:
    thief = await logged_in(logins)
    owner, _, _ = await enrolled(logins)
    assert (await owner.call("GET", "/users")).status == 200
    assert (await thief.call("GET", "/users")).problem == "session-expired"


@asynchronous
async def test_kept_answers_are_not_told_to_who_may_see_less(logins: ApiWorld) -> None:
    logins.services.replies = KeptReplies(Replies(logins.pool))
    logins.services.login.authority.held |= {"user.update.block"}  # type: ignore[attr-defined]
    client = await logged_in(logins)
    program, _ = await made(logins, client, "user.create.")
    body = {"name": "alice"}
    whole = await client.call("POST", "/users", body, KEY)
    assert whole.status == 201 and "blocked" in whole.body
    assert (await program.call("POST", "/users", body, KEY)).problem == "idempotency-mismatch"
    assert (await client.call("POST", "/users", body, KEY)).body == whole.body
    # A token finds its own.
    first = await program.call("POST", "/users", {"name": "bob"}, {"Idempotency-Key": "two"})
    again = await program.call("POST", "/users", {"name": "bob"}, {"Idempotency-Key": "two"})
    assert (first.status, first.body) == (again.status, again.body) and "blocked" not in first.body
    rick = await logged_in(logins, "rick", "rival")
    assert (await rick.call("POST", "/users", body, KEY)).body["id"] != whole.body["id"]


@asynchronous
async def test_a_password_in_the_query_string_is_written_nowhere(api: ApiWorld) -> None:
    """As clients of QVD 4.2 send it (defect A2)."""
    for path in (f"/auth/login?login=anna&password={CANARY}", f"/users?password={CANARY}&token={CANARY}"):
        reply = await api.call(None, "POST", path, {"name": "anna", "password": "x"})
        assert reply.status in (400, 401) and CANARY not in str(reply)
    assert len(api.trail()) == 2 and CANARY not in str(api.trail())
    assert api.trail()[0]["arguments"]["password"] == "***"


@asynchronous
async def test_waits_do_not_tell_names_where_there_is_one_tenant(logins: ApiWorld) -> None:
    """The tenant need not be named there: it must not matter whether somebody's name leads to it."""
    logins.ask("DELETE FROM administrators WHERE name = 'rick'")
    logins.ask("DELETE FROM tenants WHERE id = %s", logins.rival)
    logins.services.login.policy.has_tenants = False  # type: ignore[attr-defined]
    for name in ("anna", "nobody"):
        await Client(logins).log_in(name, "", "wrong")
    counted = logins.ask("SELECT kind, failures FROM login_attempts ORDER BY kind, failures")
    assert [(each["kind"], each["failures"]) for each in counted] == [
        ("account", 1),
        ("account", 1),
        ("address", 2),
        ("pair", 1),
        ("pair", 1),
        ("tenant", 2),
    ]


@asynchronous
async def test_guesses_by_another_door_count_as_well(logins: ApiWorld) -> None:
    """Whoever has a session guesses the password no more often than whoever has none."""
    client = await logged_in(logins)
    doors: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/auth/reauthenticate", {"password": "wrong"}),
        ("PUT", "/me/password", {"current": "wrong", "new": "a much better one"}),
        ("POST", "/auth/login", {"name": "anna", "tenant": "acme", "password": "wrong"}),
    ]
    statuses = [(await client.call(*doors[number % 3])).status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    assert (await client.call("POST", "/auth/reauthenticate", {"password": PASSWORD})).status == 429


@pytest.mark.acceptance(8)
@pytest.mark.acceptance(10)
@asynchronous
async def test_headers_change_nothing_about_who_waits(api: ApiWorld, tmp_path: Path) -> None:
    """Over the wire: what a client says of where it comes from is not believed."""
    hasher = Argon2Hasher(api.services.reactor, workers=1)
    hasher.start()
    stored = await hasher.hash(PASSWORD)
    hasher.stop()
    await deferToThread(hasher.join)
    api.ask("UPDATE administrators SET password = %s WHERE name = 'anna'", stored)
    server = Server(api.dsn, tmp_path)
    await server.start()

    async def attempt(password: str, **headers: str) -> Any:
        body = f'{{"name": "anna", "tenant": "acme", "password": "{password}"}}'.encode()
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return await server.ask("POST", "/api/v1/auth/login", body, sent)

    try:
        statuses = []
        for number in range(6):
            address = f"198.51.100.{number}"
            reply = await attempt(
                "wrong",
                X_Forwarded_For=address,
                X_Real_IP=address,
                Forwarded=f"for={address}",
                True_Client_IP=address,
                Cookie=f"__Host-qvd={number}",
            )
            statuses.append(reply.status)
        assert statuses == [401] * 5 + [429]
        assert int(reply.headers["Retry-After"]) > 0
        assert (await attempt(PASSWORD)).status == 429
        api.ask("DELETE FROM login_attempts")
        good = await attempt(PASSWORD)
    finally:
        await server.stop()
    assert good.status == 200
    name, *attributes = good.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-qvd=")
    assert set(attributes) == {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"}
    assert "Access-Control-Allow-Origin" not in good.headers and good.headers["Cache-Control"] == "no-store"
    assert {each["client_address"] for each in api.trail()} == {"127.0.0.1"}
