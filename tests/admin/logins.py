"""Administrators who log in: the real gate, and clients that keep cookies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import define, field
from zope.interface import implementer

from qvd.admin.login.gate import SessionGate
from qvd.admin.services import LoginPorts
from qvd.db.attempts import Attempts
from qvd.db.logins import Logins
from qvd.db.secondfactors import SecondFactors
from qvd.interfaces import IDatabase, IHasher
from qvd.interfaces.administration import IAuthority
from tests.admin.policy import FixedPolicy


@implementer(IAuthority)
@define
class FakeAuthority:
    """Everybody holds these."""

    held: frozenset[str] = frozenset({"user.see-main.", "user.create.", "user.see.block"})

    async def acls(self, administrator_id: int) -> frozenset[str]:
        return self.held

    async def multitenant(self) -> bool:
        return True


@implementer(IHasher)
@define
class PlainHasher:
    """Hides nothing, and takes no time.

    @ivar verified: what was compared with which password.
    """

    verified: list[tuple[str | None, str]] = field(factory=list)

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def verify(self, stored: str | None, password: str) -> bool:
        self.verified.append((stored, password))
        return stored == f"hash of {password}"


def login_ports(db: IDatabase) -> LoginPorts:
    """With the stores of the database, and fakes for the rest."""
    return LoginPorts(
        policy=FixedPolicy(),
        logins=Logins(db),
        second_factors=SecondFactors(db),
        attempts=Attempts(db),
        authority=FakeAuthority(),
    )


def real_gate(ports: LoginPorts) -> SessionGate:
    """As in production."""
    return SessionGate(ports.logins, ports.authority, ports.policy)


@define
class Client:
    """A browser, or a program with a token.

    @ivar world: an C{ApiWorld} whose gate is the real one.
    """

    world: Any
    address: str = "192.0.2.1"
    cookie: str = ""
    csrf: str = ""
    token: str = ""
    headers: dict[str, str] = field(factory=dict)

    async def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Call, and keep the cookie that comes."""
        from tests.admin.world import reply_of

        endpoint, parameters = self.world.find(method, path.partition("?")[0])
        sent = {"user-agent": "tests", "host": "api.example", **self.headers}
        if self.cookie:
            sent |= {"cookie": f"other=1; __Host-qvd={self.cookie}", "x-csrf-token": self.csrf}
        if self.token:
            sent["authorization"] = f"Bearer {self.token}"
        call = self.world.make_call(endpoint, parameters, path, {**sent, **(headers or {})})
        call.client_address = self.address
        raw = b"" if body is None else msgspec.json.encode(body)
        reply = reply_of(await self.world.dispatcher.dispatch(call, raw))
        given = reply.headers.get("Set-Cookie", "")
        if given:
            self.cookie = given.partition("=")[2].partition(";")[0]
        if reply.status == 200 and isinstance(reply.body, dict) and reply.body.get("csrf_token"):
            self.csrf = reply.body["csrf_token"]
        return reply

    async def log_in(self, name: str, tenant: str, password: str, **more: Any) -> Any:
        return await self.call("POST", "/auth/login", {"name": name, "tenant": tenant, "password": password, **more})
