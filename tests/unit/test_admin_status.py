"""The administration port: what is sent over the wire, and what is answered. There is no socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

from attrs import frozen
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from qvd.admin.status import StatusSite
from qvd.interfaces import IAdministrators, IHasher, INodeStatus
from qvd.model.errors import DatabaseUnavailable, Unavailable
from qvd.model.ids import HostId, SessionId, TenantId
from qvd.model.records import VM, Administrator, Desired, Guest, Lease
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.fakes.case import Case
from tests.fakes.client import request
from tests.fakes.conduct import Conduct
from tests.fakes.ownership import vm_row

VMS = "/api/v1/vms"
DONE: Failure = cast(Any, Failure)(ConnectionDone())


@implementer(INodeStatus)
class Node:
    """A node that says why it serves nobody."""

    def __init__(self) -> None:
        self.reason: str | None = None

    async def settled(self) -> None:
        raise NotImplementedError

    def lease(self) -> Lease:
        raise NotImplementedError

    def refusal(self) -> str | None:
        return self.reason


@implementer(IAdministrators, IHasher)
class Database:
    """Two administrators, each with a tenant, whose passwords are their own hashes."""

    def __init__(self, conduct: Conduct) -> None:
        self.conduct = conduct
        self.rows = {TenantId(1): [vm_row(1), vm_row(2)], TenantId(2): [vm_row(3)]}

    async def find(self, name: str) -> Administrator | None:
        await self.conduct.before("find", name)
        tenant = {"admin": TenantId(1), "other": TenantId(2)}.get(name)
        return None if tenant is None else Administrator(tenant, name, Secret(f"{name}'s"))

    async def vms(self, tenant_id: TenantId) -> Sequence[VM]:
        await self.conduct.before("vms", tenant_id)
        return self.rows[tenant_id]

    async def verify(self, stored: str | None, password: str) -> bool:
        await self.conduct.before("verify", stored, password)
        return stored == password

    async def hash(self, password: str) -> str:
        raise NotImplementedError


@frozen
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def says(self) -> Any:
        """The document that it holds."""
        assert self.headers["Content-Type"] == "application/json"
        assert self.headers["Cache-Control"] == "no-store"
        return json.loads(self.body)


def read(transport: Any) -> Answer:
    """What was written. twisted.web sends it in chunks, which the L7R's own reader does not know."""

    class Wire:
        def makefile(self, mode: str) -> BytesIO:
            return BytesIO(transport.value())

    response = HTTPResponse(cast(Any, Wire)())
    response.begin()
    return Answer(response.status, dict(response.getheaders()), response.read())


class StatusCase(Case):
    def setUp(self) -> None:
        self.conduct = Conduct()
        self.node = Node()
        self.database = Database(self.conduct)
        resource = StatusSite(self.node, self.database, self.database).router.resource()
        self.site: Any = cast(Any, Site)(resource, reactor=cast(Any, MemoryReactorClock)())

    def open(self, data: bytes) -> tuple[Any, Any]:
        """A connection on which C{data} was sent."""
        protocol, transport = self.site.buildProtocol(None), cast(Any, StringTransport)()
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        return protocol, transport

    def ask(self, target: str, *headers: str, login: str = "admin:admin's") -> Answer:
        return read(self.open(request(target, *headers, login=login))[1])


class HealthTests(StatusCase):
    def test_the_process_answers_whatever_the_node_does(self) -> None:
        for reason in (None, "Server is blocked"):
            self.node.reason = reason
            response = self.ask("/healthz", login="")
            assert (response.status, response.says()) == (200, {"status": "alive"})

    def test_a_node_that_serves_is_ready(self) -> None:
        response = self.ask("/readyz", login="")
        assert (response.status, response.says()) == (200, {"status": "ready"})

    def test_one_that_does_not_says_why(self) -> None:
        self.node.reason = "Server is blocked"
        response = self.ask("/readyz", login="")
        assert (response.status, response.says()) == (503, {"status": "Server is blocked"})

    def test_nobody_is_asked_for_it(self) -> None:
        self.ask("/healthz")
        self.ask("/readyz")
        assert self.conduct.calls == []

    def test_there_is_nothing_else(self) -> None:
        for target in ("/", "/healthz/x", "/api/v1/vms/1", "/api"):
            assert self.ask(target).status == 404
        for target in ("/healthz", "/readyz", VMS):
            posted = request(target, "Content-Length: 0").replace(b"GET", b"POST", 1)
            assert read(self.open(posted)[1]).status == 405
        assert self.conduct.calls == []


class LoginTests(StatusCase):
    def refused(self, *headers: str, login: str = "") -> None:
        response = self.ask(VMS, *headers, login=login)
        assert (response.status, response.says()) == (401, {"error": "Authentication failed"})
        assert response.headers["WWW-Authenticate"] == 'Basic realm="QVD administration"'
        assert self.conduct.count("vms") == 0

    def test_without_a_login(self) -> None:
        for headers in ((), ("Authorization: Bearer x",), ("Authorization: Basic %%%",), ("Authorization: Basic",)):
            self.refused(*headers)
        assert self.conduct.calls == []

    def test_half_a_login_is_none(self) -> None:
        for login in ("admin", "admin:", ":admin's", ":"):
            self.refused(login=login)
        assert self.conduct.calls == []

    def test_a_wrong_password(self) -> None:
        for password in ("wrong", "other's", "admin's ", "ADMIN'S"):
            self.refused(login=f"admin:{password}")

    def test_a_stranger_is_refused_like_a_wrong_password(self) -> None:
        self.refused(login="nobody:secret")
        # So that it takes as long.
        assert self.conduct.calls == [("find", "nobody"), ("verify", None, "secret")]

    def test_a_name_that_the_database_cannot_hold_is_a_strangers(self) -> None:
        for name in ("admin\0", "a\nb"):
            self.conduct.calls.clear()
            self.refused(login=f"{name}:secret")
            assert self.conduct.calls == [("verify", None, "secret")]

    def test_a_login_may_have_any_characters(self) -> None:
        self.refused(login="ñ:a:b\0é")
        assert self.conduct.calls == [("find", "ñ"), ("verify", None, "a:b\0é")]


class ListTests(StatusCase):
    def test_an_administrator_sees_the_own_tenant_only(self) -> None:
        for login, wanted in (("admin:admin's", [1, 2]), ("other:other's", [3])):
            response = self.ask(VMS, login=login)
            assert response.status == 200
            assert [vm["id"] for vm in response.says()] == wanted

    def test_a_tenant_without_vms(self) -> None:
        self.database.rows[TenantId(1)] = []
        assert self.ask(VMS).says() == []

    def test_what_is_seen_of_one(self) -> None:
        self.database.rows[TenantId(1)] = [
            vm_row(
                9,
                name="eñe",
                state=VMState.RUNNING,
                desired=Desired.STOPPED,
                phase="running",
                detail="The desktop runs",
                last_error="No space",
                host_id=HostId(7),
                session_id=SessionId("55"),
                since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                guest=Guest("10.3.0.7", 3030, 4100, Secret("canary")),
            )
        ]
        response = self.ask(VMS)
        assert response.says() == [
            {
                "id": 9,
                "name": "eñe",
                "user": "alice",
                "state": "running",
                "desired": "stopped",
                "phase": "running",
                "detail": "The desktop runs",
                "since": "2026-01-02T03:04:05+00:00",
                "last_error": "No space",
                "host_id": 7,
                "connected": True,
            }
        ]
        assert b"canary" not in response.body

    def test_a_vm_without_host_error_or_client(self) -> None:
        self.database.rows[TenantId(1)] = [vm_row(1), vm_row(2, host_id=HostId(7))]
        found = [(vm["host_id"], vm["last_error"], vm["connected"]) for vm in self.ask(VMS).says()]
        assert found == [(None, None, False), (7, None, False)]

    def test_what_cannot_be_done_now_is_told(self) -> None:
        for point, error in (
            ("find", DatabaseUnavailable("The database does not answer")),
            ("verify", Unavailable("There are too many logins at once")),
            ("vms", DatabaseUnavailable("The database does not answer")),
        ):
            self.conduct.fail(point, error)
            response = self.ask(VMS)
            assert (response.status, response.says()) == (503, {"error": error.text})

    def test_an_error_of_ours_is_logged_and_not_told(self) -> None:
        self.conduct.fail("vms", ZeroDivisionError("canary"))
        response = self.ask(VMS)
        assert response.status == 500
        assert b"canary" not in response.body
        assert self.logged(ZeroDivisionError) == 1

    def test_the_answer_waits_for_the_database(self) -> None:
        held = self.conduct.hold("vms")
        _, transport = self.open(request(VMS, login="admin:admin's"))
        assert held.reached
        assert transport.value() == b""
        held.go_on()
        assert read(transport).status == 200

    def test_whoever_leaves_is_not_served_any_more(self) -> None:
        held = self.conduct.hold("verify")
        protocol, transport = self.open(request(VMS, login="admin:admin's"))
        protocol.connectionLost(DONE)
        assert held.cancelled
        assert transport.value() == b""
        assert self.conduct.count("vms") == 0
