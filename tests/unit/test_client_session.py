"""L{qvd.client.session}."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qvd.client.errors import ClientError, Exit
from qvd.client.session import VM, Session, authorization, choose, parse_list
from qvd.client.wire import Progress
from qvd.model.secret import Secret
from qvd.protocols.http1 import HeadReader, RequestHead, Response, ResponseHead
from qvd.protocols.l7r import BasicCredentials, BearerCredentials, connect_request, credentials

LINES = [
    {"id": 12, "name": "desktop", "state": "stopped", "blocked": 0, "is_application": 0},
    {"id": 13, "name": "12", "state": "running", "blocked": 1, "is_application": 0, "new_field": 1},
    {"id": 14, "name": "twin", "state": "running", "blocked": 0, "is_application": 0},
    {"id": 15, "name": "twin", "state": "running", "blocked": 0, "is_application": 0},
]
VMS = parse_list(json.dumps(LINES).encode())
LOGIN = BasicCredentials("alice@acme", Secret("pa:ß"))


def test_list_keeps_what_is_shown() -> None:
    assert VMS[1].fields == {"id": 13, "name": "12", "state": "running", "blocked": 1, "is_application": 0}
    assert parse_list(b"[]") == ()


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"id": "12", "name": "x"}]', b'[{"id": 1}]', b"\xff"])
def test_what_is_no_list(body: bytes) -> None:
    with pytest.raises(ClientError, match="cannot be understood") as raised:
        parse_list(body)
    assert raised.value.exit is Exit.REFUSED


@pytest.mark.parametrize(("wanted", "vm_id"), [("12", 12), ("desktop", 12), ("13", 13), ("99", 99)])
def test_choose(wanted: str, vm_id: int) -> None:
    """An id goes before a name; an id that is not in the list is left to the server's judgement."""
    assert choose(VMS, wanted).vm_id == vm_id


def test_the_only_one_needs_no_choice() -> None:
    assert choose(VMS[:1], None) == VMS[0]


@pytest.mark.parametrize(
    ("vms", "wanted", "exit"),
    [
        (VMS, None, Exit.USAGE),
        (VMS, "twin", Exit.USAGE),
        (VMS, "other", Exit.NO_SUCH_VM),
        ((), None, Exit.NO_SUCH_VM),
        ((), "other", Exit.NO_SUCH_VM),
    ],
)
def test_no_choice(vms: tuple[VM, ...], wanted: str | None, exit: Exit) -> None:
    with pytest.raises(ClientError) as raised:
        choose(vms, wanted)
    assert raised.value.exit is exit
    if vms is VMS:
        assert "14 twin, 15 twin" in raised.value.text


@pytest.mark.parametrize("offered", [LOGIN, BearerCredentials(Secret("token"))])
def test_server_understands_the_authorization(offered: BasicCredentials | BearerCredentials) -> None:
    assert credentials(RequestHead("GET", "/", "/", (), (authorization(offered),))) == offered


def test_bytes_go_out_as_they_were_typed() -> None:
    assert authorization(BearerCredentials(Secret("\udcff")))[1] == "Bearer /w=="


class FakeServer:
    """Reads requests with the server's own reader and answers from a list."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.requests: list[RequestHead] = []
        self._answers = list(answers)

    async def exchange(self, request: bytes, seconds: float, progress: Progress) -> Response:
        reader = HeadReader(10_000)
        reader.feed(request)
        head = reader.next_head()
        assert head is not None
        assert not reader.pending
        self.requests.append(head)
        status, body = self._answers.pop(0)
        return Response(ResponseHead(status, "Reason", ()), body)


def make_session(*answers: tuple[int, bytes]) -> tuple[Session, FakeServer]:
    server: Any = FakeServer(*answers)
    return Session(server, LOGIN, 5.0, lambda text: None), server


def outcome(coroutine: Coroutine[Any, Any, Any]) -> Any:
    seen: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(seen.append)
    if isinstance(seen[0], Failure):
        error: Any = seen[0].value
        raise error
    return seen[0]


def test_list() -> None:
    session, server = make_session((200, json.dumps(LINES).encode()))
    assert outcome(session.list_vms()) == VMS
    assert server.requests[0].target == "/qvd/list_of_vm"
    assert credentials(server.requests[0]) == LOGIN


def test_no_qvd_server() -> None:
    session, _ = make_session((404, b"Not found"))
    with pytest.raises(ClientError) as raised:
        outcome(session.list_vms())
    assert (raised.value.exit, raised.value.text) == (Exit.REFUSED, "This is no QVD server: Not found")


def test_connect() -> None:
    session, server = make_session((101, b""))
    parameters = {"qvd.client.keyboard": "pc105/es", "qvd.client.os": "Größe &="}
    outcome(session.connect(12, parameters))
    request = connect_request(server.requests[0])
    assert (request.vm_id, request.parameters) == (12, parameters)


@pytest.mark.parametrize(("status", "exit"), [(200, Exit.REFUSED), (403, Exit.FORBIDDEN), (503, Exit.UNAVAILABLE)])
def test_connect_with_any_other_answer_is_an_error(status: int, exit: Exit) -> None:
    session, _ = make_session((status, b"words"))
    with pytest.raises(ClientError) as raised:
        outcome(session.connect(12, {}))
    assert (raised.value.exit, raised.value.text) == (exit, "words")


def test_stop_and_ping() -> None:
    session, server = make_session((200, b"Machine stopped\r\n"), (200, b"I am alive!\r\n"))
    assert outcome(session.stop(12)) == "Machine stopped"
    assert outcome(session.ping()) == "I am alive!"
    assert [head.target for head in server.requests] == ["/qvd/stop_vm?id=12", "/qvd/ping"]
