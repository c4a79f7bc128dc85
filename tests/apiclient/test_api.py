"""Calls: who is trusted, what is sent again, and what errors do not tell."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from qvd.apiclient import Api, ApiError, ApiProblem, BadAnswer, Unreachable, Untrusted
from qvd.apiclient.problems import problem_of
from qvd.apiclient.wire import MOST_BYTES, checked_url
from qvd.auth.local import PARAMETERS
from qvd.demo.tls import make_certificates
from tests.apiclient.world import Installation, installation
from tests.fakes.asynchronous import asynchronous

__all__ = ["installation"]


@define
class Scripted:
    """A server that answers as the test says, and keeps what it was asked.

    @ivar answers: status, headers, body; L{None}: it hangs up. The last one stays.
    """

    answers: list[tuple[int, dict[str, str], bytes] | None]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(factory=list)
    port: int = 0
    ca: Path = Path()
    waited: list[float] = field(factory=list)

    def client(self, **more: Any) -> Api:
        given: dict[str, Any] = {"ca": self.ca, "token": "qvd_x", "wait": self.waited.append} | more
        return Api(f"https://localhost:{self.port}", **given)


@contextmanager
def scripted(folder: Path, *answers: tuple[int, dict[str, str], bytes] | None) -> Iterator[Scripted]:
    make_certificates(folder / "scripted")
    script = Scripted(list(answers), ca=folder / "scripted/ca.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append((self.command, self.path, headers, self.rfile.read(length)))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.close_connection = True
            if answer is None:
                return
            status, more, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    class Quiet(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """That a client goes away is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "scripted/cert.pem", folder / "scripted/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


JSON = {"Content-Type": "application/json"}
FINE = (200, JSON, b'{"id": 1}')


def busy(**headers: str) -> tuple[int, dict[str, str], bytes]:
    document = {"type": "/problems/unavailable", "title": "Not now", "detail": "Later", "status": 503, "code": 9030}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return 503, {"Content-Type": "application/problem+json", **named}, json.dumps(document).encode()


@asynchronous
async def test_objects_are_made_read_and_refused(installation: Installation) -> None:
    def work(api: Api) -> None:
        made = api.request("POST", "/tenants", body={"name": "acmé"})
        assert made.status == 201 and made.body["name"] == "acmé"
        read = api.request("GET", made.headers["location"])
        assert (read.body["id"], read.headers["etag"]) == (made.body["id"], made.headers["etag"])
        assert api.request("HEAD", made.headers["location"]).body is None
        with pytest.raises(ApiProblem) as told:
            api.request("POST", "/tenants", body={"name": "acmé"})
        assert (told.value.kind, told.value.status, told.value.code) == ("already-exists", 409, 7200)
        assert told.value.request_id and told.value.text
        with pytest.raises(ApiProblem) as told:
            api.request("POST", "/users", body={"name": "a@b", "tenant_id": made.body["id"]})
        [fault] = told.value.errors
        assert (told.value.kind, fault.pointer) == ("invalid-value", "/name")
        gone = api.request("DELETE", made.headers["location"], headers={"If-Match": read.headers["etag"]})
        assert (gone.status, gone.body) == (204, None)

    await installation.run(work)


@asynchronous
async def test_pages_go_to_the_end(installation: Installation) -> None:
    installation.ask("INSERT INTO tenants (name) SELECT 'tenant-' || n FROM generate_series(1, 23) n")

    def work(api: Api) -> list[str]:
        wanted = {"limit": 5, "sort": "-name", "name": ["tenant-1,tenant-2", None, "tenant-3"][0], "page": None}
        assert [each["name"] for each in api.pages("/tenants", wanted)] == ["tenant-2", "tenant-1"]
        return [each["name"] for each in api.pages("/tenants", {"limit": 5, "fields": "name", "name[like]": "tenant%"})]

    assert sorted(await installation.run(work)) == sorted(f"tenant-{number}" for number in range(1, 24))


@asynchronous
async def test_a_login_and_what_is_done_in_it(installation: Installation, tmp_path: Path) -> None:
    def change(api: Api) -> Any:
        root = next(each for each in api.pages("/administrators") if each["name"] == "root")
        return api.request("PUT", f"/administrators/{root['id']}/password", body={"password": "correct horse battery"})

    # A token may do that only where the installation lets it.
    with pytest.raises(ApiProblem) as told:
        await installation.run(change)
    assert told.value.kind == "reauthentication-required"
    hashed = PARAMETERS.hash("correct horse")
    installation.ask("UPDATE administrators SET password = %s WHERE name = 'root'", hashed)

    def work(api: Api) -> None:
        before = api.session
        assert before is None
        told = api.log_in("root", "correct horse", tenant="*")
        assert told["name"] == "root" and api.session is not None
        assert "correct" not in repr(api) and "*****" in repr(api.session)
        assert api.request("POST", "/tenants", body={"name": "acme"}).status == 201
        cookie, csrf = api.session
        again = installation.client(token=None, session=cookie.reveal(), csrf=csrf.reveal())
        assert again.request("GET", "/me").body["name"] == "root"
        assert again.request("POST", "/auth/logout").status == 204
        with pytest.raises(ApiProblem) as refused:
            api.request("GET", "/me")
        assert refused.value.kind == "session-expired"

    await installation.run(work, token=None)


@asynchronous
async def test_the_description_is_kept(installation: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "kept"

    def read(api: Api) -> dict[str, Any]:
        return api.openapi()

    first = await installation.run(read, cache=folder)
    [path] = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    # What the server knows to be unchanged is not sent again: it is what was kept that is answered.
    kept = json.loads(path.read_text())
    kept["document"]["info"]["title"] = "kept"
    path.write_text(json.dumps(kept))
    assert (await installation.run(read, cache=folder))["info"]["title"] == "kept"
    path.write_text("{")
    assert await installation.run(read, cache=folder) == first
    assert await installation.run(lambda api: api.openapi(fresh_for=3600), cache=folder) == first


@asynchronous
async def test_only_a_trusted_server_gets_the_token(installation: Installation, tmp_path: Path) -> None:
    make_certificates(tmp_path / "others")
    for ca in (None, tmp_path / "others/ca.pem"):
        with pytest.raises(Untrusted) as told:
            await installation.run(lambda api: api.request("GET", "/me"), ca=ca)
        assert "certificate" in told.value.text and installation.waited == []


@pytest.mark.parametrize("url", ["http://localhost", "localhost:9443", "https://", "https://a:b@c", "https://a/b", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ApiError):
        checked_url(url)


def test_the_address() -> None:
    assert checked_url("https://a.example:9443/") == "https://a.example:9443"
    assert checked_url("https://[::1]:9443") == "https://[::1]:9443"


@pytest.mark.parametrize("token", ["", "qvd_a b", "qvd_a\r\nX: y", "qvd_é", "qvd_a;b"])
def test_a_token_that_is_none_is_not_told(token: str) -> None:
    with pytest.raises(ApiError) as told:
        Api("https://localhost", token=token)
    assert not token or token not in str(told.value)


def test_a_file_of_authorities_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for name in ("missing", "empty"):
        with pytest.raises(ApiError, match="authorities"):
            Api("https://localhost", ca=tmp_path / name)


@pytest.mark.parametrize(
    "path", ["vms", "//evil.example/vms", "/vms\r\nX: y", "/vms 1", "/vms/../auth", "/vms/./1", "https://evil.example/"]
)
def test_paths_that_are_none(tmp_path: Path, path: str) -> None:
    with pytest.raises(ApiError, match="path"):
        Api("https://localhost").request("GET", path)


def test_reading_is_tried_again(tmp_path: Path) -> None:
    with scripted(tmp_path, busy(Retry_After="7"), None, busy(), FINE) as server:
        assert server.client().request("GET", "/vms/1").body == {"id": 1}
    assert len(server.asked) == 4 and server.waited[0] == 7 and all(0 < each <= 2 for each in server.waited[1:])


def test_making_is_tried_again_with_the_same_key(tmp_path: Path) -> None:
    with scripted(tmp_path, None, busy(), FINE) as server:
        server.client().request("POST", "/vms", body={"name": "a"})
        server.client().request("POST", "/vms", body={"name": "a"})
    keys = [headers["idempotency-key"] for _, _, headers, _ in server.asked]
    assert len(keys) == 4 and len(set(keys)) == 2 and keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_is_not_safe_is_done_once(tmp_path: Path, method: str) -> None:
    with scripted(tmp_path, None) as server, pytest.raises(Unreachable):
        server.client().request(method, "/vms/1", body={})
    assert len(server.asked) == 1
    with scripted(tmp_path, busy(Retry_After="1")) as server, pytest.raises(ApiProblem):
        server.client().request(method, "/vms/1", body={})
    assert len(server.asked) == 1


def test_a_login_is_tried_once(tmp_path: Path) -> None:
    with scripted(tmp_path, busy()) as server, pytest.raises(ApiProblem) as told:
        server.client(token=None).log_in("anna", "hunter2")
    assert len(server.asked) == 1 and "hunter2" not in repr(told.value)


def test_a_connection_that_never_was_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    waited: list[float] = []
    with pytest.raises(Unreachable, match="cannot be reached"):
        Api(f"https://127.0.0.1:{port}", token="qvd_x", wait=waited.append).request("DELETE", "/vms/1")
    assert len(waited) == 3


def test_who_is_to_wait_for_long_is_told(tmp_path: Path) -> None:
    with scripted(tmp_path, busy(Retry_After="3600")) as server, pytest.raises(ApiProblem) as told:
        server.client().request("GET", "/vms")
    assert told.value.retry_after == 3600 and server.waited == []


def test_bad_answers(tmp_path: Path) -> None:
    for answer in ((200, JSON, b"{"), (200, JSON, b"[" * 100_000)):
        with scripted(tmp_path, answer) as server, pytest.raises(BadAnswer):
            server.client().request("GET", "/vms")
    for body in (b"[]", b"{}", b'{"items": []}', b"null"):
        with scripted(tmp_path, (200, JSON, body)) as server, pytest.raises(BadAnswer):
            list(server.client().pages("/vms"))
    with scripted(tmp_path, (200, {"Content-Length": str(1 << 40)}, b"")) as server, pytest.raises(Unreachable):
        server.client(timeout=0.5).request("GET", "/vms")


def test_an_answer_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qvd.apiclient.wire.Wire.ask.__defaults__", (None, 1000))
    assert MOST_BYTES > 1000
    with scripted(tmp_path, (200, {}, b"x" * 2000)) as server, pytest.raises(BadAnswer, match="1000"):
        server.client().request("GET", "/vms")


def test_no_other_place_is_gone_to(tmp_path: Path) -> None:
    """A redirection would take the token along."""
    with scripted(tmp_path, (302, {"Location": "https://localhost:1/"}, b"")) as server:
        assert server.client().request("GET", "/vms").status == 302
    assert len(server.asked) == 1


def test_the_environment_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with scripted(tmp_path, (200, {**JSON, "Set-Cookie": "a=b; Path=/"}, b"{}")) as server:
        api = server.client()
        api.request("GET", "/vms", query={"a": True, "b": ["x", "y z"], "c": None})
        api.request("GET", "/vms")
    assert server.asked[0][1] == "/api/v1/vms?a=true&b=x&b=y+z"
    assert "cookie" not in server.asked[1][2] and server.asked[1][2]["authorization"] == "Bearer qvd_x"


def test_errors_do_not_tell_the_token(tmp_path: Path) -> None:
    found: list[ApiError] = []
    calls: list[Callable[[Api], object]] = [
        lambda api: api.request("GET", "/vms"),
        lambda api: api.request("POST", "/vms", body={"password": "hunter2"}),
        lambda api: next(api.events(["vms"])),
        lambda api: api.stream("GET", "/vms").__enter__(),
    ]
    for answer in ((401, {}, b""), (200, JSON, b"{"), (302, {}, b"")):
        for call in calls:
            with scripted(tmp_path, answer) as server, pytest.raises(ApiError) as told:
                call(server.client())
                raise ApiError("no error")
            found.append(told.value)
    assert all("qvd_x" not in f"{each!r} {each}" and "hunter2" not in f"{each!r} {each}" for each in found)


def test_problems_of_others() -> None:
    """A proxy speaks for itself, and may say anything."""
    proxy = problem_of(502, {"content-type": "text/html"}, b"<html>")
    assert (proxy.kind, proxy.status) == ("unavailable", 502)
    strange = problem_of(
        418, {"content-type": "application/json"}, b'{"type": 1, "errors": [1, {"pointer": []}], "code": "x"}'
    )
    assert (strange.kind, strange.detail, len(strange.errors)) == ("unknown", "", 1)
    more = problem_of(409, {"content-type": "application/problem+json"}, b'{"type": "/problems/x", "dependents": [1]}')
    assert more.more == {"dependents": [1]}
    dated = problem_of(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")
    assert dated.retry_after is None


def test_streams(tmp_path: Path) -> None:
    rows = b"a,b\n" * 1000
    with (
        scripted(tmp_path, (200, {"Content-Type": "text/csv"}, rows)) as server,
        server.client().stream("POST", "/log/export.csv", query={"limit": 5}) as (headers, chunks),
    ):
        assert headers["content-type"] == "text/csv" and b"".join(chunks) == rows
    with (
        scripted(tmp_path, (500, {}, b"x" * 10_000_000)) as server,
        pytest.raises(ApiProblem) as told,
        server.client().stream("GET", "/log/export.csv"),
    ):
        raise AssertionError("there is nothing to read")
    assert told.value.status == 500
