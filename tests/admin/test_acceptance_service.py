"""Acceptance points of the reference that are about the service as a whole: 6, 7 and 24."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from twisted.internet import reactor
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.server import Site

from qvd.admin.api import COLLECTIONS, all_endpoints
from qvd.admin.description import Description
from qvd.admin.site import make_app
from qvd.model.declared import Kind
from tests.admin.canary import CANARY
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@pytest.mark.acceptance(6)
@asynchronous
async def test_point_6_no_secret_comes_out(api: ApiWorld, tmp_path: Path) -> None:
    """However it comes in; the log, the trail and the kept answers are looked at after each test of this folder."""
    server = Server(api.dsn, tmp_path, {"known": api.anna})
    await server.start()
    known = {"Authorization": "Bearer known", "Content-Type": "application/json"}
    basic = b64encode(f"anna:{CANARY}".encode()).decode()
    password = f'{{"name": "alice", "password": "{CANARY}"}}'.encode()
    answers = []
    try:
        answers.append(await server.ask("POST", "/api/v1/users", password, known))
        answers.append(await server.ask("POST", "/api/v1/users", password, known))
        answers.append(await server.ask("POST", "/api/v1/users", password[:-1] + b', "x": 1}', known))
        answers.append(await server.ask("PATCH", "/api/v1/users/1", password, known))
        answers.append(await server.ask("POST", "/api/v1/users/search", b'{"filter": {"password": 1}}', known))
        for headers in (
            {"Authorization": f"Bearer {CANARY}"},
            {"Authorization": f"Basic {basic}"},
            {"Cookie": f"__Host-qvd={CANARY}"},
            {**known, "Idempotency-Key": CANARY},
            {**known, "X-CSRF-Token": CANARY},
        ):
            answers.append(await server.ask("GET", "/api/v1/users", headers=headers))
            answers.append(await server.ask("POST", "/api/v1/users", b"{}", headers))
        answers.append(await server.ask("GET", "/metrics"))
    finally:
        await server.stop()
    assert [answer.status for answer in answers[:3]] == [201, 409, 422]
    for answer in answers:
        assert CANARY.encode() not in answer.body and CANARY not in str(answer.headers)


@pytest.mark.acceptance(7)
@asynchronous
async def test_point_7_reading_never_writes(database: str, tmp_path: Path) -> None:
    """On connections that cannot."""
    api = ApiWorld(database, "-c default_transaction_read_only=on")
    work = api.keep_images(tmp_path)
    await api.pool.start()
    try:
        api.insert("users (tenant_id, login) VALUES (%s, 'alice')", api.acme)
        before = len(api.trail())
        for endpoint in all_endpoints():
            if endpoint.method != "GET" or endpoint.streamed or endpoint.tag == "events":
                continue
            for number in ("1", "2000000000"):
                path = re.sub(r"\{[a-z_]+\}", number, endpoint.path)
                for principal in (api.boss, api.anna, None):
                    reply = await api.call(principal, "GET", path)
                    assert reply.status < 500, f"{endpoint.route}: {reply.body}"
        assert len(api.trail()) == before
        refused = await api.call(api.anna, "POST", "/users", {"name": "bob"})
        assert refused.status >= 500, "these connections can write"
    finally:
        await work.stop()
        await api.close()


@pytest.mark.acceptance(7)
@pytest.mark.filterwarnings("ignore:Using readBody with a transport:DeprecationWarning")
@asynchronous
async def test_point_7_nor_do_head_and_options(database: str, tmp_path: Path) -> None:
    """What a web server makes of the routes that read, on the same connections."""
    api = ApiWorld(database, "-c default_transaction_read_only=on")
    work = api.keep_images(tmp_path)
    await api.pool.start()
    api.gate.principal = api.boss
    site: Any = Site(make_app(api.endpoints, api.dispatcher).resource())  # type: ignore[no-untyped-call]
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    kept = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]
    agent = Agent(reactor, pool=kept)  # type: ignore[no-untyped-call]
    base = f"http://127.0.0.1:{port.getHost().port}/api/v1"
    try:
        for path in sorted({endpoint.path for endpoint in api.endpoints}):
            reads = any(each.path == path and each.method in ("GET", "HEAD") for each in api.endpoints)
            url = (base + re.sub(r"\{[a-z_]+\}", "1", path)).encode()
            head: Any = await agent.request(b"HEAD", url)
            options: Any = await agent.request(b"OPTIONS", url)
            assert await readBody(head) == b"", path
            await readBody(options)
            assert head.code < 500 and not (reads and head.code == 405), path
            assert options.code == 405 and options.headers.hasHeader("allow"), path
        assert api.trail() == []
    finally:
        await port.stopListening()
        await kept.closeCachedConnections()  # type: ignore[no-untyped-call]
        await work.stop()
        await api.close()


@pytest.mark.acceptance(24)
def test_point_24_the_description_validates() -> None:
    """That each answer of these tests matches it, L{tests.admin.conforms} sees to."""
    document = Description(all_endpoints()).document
    validate(document)
    for kind in COLLECTIONS:
        operation = document["paths"][f"/api/v1/{kind.resource.collection}"]["get"]
        names = {each["name"] for each in operation["parameters"]}
        for each in kind.resource.fields:
            comparable = each.sql and each.filters and each.kind not in (Kind.OBJECT, Kind.LIST)
            assert (each.name in names) is bool(comparable), each
