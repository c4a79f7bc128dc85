"""The whole daemon in a test: its settings, its TLS port on loopback, and a client that checks its certificate."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, evolve
from psycopg2.extensions import parse_dsn
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from qvd.admin.call import Call
from qvd.admin.composition import Composition, Machine
from qvd.admin.problems import Problem
from qvd.admin.services import Services
from qvd.demo.installation import write_conf
from qvd.demo.tls import make_certificates
from qvd.model.declared import Principal
from qvd.model.settings_admin import parse_admin
from tests.fakes.asynchronous import until


@define
class HttpReply:
    """An answer from the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@define
class NamingGate:
    """Lets in whom a bearer token names: there is no login here."""

    principals: dict[str, Principal]

    async def identify(self, call: Call) -> Principal | None:
        given = call.headers.get("authorization", "")
        if not given:
            return None
        name = given.removeprefix("Bearer ")
        if name not in self.principals:
            raise Problem("invalid-credentials", "No such token", headers={"WWW-Authenticate": "Bearer"})
        return self.principals[name]

    def check_origin(self, call: Call) -> None:
        """All calls are from here."""

    def check_site(self, call: Call) -> None:
        """And none is from a page."""


class Server:
    """A daemon that runs in this process.

    @param principals: by the bearer tokens that let them in; L{None}: the daemon's own gate.
    @param settings: that differ from a test's.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path,
        principals: dict[str, Principal] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._tls = folder / "tls"
        make_certificates(self._tls)
        address = parse_dsn(dsn)
        table = {
            "database.host": address["host"],
            "database.port": int(address.get("port", 5432)),
            "database.name": address["dbname"],
            "admin.address": "127.0.0.1",
            "admin.port": 0,
            "admin.tls.cert": str(self._tls / "cert.pem"),
            "admin.tls.key": str(self._tls / "key.pem"),
            **(settings or {}),
        }
        conf = folder / "admin.conf"
        write_conf(conf, table)
        self.told: list[str] = []
        machine = Machine(
            reactor=reactor,
            random=Random(1),
            ready=lambda: self.told.append("ready"),
            failed=lambda: self.told.append("failed"),
        )
        change: Callable[[Services], Services] = lambda same: same  # noqa: E731
        if principals is not None:
            gate = NamingGate(principals)

            def change(services: Services) -> Services:
                return evolve(services, gate=gate)

        self.composition = Composition(parse_admin(table, str(conf)), machine, change)

    async def start(self) -> None:
        self.begin()
        await until(lambda: self.told, "the daemon is ready")
        assert self.told == ["ready"]

    def begin(self) -> None:
        self.composition.daemon.startService()

    def stop(self) -> Deferred[None]:
        return self.composition.daemon.stopService()

    @property
    def port(self) -> int:
        port: int = self.composition.listener._port.getHost().port
        return port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self._tls / "ca.pem"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Deferred[HttpReply]:
        """One request, in a connection of its own, beside the reactor."""
        return deferToThread(self._ask, method, path, body, dict(headers or {}))

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> HttpReply:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        line = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        try:
            line.request(method, path, body, headers)
            answer = line.getresponse()
            return HttpReply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            line.close()
