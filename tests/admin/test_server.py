"""The daemon: its port, its probes, its log, its start and its end."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from threading import Event

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from qvd.admin import configured
from qvd.admin.dispatch import Dispatcher
from qvd.demo.installation import AdminProcess, DemoError, write_conf
from qvd.demo.tls import make_certificates
from qvd.model.errors import SettingsError
from tests.admin.raw import exchange
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, until
from tests.fakes.postgres import RealPostgres


@asynchronous
async def test_it_serves_the_api_and_lets_nobody_in(database: str, tmp_path: Path) -> None:
    server = Server(database, tmp_path)
    await server.start()
    try:
        refused = await server.ask("GET", "/api/v1/users", headers={"X-Request-Id": "mine-1"})
        assert (refused.status, refused.document["type"]) == (401, "/problems/credentials-required")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert "Server" not in refused.headers
        assert refused.headers["X-Request-Id"] == refused.document["request_id"] == "mine-1"
        for name, value in (
            ("Strict-Transport-Security", "max-age=31536000"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ):
            assert refused.headers[name] == value
        for headers in ({"Authorization": "Bearer x"}, {"Cookie": "__Host-qvd=x"}, {"Authorization": "Basic YTpi"}):
            assert (await server.ask("GET", "/api/v1/users", headers=headers)).status == 401
        described = await server.ask("GET", "/api/v1/openapi.json")
        assert described.document["openapi"] == "3.1.0"
        again = await server.ask("GET", "/api/v1/openapi.json", headers={"If-None-Match": described.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert (await server.ask("GET", "/api/v1/docs")).headers["Content-Type"] == "text/html; charset=utf-8"
        unknown = await server.ask("GET", "/api/v1/nothing")
        assert (unknown.status, unknown.document["type"]) == (404, "/problems/unknown-operation")
        wrong = await server.ask("PUT", "/api/v1/users", b"{}")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    finally:
        await server.stop()


@asynchronous
async def test_callers_that_are_known(api: ApiWorld, tmp_path: Path) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna})
    await server.start()
    try:
        headers = {"Authorization": "Bearer anna", "Content-Type": "application/json"}
        made = await server.ask("POST", "/api/v1/users", b'{"name": "alice"}', headers)
        assert made.status == 201, made.body
        read = await server.ask("GET", made.headers["Location"], headers=headers)
        assert read.document["name"] == "alice"
        head = await server.ask("HEAD", made.headers["Location"], headers=headers)
        assert (head.status, head.body, head.headers["ETag"]) == (200, b"", read.headers["ETag"])
    finally:
        await server.stop()


@asynchronous
async def test_probes(database: str, tmp_path: Path, postgres: RealPostgres) -> None:
    server = Server(database, tmp_path)
    await server.start()
    try:
        assert (await server.ask("GET", "/healthz")).document == {"status": "alive"}
        assert (await server.ask("GET", "/readyz")).document == {"status": "ready"}
        postgres.stop()
        await until(lambda: not server.composition.pool.available, "the database is away")
        away = await server.ask("GET", "/readyz")
        assert (away.status, away.document) == (503, {"status": "The database does not answer"})
        assert (await server.ask("GET", "/healthz")).status == 200
        assert (await server.ask("GET", "/metrics")).status == 200
        postgres.start()
        await until(lambda: server.composition.pool.available, "the database is back")
        assert (await server.ask("GET", "/readyz")).status == 200
    finally:
        await server.stop()


@asynchronous
async def test_numbers_are_for_some_networks(database: str, tmp_path: Path) -> None:
    server = Server(database, tmp_path, settings={"admin.metrics.networks": "10.0.0.0/8"})
    await server.start()
    try:
        refused = await server.ask("GET", "/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
        assert (refused.status, refused.document) == (403, {"status": "forbidden"})
    finally:
        await server.stop()


@asynchronous
async def test_a_body_that_is_too_large_is_not_waited_for(database: str, tmp_path: Path) -> None:
    server = Server(database, tmp_path)
    await server.start()

    def send(head: bytes, body: bytes) -> bytes:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        plain = socket.create_connection(("localhost", server.port), 10)
        with context.wrap_socket(plain, server_hostname="localhost") as line:
            line.sendall(b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + body)
            answer = b""
            while piece := line.read(65536):
                answer += piece
            return answer

    try:
        for head, body in (
            (b"Content-Length: 4294967296\r\n", b""),
            (b"Transfer-Encoding: chunked\r\n", b"200000\r\n" + b"x" * ((1 << 20) + 1)),
        ):
            answer = await deferToThread(send, head, body)
            assert answer.startswith(b"HTTP/1.1 413 "), answer
            document = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert document["type"] == "/problems/payload-too-large"
    finally:
        await server.stop()


@pytest.mark.acceptance(6)
@asynchronous
async def test_the_log_has_a_line_for_each_request_without_what_was_asked(database: str, tmp_path: Path) -> None:
    events: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    server = Server(database, tmp_path)
    await server.start()
    globalLogPublisher.addObserver(observe)
    try:
        await server.ask("GET", "/api/v1/users?name=canary", headers={"X-Request-Id": "r-7"})
        await server.ask("GET", "/nowhere?token=canary")
    finally:
        globalLogPublisher.removeObserver(observe)
        await server.stop()
    lines = [event for event in events if event.get("log_namespace") == "qvd.admin.access.AccessLog"]
    assert [(line["method"], line["status"], line["action"]) for line in lines] == [
        ("GET", 401, "user.list"),
        ("GET", 404, "none"),
    ]
    assert lines[0]["request"] == "r-7" and lines[0]["client"] == "127.0.0.1"
    assert "canary" not in str(events)


@asynchronous
async def test_a_database_of_another_schema_ends_it(empty_database: str, tmp_path: Path) -> None:
    with psycopg2.connect(empty_database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    server = Server(empty_database, tmp_path)
    server.begin()
    await until(lambda: server.told, "it gives up")
    assert server.told == ["failed"]
    await server.stop()


@asynchronous
async def test_a_port_that_is_taken_ends_it(database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(database, tmp_path, settings={"admin.port": taken.getsockname()[1]})
        server.begin()
        await until(lambda: server.told, "it gives up")
    assert server.told == ["failed"]
    await server.stop()


@asynchronous
async def test_it_waits_for_its_database(database: str, tmp_path: Path, postgres: RealPostgres) -> None:
    server = Server(database, tmp_path, settings={"database.timeout": 0.5})
    postgres.stop()
    try:
        server.begin()
        await until(lambda: server.composition.daemon._started, "it has begun")
        assert server.told == []
        postgres.start()
        await until(lambda: server.told, "it is ready")
        assert server.told == ["ready"]
    finally:
        await server.stop()


@asynchronous
async def test_it_stops_while_it_waits(database: str, tmp_path: Path, postgres: RealPostgres) -> None:
    server = Server(database, tmp_path, settings={"database.timeout": 0.5})
    postgres.stop()
    server.begin()
    await server.stop()
    assert server.told == []


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    file = tmp_path / "admin.conf"
    for text, said in (
        ("x = ", "Invalid value"),
        ("admin.prt = 1", "admin.prt: unknown key"),
        ("", "admin.tls.cert: missing"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=said) as caught:
            configured.read_settings(file)
        assert caught.value.text.startswith(f"{file}: ")
    whole = 'admin.tls.cert = "c"\nadmin.tls.key = "k"\n'
    file.write_text(
        whole + 'admin.metrics.networks = "10.0.0.0/8, here"\nadmin.import.networks = "10.0.0.0/8, there"\n'
    )
    settings = configured.read_settings(file)
    with pytest.raises(SettingsError, match=r"admin.metrics.networks: 'here' does not appear"):
        configured.networks(settings, "admin.metrics.networks")
    with pytest.raises(SettingsError, match=r"admin.import.networks: 'there' does not appear"):
        configured.image_places(settings)


def test_networks_that_images_may_come_from(tmp_path: Path) -> None:
    file = tmp_path / "admin.conf"
    for text, allowed in (("", ()), ('admin.import.networks = "192.0.2.0/24"', (ip_network("192.0.2.0/24"),))):
        file.write_text(f'admin.tls.cert = "c"\nadmin.tls.key = "k"\n{text}\n')
        assert configured.image_places(configured.read_settings(file)).allowed_networks == allowed


@asynchronous
async def test_what_nothing_has_caught_is_a_problem_as_well(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: object) -> None:
        raise ZeroDivisionError("canary")

    server = Server(database, tmp_path)
    monkeypatch.setattr(Dispatcher, "dispatch", fail)
    await server.start()
    try:
        answer = await server.ask("GET", "/api/v1/users")
    finally:
        await server.stop()
    assert (answer.status, answer.document["type"]) == (500, "/problems/internal")
    assert b"canary" not in answer.body


def test_the_program(database: str, tmp_path: Path) -> None:
    """Under twistd, as its unit runs it: it says when it is ready, logs as JSON, and ends in order."""
    make_certificates(tmp_path / "tls")
    address = parse_dsn(database)
    values = {
        "database.host": address["host"],
        "database.port": int(address["port"]),
        "database.name": address["dbname"],
        "admin.address": "127.0.0.1",
        "admin.port": 0,
        "admin.tls.cert": str(tmp_path / "tls/cert.pem"),
        "admin.tls.key": str(tmp_path / "tls/key.pem"),
        "log.format": "json",
    }
    write_conf(tmp_path / "admin.conf", values)
    program = AdminProcess(tmp_path)
    program.await_ready()
    program.stop()
    # Twisted ends with the signal that stopped it, once all is stopped.
    assert program.process.returncode == -signal.SIGTERM
    messages = [json.loads(line)["message"] for line in (tmp_path / "admin.log").read_text().splitlines()]
    assert any(message.startswith("administrators are served on ") for message in messages)
    write_conf(tmp_path / "admin.conf", {**values, "log.format": "xml"})
    with pytest.raises(DemoError, match="status 78"):
        AdminProcess(tmp_path).await_ready()


@asynchronous
async def test_a_request_that_comes_byte_by_byte_is_not_waited_for(database: str, tmp_path: Path) -> None:
    """Each byte is in time; the request never is."""
    server = Server(database, tmp_path, settings={"admin.timeout.request": 1.0})
    await server.start()

    def drip(*whole: bytes) -> Iterator[bytes]:
        yield from whole
        for _ in range(200):
            Event().wait(0.1)
            yield b"x"

    try:
        head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\n"
        for said in ((head + b"X-Name: ",), (head + b"Content-Length: 1000\r\n\r\n",)):
            begun = server.composition.machine.reactor.seconds()
            assert await exchange(server, drip(*said)) == b""
            assert server.composition.machine.reactor.seconds() - begun < 10
        await until(lambda: not server.composition.callers.count, "no connection is left")
        assert (await server.ask("GET", "/healthz")).status == 200
    finally:
        await server.stop()


@asynchronous
async def test_what_is_no_sane_request_is_refused_in_a_sentence(database: str, tmp_path: Path) -> None:
    """And not by an error of the server's, with a page of it in the log for each."""
    server, said = Server(database, tmp_path), list[LogEvent]()
    await server.start()

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        said.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        for line, host, status in (
            (b"GET /api/v1/info", b"a" * 80, 200),
            (b"GET /api/v1/info", b"a..b", 200),
            (b"GET /api/v1/info", b"\xff\xfe", 200),
            (b"GET /api/v1/info?%ff", b"x", 400),
            (b"GET /api/v1/%ff", b"x", 400),
            (b"GET /%c3%28", b"x", 400),
            (b"PATCH /api/v1/%75ploads/1", b"x", 400),
            (b"PATCH //api/v1/uploads/1", b"x", 400),
        ):
            answer = await exchange(server, [line + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"])
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
            assert b"\r\nX-Content-Type-Options: nosniff" in head
            assert status == 200 or b"/problems/malformed-request" in body
        assert [event for event in said if "log_failure" in event] == []
    finally:
        globalLogPublisher.removeObserver(observe)
        await server.stop()


@asynchronous
async def test_bodies_of_all_together_have_a_bound(database: str, tmp_path: Path) -> None:
    """Nobody knows yet who they are that send them."""
    server, later = Server(database, tmp_path), Event()
    await server.start()
    server.composition.site.most_held = 100_000
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 80001\r\n\r\n"

    def slowly() -> Iterator[bytes]:
        yield head + b" " * 80_000
        later.wait(20)
        yield b"{"

    try:
        first = exchange(server, slowly())
        await until(lambda: server.composition.site.held == 80_000, "the first one's body is held")
        refused = await exchange(server, [head + b" " * 80_000])
        assert refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in refused
        later.set()
        assert (await first).startswith(b"HTTP/1.1 400 ")
        await until(lambda: server.composition.site.held == 0, "nothing is held any more")
    finally:
        later.set()
        await server.stop()
