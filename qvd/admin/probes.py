# -*- test-case-name: tests.admin.test_server -*-
"""For load balancers and monitoring, beside the API: is the process alive, does it serve, what are its numbers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import frozen
from klein import Klein

from qvd.admin.site import HEADERS
from qvd.telemetry.numbers import MEDIA, Network, is_within


@frozen
class Probes:
    """@ivar refusal: why callers are not served; L{None}: they are.
    @ivar exposition: all numbers.
    @ivar networks: who may read them.
    """

    refusal: Callable[[], str | None]
    exposition: Callable[[], Awaitable[bytes]]
    networks: Sequence[Network]

    def add_to(self, app: Klein) -> None:
        """Their routes."""
        app.route("/healthz", methods=["GET"])(self.healthz)
        app.route("/readyz", methods=["GET"])(self.readyz)
        app.route("/metrics", methods=["GET"])(self.metrics)

    def healthz(self, request: Any) -> bytes:
        """The process answers."""
        return document(request, 200, {"status": "alive"})

    def readyz(self, request: Any) -> bytes:
        """Callers are served, or the reason why they are not."""
        refusal = self.refusal()
        return document(request, 200 if refusal is None else 503, {"status": refusal or "ready"})

    async def metrics(self, request: Any) -> bytes:
        """The numbers. What address asks is seen on the socket: a header would be anybody's word."""
        if not is_within(str(request.getClientAddress().host), self.networks):
            return document(request, 403, {"status": "forbidden"})
        return body(request, 200, MEDIA, await self.exposition())


def document(request: Any, status: int, said: object) -> bytes:
    return body(request, status, "application/json", json.dumps(said).encode() + b"\n")


def body(request: Any, status: int, media: str, data: bytes) -> bytes:
    request.setResponseCode(status)
    for name, value in {**HEADERS, "Content-Type": media}.items():
        request.setHeader(name.encode(), value.encode())
    return data
