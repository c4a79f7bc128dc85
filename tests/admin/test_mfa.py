"""The second factor of administrators."""

from __future__ import annotations

import pyotp

from qvd.admin.login.codes import STEP
from tests.admin.logins import Client
from tests.admin.test_login import PASSWORD, logged_in
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


def seconds(world: ApiWorld) -> int:
    return int(world.ask("SELECT extract(epoch FROM now())::bigint AS now")[0]["now"])


async def enrolled(world: ApiWorld) -> tuple[Client, pyotp.TOTP, list[str]]:
    client = await logged_in(world)
    enrolment = await client.call("POST", "/me/mfa/totp")
    assert enrolment.status == 200, enrolment.body
    assert enrolment.body["uri"].startswith("otpauth://totp/QVD:anna%40acme?secret=" + enrolment.body["secret"])
    totp = pyotp.TOTP(enrolment.body["secret"])
    # The one before is within the leeway, and leaves the present one for the test.
    confirmed = await client.call("POST", "/me/mfa/totp/confirm", {"otp": totp.at(seconds(world) - STEP)})
    assert confirmed.status == 200, confirmed.body
    return client, totp, confirmed.body["recovery_codes"]


async def attempt(world: ApiWorld, otp: str | None) -> str:
    reply = await Client(world).log_in("anna", "acme", PASSWORD, otp=otp)
    return "" if reply.status == 200 else reply.problem


@asynchronous
async def test_codes(logins: ApiWorld) -> None:
    client, totp, _ = await enrolled(logins)
    assert (await client.call("GET", "/me/mfa")).body == {"totp": True, "recovery_codes_left": 10}
    assert await attempt(logins, None) == "otp-required"
    assert (await Client(logins).log_in("anna", "acme", "wrong", otp="000000")).problem == "invalid-credentials"
    now = seconds(logins)
    assert await attempt(logins, totp.at(now - 20 * STEP)) == "invalid-credentials"
    assert await attempt(logins, totp.at(now)) == ""
    # Used once, and not again; and nothing older than it.
    assert await attempt(logins, totp.at(now)) == "invalid-credentials"
    assert await attempt(logins, totp.at(now - STEP)) == "invalid-credentials"
    assert await attempt(logins, totp.at(now + STEP)) == ""
    assert totp.secret not in str(logins.trail())


@asynchronous
async def test_recovery_codes(logins: ApiWorld) -> None:
    client, _, codes = await enrolled(logins)
    assert len(set(codes)) == 10
    stored = logins.ask("SELECT hash FROM administrator_recovery_codes")
    assert len(stored) == 10
    assert await attempt(logins, codes[0].lower().replace("-", " ")) == ""
    assert await attempt(logins, codes[0]) == "invalid-credentials"
    assert await attempt(logins, "AAAA-AAAA-AAAA-AAAA") == "invalid-credentials"
    assert (await client.call("GET", "/me/mfa")).body["recovery_codes_left"] == 9
    assert codes[0] not in str(logins.trail())


@asynchronous
async def test_enrolment(logins: ApiWorld) -> None:
    client = await logged_in(logins)
    assert (await client.call("POST", "/me/mfa/totp/confirm", {"otp": "123456"})).problem == "conflict"
    first = (await client.call("POST", "/me/mfa/totp")).body["secret"]
    second = (await client.call("POST", "/me/mfa/totp")).body["secret"]
    assert first != second
    # What is not confirmed is not asked for.
    assert await attempt(logins, None) == ""
    stale = pyotp.TOTP(first).at(seconds(logins))
    assert (await client.call("POST", "/me/mfa/totp/confirm", {"otp": stale})).problem == "invalid-value"
    right = pyotp.TOTP(second).at(seconds(logins))
    assert (await client.call("POST", "/me/mfa/totp/confirm", {"otp": right})).status == 200
    assert (await client.call("POST", "/me/mfa/totp")).problem == "conflict"
    assert (await client.call("POST", "/auth/reauthenticate", {"password": PASSWORD})).problem == "otp-required"
    assert (await client.call("DELETE", "/me/mfa/totp")).status == 204
    assert (await client.call("DELETE", "/me/mfa/totp")).status == 404
    assert await attempt(logins, None) == ""


@asynchronous
async def test_needs_a_fresh_password(logins: ApiWorld) -> None:
    client, _, _ = await enrolled(logins)
    logins.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '6 minutes'")
    assert (await client.call("DELETE", "/me/mfa/totp")).problem == "reauthentication-required"
