"""Nothing secret is where somebody reads it: logs, audit trail, problems, the database."""

from __future__ import annotations

import hashlib
from typing import Any

import pyotp
import pytest
from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from zope.interface import implementer, provider

from qvd.admin.replies import KeptReplies
from qvd.db.replies import Replies
from qvd.interfaces import IHasher
from tests.admin.logins import Client
from tests.admin.test_mfa import seconds
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@implementer(IHasher)
class DigestHasher:
    """Fast, and does hide."""

    async def hash(self, password: str) -> str:
        return "hash of " + hashlib.sha256(password.encode()).hexdigest()

    async def verify(self, stored: str | None, password: str) -> bool:
        return stored == await self.hash(password)


@define
class Canaries:
    """What must be nowhere.

    @ivar told: bodies of problems.
    """

    secrets: list[str] = field(factory=list)
    told: list[str] = field(factory=list)

    def note(self, reply: Any) -> Any:
        if reply.status >= 400:
            self.told.append(str(reply.body) + str(reply.headers))
        return reply

    def found_in(self, text: str) -> list[str]:
        # Binary columns show as hexadecimal digits.
        return [each for each in self.secrets if each in text or each.encode().hex() in text]


def dump(world: ApiWorld, *but: str) -> str:
    tables = world.ask(
        "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    texts = [world.ask(f"SELECT t::text AS text FROM {each['name']} t") for each in tables if each["name"] not in but]
    return str(texts)


@pytest.mark.acceptance(6)
@asynchronous
async def test_secrets(logins: ApiWorld) -> None:
    """Point 6 of the acceptance checklist, as far as logins go."""
    canaries, logged = Canaries(), list[str]()

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        logged.append(eventAsText(event) + repr(event))

    globalLogPublisher.addObserver(observe)
    try:
        await scenario(logins, canaries)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert len(canaries.secrets) > 20 and len(canaries.told) > 5
    assert canaries.found_in("".join(logged)) == []
    assert canaries.found_in("".join(canaries.told)) == []
    assert canaries.found_in(str(logins.trail())) == []
    assert canaries.found_in(dump(logins, "administrator_totp")) == []


async def scenario(world: ApiWorld, canaries: Canaries) -> None:
    """Everything that has to do with secrets, done right and wrong."""
    world.services.hasher = DigestHasher()
    world.services.replies = KeptReplies(Replies(world.pool))
    old, new, wrong = "canary-old-pass", "canary-new-pass", "canary-wrong-pass"
    canaries.secrets += [old, new, wrong]
    stored = await world.services.hasher.hash(old)
    world.ask("UPDATE administrators SET password = %s WHERE name = 'anna'", stored)
    client = Client(world)

    async def call(method: str, path: str, body: Any = None) -> Any:
        key = {"Idempotency-Key": f"{method}{path}{len(canaries.secrets)}"}
        reply = canaries.note(await client.call(method, path, body, key))
        canaries.secrets += [each for each in (client.cookie, client.csrf) if each and each not in canaries.secrets]
        return reply

    canaries.note(await client.log_in("anna", "acme", wrong, otp="canary-code"))
    canaries.secrets.append("canary-code")
    canaries.note(await client.call("POST", "/auth/login", {"name": "anna", "password": wrong, "pasword": wrong}))
    canaries.note(await client.call("POST", "/auth/login", {"name": "anna", "password": [wrong]}))
    assert (await client.log_in("anna", "acme", old)).status == 200
    await call("POST", "/auth/reauthenticate", {"password": wrong})
    await call("POST", "/auth/reauthenticate", {"password": old})
    await call("PUT", "/me/password", {"current": wrong, "new": new})
    await call("PUT", "/me/password", {"current": old, "new": wrong[:8]})
    assert (await call("PUT", "/me/password", {"current": old, "new": new})).status == 204
    expires = world.ask("SELECT now() + interval '1 day' AS at")[0]["at"]
    made = await call("POST", "/me/tokens", {"name": "t", "scopes": ["*"], "expires_at": expires})
    canaries.secrets.append(made.body["token"])
    await call("POST", "/me/tokens", {"name": "t", "scopes": ["*"], "expires_at": expires})
    program = Client(world, token=made.body["token"])
    canaries.note(await program.call("POST", "/users", {"name": "alice", "password": new}))
    canaries.note(await program.call("POST", "/users", {"name": "alice", "password": new}))
    enrolment = await call("POST", "/me/mfa/totp")
    canaries.secrets.append(enrolment.body["secret"])
    codes = await call("POST", "/me/mfa/totp/confirm", {"otp": pyotp.TOTP(enrolment.body["secret"]).at(seconds(world))})
    canaries.secrets += codes.body["recovery_codes"]
    canaries.note(await client.log_in("anna", "acme", new))
    assert (await client.log_in("anna", "acme", new, otp=codes.body["recovery_codes"][3])).status == 200
    canaries.note(await client.log_in("anna", "acme", new, otp=codes.body["recovery_codes"][3]))
    await call("GET", "/auth/session")
    await call("POST", "/auth/logout")
