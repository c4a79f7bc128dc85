"""What the clients in the field send, and that they can read what they get."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model import errors
from qvd.model.ids import VMId
from qvd.model.records import VMSummary
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from qvd.protocols import l7r
from qvd.protocols.http1 import HeadReader, RequestHead, Response, ResponseReader
from qvd.protocols.l7r import BasicCredentials, BearerCredentials, Route

WIRE = Path(__file__).resolve().parents[1] / "wire"
UPGRADE = "Connection: Upgrade\nUpgrade: QVD/1.0\n"


def head_of(data: bytes) -> RequestHead:
    reader = HeadReader(100_000)
    reader.feed(data)
    head = reader.next_head()
    assert head is not None
    return head


def recorded(name: str) -> RequestHead:
    return head_of((WIRE / f"{name}.bin").read_bytes())


def get(target: str, headers: str = "") -> RequestHead:
    return head_of(f"GET {target} HTTP/1.1\n{headers}\n".encode())


def authorized(value: str) -> RequestHead:
    return get("/qvd/list_of_vm", f"Authorization: {value}\n")


def basic(data: bytes) -> RequestHead:
    return authorized(f"Basic {b64encode(data).decode()}")


def response_of(data: bytes) -> Response:
    reader = ResponseReader(10_000, 10_000)
    reader.feed(data)
    response = reader.next_response()
    assert response is not None
    assert reader.take_rest() == b""
    return response


@pytest.mark.parametrize("client", ["perl", "qt"])
def test_recorded_requests(client: str) -> None:
    listing, stop, connect = (recorded(f"{client}-{name}") for name in ("0-list_of_vm", "1-stop_vm", "2-connect_to_vm"))
    assert [l7r.route(head) for head in (listing, stop, connect)] == [Route.LIST, Route.STOP, Route.CONNECT]
    assert {l7r.credentials(head) for head in (listing, stop, connect)} == {BasicCredentials("alice", Secret("secret"))}
    assert l7r.stop_request(stop) == l7r.StopVM(VMId(9))
    request = l7r.connect_request(connect)
    assert request.vm_id == 9
    assert "id" not in request.parameters
    assert request.parameters["qvd.client.keyboard"] == "pc105/us"
    assert request.parameters["qvd.client.nxagent.extra_args"] == ""
    assert l7r.fill_mandatory(request.parameters) == request.parameters


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("GET /qvd/ping", Route.PING),
        ("GET /qvd/ping?x=1", Route.PING),
        ("GET /qvd/list_of_applications", Route.LIST_APPLICATIONS),
        ("HEAD /qvd/ping", Route.UNKNOWN),
        ("get /qvd/ping", Route.UNKNOWN),
        ("GET /qvd/PING", Route.UNKNOWN),
        ("GET /qvd/ping/", Route.UNKNOWN),
        ("GET /", Route.UNKNOWN),
    ],
)
def test_routes(line: str, route: Route) -> None:
    assert l7r.route(head_of(f"{line} HTTP/1.1\n\n".encode())) is route


@pytest.mark.parametrize(
    "headers", ["", "Connection: Upgrade\n", "Upgrade: QVD/1.0\n", "Connection: Upgrade\nUpgrade: QVD/2.0\n"]
)
def test_connect_needs_the_upgrade_before_anything_else(headers: str) -> None:
    with pytest.raises(l7r.UpgradeRequired) as caught:
        l7r.connect_request(get("/qvd/connect_to_vm?nonsense=1", headers))
    assert l7r.status_of(caught.value) == 426


def test_upgrade_in_a_list_and_any_case() -> None:
    head = get("/qvd/connect_to_vm?id=1", "connection: Keep-Alive, UPGRADE\nupgrade: h2c, qvd/1.0\n")
    assert l7r.connect_request(head).vm_id == 1


@pytest.mark.parametrize("query", ["", "?", "?id", "?id=", "?qvd.client.os=linux", "?ID=1"])
def test_id_is_missing(query: str) -> None:
    for ask in (l7r.connect_request, l7r.stop_request):
        with pytest.raises(errors.InvalidRequest, match="parameter id is missing"):
            ask(get(f"/qvd/x{query}", UPGRADE))


@pytest.mark.parametrize(
    "value", ["x", "1.0", "+1", "0x1", "1_0", "٣", "2147483648", "-2147483649", "9" * 5000, "%00", "1%0A"]
)
def test_id_is_no_number_of_a_vm(value: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="not the number"):
        l7r.stop_request(get(f"/qvd/stop_vm?id={value}"))


def test_id_at_its_limits() -> None:
    assert l7r.stop_request(get("/qvd/stop_vm?id=2147483647")).vm_id == 2**31 - 1
    assert l7r.stop_request(get("/qvd/stop_vm?id=-1&else=x")).vm_id == -1


def test_only_clients_parameters() -> None:
    head = get("/qvd/connect_to_vm?id=1&qvd.client.os=linux&custom.a=b", UPGRADE)
    assert l7r.connect_request(head).parameters == {"qvd.client.os": "linux", "custom.a": "b"}


@pytest.mark.parametrize("key", ["auth_token", "qvd.vm.user.name", "qvd.slave.key", "qvd.client", "", "%FF%0A"])
def test_other_parameters_are_forbidden(key: str) -> None:
    with pytest.raises(errors.Forbidden, match="Invalid parameters") as caught:
        l7r.connect_request(get(f"/qvd/connect_to_vm?id=1&{key}=x", UPGRADE))
    assert caught.value.text.isprintable()


def test_many_forbidden_parameters_make_a_short_text() -> None:
    query = "".join(f"&{'k' * 100}{i}=x" for i in range(50))
    with pytest.raises(errors.Forbidden) as caught:
        l7r.connect_request(get(f"/qvd/connect_to_vm?id=1{query}", UPGRADE))
    assert len(caught.value.text) < 300


def test_mandatory_keys_are_filled_in() -> None:
    filled = l7r.fill_mandatory({"qvd.client.os": "linux", "custom.a": "b"})
    assert filled == dict.fromkeys(l7r.MANDATORY, "") | {"qvd.client.os": "linux", "custom.a": "b"}
    assert len(l7r.MANDATORY) == 5


@pytest.mark.parametrize(
    ("head", "login", "password"),
    [
        (basic(b"alice@acme:s3cret"), "alice@acme", "s3cret"),
        (basic(b"alice:a:b:c"), "alice", "a:b:c"),
        (basic(b"alice:"), "alice", ""),
        (basic("josé:ñ".encode()), "josé", "ñ"),
        (basic("josé:ñ".encode("latin-1")), "josé", "ñ"),
        (basic("Škoda:€„ñ“".encode("cp1252")), "Škoda", "€„ñ“"),
        (basic(b"jos\xe9:\x80\x81"), "josé", "\x80\x81"),
        (authorized("bAsIc YWxpY2U6c2Vj cmV0"), "alice", "secret"),
    ],
)
def test_basic(head: RequestHead, login: str, password: str) -> None:
    assert l7r.credentials(head) == BasicCredentials(login, Secret(password))


def test_bearer() -> None:
    token = "k3Zb9QmT1vXc7RfL0sWyA2eHgUjNpD5iOaBt6uV8xYz"
    head = authorized("bearer azNaYjlRbVQxdlhjN1JmTDBzV3lBMmVIZ1VqTnBENWlPYUJ0NnVWOHhZeg==")
    assert l7r.credentials(head) == BearerCredentials(Secret(token))


@pytest.mark.parametrize(
    "head",
    [
        get("/qvd/list_of_vm"),
        authorized(""),
        authorized("Basic"),
        authorized("Basic %%%"),
        authorized("Basic YWxpY2"),
        authorized("Basic ñ"),
        authorized("Bearer "),
        authorized("Negotiate YWxpY2U6c2VjcmV0"),
        basic(b"alice"),
        basic(b":secret"),
        basic(b"al\0ice:secret"),
    ],
)
def test_no_credentials(head: RequestHead) -> None:
    assert l7r.credentials(head) is None


@given(st.binary(max_size=60))
def test_any_authorization_is_understood_or_not(value: bytes) -> None:
    l7r.credentials(RequestHead("GET", "/", "/", (), (("Authorization", value.decode("utf-8", "surrogateescape")),)))
    l7r.credentials(basic(value))


def test_credentials_are_not_shown() -> None:
    assert "canary" not in repr(l7r.credentials(basic(b"alice:canary")))
    assert "canary" not in repr(l7r.connect_request(get("/qvd/connect_to_vm?id=1&custom.a=canary", UPGRADE)))


@pytest.mark.parametrize(
    ("login", "parted"),
    [
        ("alice", ("alice", "default")),
        ("alice@acme", ("alice", "acme")),
        ("alice#acme", ("alice", "acme")),
        ("alice@acme@x", ("alice", "acme@x")),
        ("alice#a@b", ("alice", "a@b")),
        ("alice@", ("alice", "")),
        (" alice @ acme ", ("alice", "acme")),
    ],
)
def test_split_login(login: str, parted: tuple[str, str]) -> None:
    assert l7r.split_login(login, "@#", "default") == parted


def test_split_login_without_separators() -> None:
    assert l7r.split_login("alice@acme", "", "default") == ("alice@acme", "default")


def test_token_bytes() -> None:
    """The form that C{Authorization: Bearer} takes, without a line break."""
    assert l7r.token_issued(Secret("k3Zb-_" * 20)).endswith(
        b'{"auth_token": "%s"}\n' % b64encode(b"k3Zb-_" * 20),
    )
    assert l7r.authenticated().endswith(b"\r\n\r\n{}\n")


def test_list_bytes() -> None:
    vms = [
        VMSummary(VMId(12), "alice-ñ", VMState.STOPPED, blocked=False, is_application=False),
        VMSummary(VMId(13), "b", VMState.RUNNING, blocked=True, is_application=True),
    ]
    data = l7r.vm_list(vms)
    head, body = data.split(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
    assert body.endswith(b"]\n")
    assert body.isascii()
    assert b'"id": 12' in body
    assert b'"blocked": 0' in body
    assert json.loads(body)[0]["name"] == "alice-ñ"
    assert json.loads(body)[1] == {"id": 13, "state": "running", "name": "b", "blocked": 1, "is_application": 1}


def test_empty_list_has_a_body() -> None:
    assert response_of(l7r.vm_list([])).body == b"[]\n"


def test_plain_replies() -> None:
    assert response_of(l7r.pong()).body == b"I am alive!\r\n"
    assert response_of(l7r.stopped()).body == b"Machine stopped\r\n"


def test_progress_and_switch_bytes() -> None:
    assert l7r.progress("Session acquired for VM_ID: 12") == (
        b"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Session acquired for VM_ID: 12\r\n\r\n"
    )
    assert l7r.switch("k" * 64) == (b"HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: " + b"k" * 64 + b"\r\n\r\n")


@given(st.text())
def test_progress_takes_any_text(text: str) -> None:
    data = l7r.progress(text)
    assert data.isascii()
    assert response_of(data).head.status == 102


def test_error_bytes() -> None:
    assert l7r.error_reply(401, "Authentication failed") == (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\n"
        b'WWW-Authenticate: Basic realm="QVD"\r\nContent-Length: 22\r\n\r\nAuthentication failed\n'
    )
    unavailable = response_of(l7r.error_reply(503, "Später", retry_after=7))
    assert unavailable.head.header("Retry-After") == "7"
    assert unavailable.body == "Später\n".encode()
    assert response_of(l7r.error_reply(426, "x")).head.header("Upgrade") == "QVD/1.0"
    assert response_of(l7r.error_reply(404, "x")).head.header("WWW-Authenticate") is None


@pytest.mark.parametrize("text", ["", "\n", "\ud800"])
def test_errors_always_have_a_body(text: str) -> None:
    assert response_of(l7r.error_reply(500, text)).body.strip()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.QVDError("x"), 500),
        (errors.AuthenticationFailed("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.InvalidRequest("x"), 422),
        (errors.DeadlineExceeded("x"), 503),
        (errors.Unavailable("x"), 503),
        (errors.DatabaseUnavailable("x"), 503),
        (errors.SessionLost("x"), 503),
        (errors.OwnershipLost("x"), 503),
        (errors.PermanentError("x"), 503),
        (errors.GuestError("x"), 503),
        (errors.SettingsError("x"), 500),
    ],
)
def test_statuses(error: errors.QVDError, status: int) -> None:
    assert l7r.status_of(error) == status


def test_a_stop_that_takes_too_long() -> None:
    assert l7r.status_of(errors.DeadlineExceeded("x"), Route.STOP) == 408


def test_every_status_can_be_sent() -> None:
    for status in (400, 401, 403, 404, 408, 422, 426, 431, 500, 503, 505):
        assert response_of(l7r.error_reply(status, "x")).head.status == status
