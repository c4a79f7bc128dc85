"""A node's own port: what is sent over the wire, and what is answered. There is no socket."""

from __future__ import annotations

import json
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

from attrs import frozen
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.server import Site
from zope.interface import implementer

from qvd.hkd.status import StatusSite
from qvd.interfaces import INodeStatus
from qvd.model.records import Lease
from qvd.telemetry.numbers import networks_of
from tests.fakes.case import Case
from tests.fakes.client import request


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


@frozen
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def says(self) -> Any:
        """The document that it holds."""
        assert self.headers["Content-Type"] == "application/json", self.headers
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
    networks = "192.168.1.1"

    def setUp(self) -> None:
        self.node = Node()
        networks = networks_of(self.networks, "here")
        resource = StatusSite(self.node, lambda: b"qvd_x 1\n", networks).router.resource()
        self.site: Any = cast(Any, Site)(resource, reactor=cast(Any, MemoryReactorClock)())

    def open(self, data: bytes) -> tuple[Any, Any]:
        """A connection on which C{data} was sent."""
        protocol, transport = self.site.buildProtocol(None), cast(Any, StringTransport)()
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        return protocol, transport

    def ask(self, target: str, *headers: str) -> Answer:
        return read(self.open(request(target, *headers))[1])


class HealthTests(StatusCase):
    def test_the_process_answers_whatever_the_node_does(self) -> None:
        for reason in (None, "Server is blocked"):
            self.node.reason = reason
            response = self.ask("/healthz")
            assert (response.status, response.says()) == (200, {"status": "alive"})

    def test_a_node_that_serves_is_ready(self) -> None:
        response = self.ask("/readyz")
        assert (response.status, response.says()) == (200, {"status": "ready"})

    def test_one_that_does_not_says_why(self) -> None:
        self.node.reason = "Server is blocked"
        response = self.ask("/readyz")
        assert (response.status, response.says()) == (503, {"status": "Server is blocked"})

    def test_there_is_nothing_else(self) -> None:
        for target in ("/", "/healthz/x", "/api/v1/vms/1", "/api"):
            assert self.ask(target).status == 404
        for target in ("/healthz", "/readyz", "/metrics"):
            posted = request(target, "Content-Length: 0").replace(b"GET", b"POST", 1)
            assert read(self.open(posted)[1]).status == 405

    def test_numbers(self) -> None:
        response = self.ask("/metrics")
        assert (response.status, response.body) == (200, b"qvd_x 1\n")
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")


class StrangerTests(StatusCase):
    networks = "127.0.0.0/8, ::1"

    def test_numbers_are_not_for_everybody(self) -> None:
        response = self.ask("/metrics", "X-Forwarded-For: 127.0.0.1")
        assert (response.status, response.says()) == (403, {"status": "forbidden"})
