"""A login over HTTP, as a browser sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from twisted.web.server import Site
from zope.interface import implementer

from qvd.admin.api import all_endpoints
from qvd.admin.site import make_app
from tests.admin.test_login import PASSWORD
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@implementer(IBodyProducer)
class Body:
    """A few bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)

    async def _write(self, consumer: Any) -> None:
        consumer.write(self.data)

    def startProducing(self, consumer: Any) -> Any:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self._write(consumer))

    def pauseProducing(self) -> None:
        """It is written at once."""

    stopProducing = resumeProducing = pauseProducing


@pytest.mark.acceptance(8)
@pytest.mark.filterwarnings("ignore:Using readBody with a transport:DeprecationWarning")
@asynchronous
async def test_over_http(logins: ApiWorld) -> None:
    site: Any = Site(make_app(all_endpoints(), logins.dispatcher).resource())  # type: ignore[no-untyped-call]
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    agent = Agent(reactor)  # type: ignore[no-untyped-call]
    base = f"http://127.0.0.1:{port.getHost().port}/api/v1"

    async def call(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Headers, bytes]:
        sent = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        producer = None if body is None else Body(json.dumps(body).encode())
        response: Any = await agent.request(method.encode(), f"{base}{path}".encode(), sent, producer)
        return response.code, response.headers, await readBody(response)

    try:
        login = {"name": "anna", "tenant": "acme", "password": PASSWORD}
        status, headers, raw = await call("POST", "/auth/login", login)
        assert status == 200
        [cookie] = headers.getRawHeaders("set-cookie") or []
        assert headers.getRawHeaders("cache-control") == ["no-store"]
        assert headers.getRawHeaders("access-control-allow-origin") is None
        mine = cookie.partition(";")[0]
        assert (await call("GET", "/me", cookie=mine))[0] == 200
        assert (await call("POST", "/auth/logout", cookie=mine))[0] == 403
        assert (await call("GET", "/auth/logout", cookie=mine))[0] == 405
        token = json.loads(raw)["csrf_token"]
        status, headers, raw = await call("POST", "/auth/logout", cookie=mine, x_csrf_token=token)
        assert (status, raw) == (204, b"")
        assert "Max-Age=0" in (headers.getRawHeaders("set-cookie") or [""])[0]
        status, headers, _ = await call("GET", "/me", cookie=mine)
        assert (status, headers.getRawHeaders("www-authenticate")) == (401, ["Bearer"])
        assert (await call("GET", "/info"))[0] == 200
    finally:
        await port.stopListening()
