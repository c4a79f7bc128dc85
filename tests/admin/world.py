"""The API of a test: its operations called as the server calls them, by principals that the test makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg2
import psycopg2.extras
from attrs import define, evolve
from twisted.internet import reactor

from qvd.admin.api import all_endpoints
from qvd.admin.call import Answer, Call
from qvd.admin.dispatch import Dispatcher
from qvd.admin.endpoint import Endpoint
from qvd.admin.imagework import ImageWork
from qvd.admin.places import ImagePlaces
from qvd.admin.services import Services
from qvd.admin.site import encode
from qvd.db.changes import Audit, Changes
from qvd.db.hostorders import HostOrders
from qvd.db.imagetags import ImageTags
from qvd.db.jobs import Jobs
from qvd.db.orders import Orders
from qvd.db.pool import Pool
from qvd.db.records import Records
from qvd.db.roles import Roles
from qvd.db.statistics import Statistics
from qvd.doctor.findings import Finding
from qvd.doctor.report import Report
from qvd.interfaces import ITransaction
from qvd.model.declared import SUPERTENANT, Principal
from qvd.model.placement import Weights
from tests.admin import conforms
from tests.admin.logins import login_ports


class EveryAcl(frozenset[str]):
    """Whoever has it holds all permissions."""

    def __contains__(self, name: object) -> bool:
        return True


@define
class TestGate:
    """Lets in whom the test names."""

    __test__ = False
    principal: Principal | None = None

    async def identify(self, call: Call) -> Principal | None:
        return self.principal

    def check_origin(self, call: Call) -> None:
        """All calls are from here."""

    def check_site(self, call: Call) -> None:
        """Nor from a page."""


class OpenThrottle:
    async def admit(self, call: Call) -> None:
        """As often as they like."""


class NoReplies:
    """Keeps nothing."""

    async def find(self, principal: Principal, key: str, digest: bytes) -> Answer | None:
        return None

    def keeper(self, principal: Principal, key: str, digest: bytes) -> Any:
        async def keep(result: Any, tx: ITransaction) -> None:
            """Nothing."""

        return keep


class FastHasher:
    """Takes no time, and hides the password as well as a test needs it."""

    async def hash(self, password: str) -> str:
        return f"hash of {len(password)} characters"

    async def verify(self, stored: str | None, password: str) -> bool:
        return stored == await self.hash(password)


class TestDoctor:
    """Says what the test wants to hear."""

    __test__ = False

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = ()

    async def report(self) -> tuple[Mapping[str, Any], float]:
        return Report(self.findings).document(), 0.0


@define
class Reply:
    """An answer as a client gets it."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def problem(self) -> str:
        """Name of the problem."""
        return str(self.body["type"]).removeprefix("/problems/")


def reply_of(answer: Answer) -> Reply:
    """As it goes over the wire."""
    text = b"" if answer.body is None else answer.body if isinstance(answer.body, bytes) else encode(answer.body)
    return Reply(answer.status, json.loads(text) if text and "json" in answer.media else text, answer.headers)


class ApiWorld:
    """Tenants C{acme} and C{rival}, and an administrator over all.

    @ivar acme: id of that tenant. C{rival} likewise.
    @ivar people: administrators by id, as they are by now.
    @ivar boss: over all tenants. C{anna} is of acme, C{rick} of rival. All hold all permissions.
    """

    def __init__(self, dsn: str, options: str = "", deadline: float = 10.0) -> None:
        """@param options: of the pool's sessions, as C{psql} takes them."""
        self._admin = psycopg2.connect(dsn)
        self._admin.autocommit = True
        self.dsn = dsn
        self.pool = Pool(
            reactor,
            psycopg2.extensions.make_dsn(dsn, user="qvd_api", options=options),
            size=4,
            deadline=deadline,
            rng=Random(1),
        )
        self.people: dict[int, Principal] = {}
        self.acme = self.insert("tenants (name) VALUES ('acme')")
        self.rival = self.insert("tenants (name) VALUES ('rival')")
        self.boss = self.administrator("boss", SUPERTENANT, "*", superadmin=True)
        self.anna = self.administrator("anna", self.acme, "acme")
        self.rick = self.administrator("rick", self.rival, "rival")
        self.gate, self.doctor = TestGate(), TestDoctor()
        audit = Audit()
        self.services = Services(
            database=self.pool,
            records=Records(self.pool),
            roles=Roles(self.pool),
            changes=Changes(self.pool, audit),
            audit=audit,
            hasher=FastHasher(),  # type: ignore[arg-type]
            orders=Orders(self.pool, Weights(), lambda: 0.5),
            gate=self.gate,
            throttle=OpenThrottle(),
            replies=NoReplies(),
            statistics=Statistics(self.pool),
            principals=self,
            jobs=Jobs(self.pool),
            host_orders=HostOrders(self.pool),
            reactor=reactor,
            image_tags=ImageTags(),
            image_work=ImageWork(reactor),
            login=login_ports(self.pool),
            doctor=self.doctor,
        )
        self.dispatcher = Dispatcher(self.services)
        self.endpoints = all_endpoints()

    def keep_images(self, folder: Path) -> ImageWork:
        """Have folders of images; whoever calls stops what comes back."""
        places = ImagePlaces(images=folder / "images", staging=folder / "staging")
        for name in ("images", "staging"):
            (folder / name).mkdir()
        work = ImageWork(reactor)
        work.start()
        self.services.places, self.services.image_work = places, work
        return work

    async def close(self) -> None:
        await self.pool.stop()
        self._admin.close()

    def reconnect(self) -> None:
        """After the server was restarted."""
        self._admin.close()
        self._admin = psycopg2.connect(self.dsn)
        self._admin.autocommit = True

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """As the superuser."""
        with self._admin.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def insert(self, sql: str, *values: object) -> int:
        return int(self.ask(f"INSERT INTO {sql} RETURNING id", *values)[0]["id"])

    def administrator(self, name: str, tenant_id: int, tenant: str, superadmin: bool = False) -> Principal:
        """Make one who holds all permissions."""
        made = self.insert("administrators (tenant_id, name, password) VALUES (%s, %s, '')", tenant_id, name)
        self.people[made] = Principal(
            administrator_id=made,
            name=name,
            tenant_id=tenant_id,
            tenant_name=tenant,
            superadmin=superadmin,
            multitenant=True,
            acls=EveryAcl(),
            session=sha256(name.encode()).hexdigest(),
            fresh=True,
        )
        return self.people[made]

    async def now(self, administrator_id: int | None, at_most: frozenset[str]) -> Principal | None:
        """Administrators as their jobs see them: L{people}."""
        return None if administrator_id is None else self.people.get(administrator_id)

    def with_only(self, principal: Principal, *acls: str) -> Principal:
        """The same one, holding only these."""
        return evolve(principal, acls=frozenset(acls))

    async def call(
        self,
        principal: Principal | None,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Call an operation as the server does.

        @param path: below C{/api/v1}, with its query string.
        """
        endpoint, parameters = self.find(method, path.partition("?")[0])
        self.gate.principal = principal
        raw = b"" if body is None else msgspec.json.encode(body)
        call = self.make_call(endpoint, parameters, path, headers or {})
        answer = await self.dispatcher.dispatch(call, raw)
        text = b"" if answer.body is None else answer.body if isinstance(answer.body, bytes) else encode(answer.body)
        conforms.check(endpoint, answer, text)
        return reply_of(answer)

    def make_call(self, endpoint: Endpoint, parameters: dict[str, str], path: str, headers: Mapping[str, str]) -> Call:
        from urllib.parse import parse_qsl

        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(path.partition("?")[2], keep_blank_values=True):
            query.setdefault(name, []).append(value)
        return Call(
            endpoint=endpoint,
            services=self.services,
            request_id="test",
            client_address="127.0.0.1",
            method=endpoint.method,
            uri=f"/api/v1{path}",
            path=parameters,
            query=query,
            headers={name.lower(): value for name, value in headers.items()},
        )

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """The operation at a path; those without parameters first."""
        for endpoint in sorted(self.endpoints, key=lambda each: each.path.count("{")):
            pattern = re.sub(r"\{([a-z_]+)\}", r"(?P<\1>[^/]+)", endpoint.path)
            found = re.fullmatch(pattern, path)
            if endpoint.method == method and found:
                return endpoint, found.groupdict()
        raise AssertionError(f"there is no {method} {path}")

    def trail(self) -> list[dict[str, Any]]:
        """The audit trail."""
        return [row["entry"] for row in self.ask("SELECT entry FROM audit ORDER BY id")]


@contextmanager
def as_principals(world: ApiWorld) -> Iterator[Callable[..., Any]]:
    """Calls by principals that the test makes, in a world whose gate is the real one otherwise."""
    gate, world.services.gate = world.services.gate, world.gate
    try:
        yield world.call
    finally:
        world.services.gate = gate
