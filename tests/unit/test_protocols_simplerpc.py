"""Calls and replies, there and back; and replies that a hostile guest might send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.secret import Secret
from qvd.protocols.http1 import HeadReader, RemoteProtocolError, RequestHead, Response, ResponseHead, ResponseReader
from qvd.protocols.simplerpc import (
    Call,
    Result,
    RPCError,
    decode_reply,
    encode_call,
    encode_error,
    encode_result,
    is_authorized,
    parse_call,
)
from tests import strategies

SECRET = Secret("s3cret")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def head_of(data: bytes) -> RequestHead:
    reader = HeadReader(100_000)
    reader.feed(data)
    head = reader.next_head()
    assert head is not None
    assert reader.take_rest() == b""
    return head


def response_of(data: bytes) -> Response:
    reader = ResponseReader(1000, 100_000)
    reader.feed(data)
    response = reader.next_response()
    assert response is not None
    return response


def body(data: bytes, status: int = 200) -> Response:
    return Response(ResponseHead(status, "", ()), data)


@given(st.dictionaries(strategies.unicode_texts.filter(bool), strategies.unicode_texts, max_size=8))
def test_calls_come_back(arguments: dict[str, str]) -> None:
    call = Call("x_start", arguments)
    assert parse_call(head_of(encode_call(call, SECRET))) == call


def test_call_bytes() -> None:
    call = Call("x_start", {"qvd.client.keyboard": "pc105/es"})
    assert encode_call(call, SECRET) == (
        b"GET /vma/x_start?qvd.client.keyboard=pc105%2Fes HTTP/1.1\r\n"
        b"User-Agent: qvd-node\r\nAuthorization: Bearer s3cret\r\n\r\n"
    )
    assert b"Authorization" not in encode_call(Call("ping"), None)


def test_call_of_the_original_node() -> None:
    call = parse_call(head_of(b"GET /vma/x_state HTTP/1.1\r\nUser-Agent: QVD::HTTPC/0.01 (linux)\r\n\r\n"))
    assert call == Call("x_state")


@pytest.mark.parametrize("line", ["POST /vma/ping", "GET /vma/", "GET /vma/a/b", "GET /ping", "GET /vma/a-b"])
def test_not_a_call(line: str) -> None:
    assert parse_call(head_of(f"{line} HTTP/1.1\n\n".encode())) is None


def test_arguments_are_not_shown() -> None:
    assert "canary" not in repr(Call("x_start", {"qvd.slave.key": "canary"}))


@pytest.mark.parametrize(
    ("header", "authorized"),
    [
        ("Bearer s3cret", True),
        ("bearer s3cret", True),
        ("Bearer s3cret2", False),
        ("Bearer ", False),
        ("Basic s3cret", False),
        ("s3cret", False),
        ("Bearer s3cr\xe9t", False),
        ("", False),
    ],
)
def test_authorization(header: str, authorized: bool) -> None:
    head = head_of(f"GET /vma/ping HTTP/1.1\nAuthorization: {header}\n\n".encode("latin-1"))
    assert is_authorized(head, SECRET) is authorized


def test_no_header_no_authorization() -> None:
    assert not is_authorized(head_of(b"GET /vma/ping HTTP/1.1\n\n"), SECRET)


@given(VALUES)
def test_results_come_back(value: object) -> None:
    assert decode_reply(response_of(encode_result(value))) == Result(value)


@given(st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1, max_size=50))
def test_errors_come_back(text: str) -> None:
    assert decode_reply(response_of(encode_error(text))) == RPCError(text)


def test_reply_bytes() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json-simplerpc\r\nContent-Length: %d\r\n\r\n"
    assert encode_result("listening") == head % 14 + b'"listening"\n\r\n'
    assert encode_result(None) == head % 7 + b"null\n\r\n"
    assert encode_error("no\n") == head % 12 + b'"","no\\n"\n\r\n'


def test_error_of_the_original_agent() -> None:
    text = "Can't connect to X session in state connected, suspending it, retry later"
    assert decode_reply(body(f'"","{text}\\n"\n\r\n'.encode())) == RPCError(text)


def test_errors_are_one_bounded_line_of_plain_text() -> None:
    reply = decode_reply(body(f'"",{json.dumps("a" + chr(27) + chr(10) + chr(0xD800) + "b" * 9999)}'.encode()))
    assert reply == RPCError("a   " + "b" * 496)


@pytest.mark.parametrize("data", [b'"",""', b'"",null', b'"",{}', b'"","\\n"', b"1,2,3"])
def test_errors_without_a_text(data: bytes) -> None:
    assert decode_reply(body(data)) == RPCError("The agent reports an error and does not say which")


@pytest.mark.parametrize("data", [b"", b" \n", b"x", b"1 2", b"]", b"[" * 65536, b"\xff", b"1" * 10000, b'"a'])
def test_nonsense(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_reply(body(data))


def test_other_status() -> None:
    with pytest.raises(RemoteProtocolError, match="404"):
        decode_reply(body(b"null", 404))


@given(st.binary(max_size=100))
def test_arbitrary_bodies_raise_protocol_errors_only(data: bytes) -> None:
    try:
        decode_reply(body(data))
    except RemoteProtocolError:
        pass
