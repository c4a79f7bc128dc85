# -*- test-case-name: tests.unit.test_hkd_status -*-
"""A node's own small port: its health, for load balancers, and its numbers. Off by default: C{admin.port}."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from klein import Klein

from qvd.interfaces import INodeStatus
from qvd.telemetry.numbers import MEDIA, Network, is_within

JSON = "application/json"


def reply(request: Any, status: int, media: str, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", media.encode())
    request.setHeader(b"Cache-Control", b"no-store")
    return body


def document(request: Any, status: int, said: object) -> bytes:
    """A JSON answer."""
    return reply(request, status, JSON, json.dumps(said).encode() + b"\n")


@frozen
class StatusSite:
    """The routes.

    @ivar numbers: for Prometheus.
    @ivar networks: who may read them.
    """

    router = Klein()

    node: INodeStatus
    numbers: Callable[[], bytes]
    networks: Sequence[Network]

    @router.route("/healthz", methods=["GET"])
    def healthz(self, request: Any) -> bytes:
        """The process answers."""
        return document(request, 200, {"status": "alive"})

    @router.route("/readyz", methods=["GET"])
    def readyz(self, request: Any) -> bytes:
        """The node serves clients, or the reason why it does not."""
        refusal = self.node.refusal()
        return document(request, 200 if refusal is None else 503, {"status": refusal or "ready"})

    @router.route("/metrics", methods=["GET"])
    def metrics(self, request: Any) -> bytes:
        """The node's numbers."""
        if not is_within(str(request.getClientAddress().host), self.networks):
            return document(request, 403, {"status": "forbidden"})
        return reply(request, 200, MEDIA, self.numbers())
