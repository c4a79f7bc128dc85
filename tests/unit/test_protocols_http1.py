"""Heads: one meaning for the same bytes however they are cut, and a clear no to everything else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.protocols.http1 import (
    HeadReader,
    LocalProtocolError,
    RemoteProtocolError,
    RequestHead,
    Response,
    ResponseReader,
    decode_query,
    encode_interim,
    encode_query,
    encode_request,
    encode_response,
    header_text,
)
from tests import strategies

WIRE = Path(__file__).resolve().parents[1] / "wire"
RECORDED = {path.stem: path.read_bytes() for path in sorted(WIRE.glob("*.bin"))}
CLIENTS = ("perl", "qt")
NX = b"NXPROXY-3.5.0-3.5.99 stream=default,data=default "
LIMIT = 16384

Heads = list[RequestHead | int]
Responses = list[Response | str]


def read(chunks: Iterable[bytes], limit: int = LIMIT) -> tuple[Heads, bytes]:
    """All heads, or the status hint of the error in their place, and the rest."""
    reader = HeadReader(limit)
    found: Heads = []
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (head := reader.next_head()) is not None:
                found.append(head)
        except RemoteProtocolError as error:
            if not found or not isinstance(found[-1], int):
                found.append(error.status_hint)
    return found, reader.take_rest()


def read_responses(chunks: Iterable[bytes]) -> tuple[Responses, bytes]:
    reader = ResponseReader(200, 200)
    found: Responses = []
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (response := reader.next_response()) is not None:
                found.append(response)
        except RemoteProtocolError as error:
            if not found or not isinstance(found[-1], str):
                found.append(str(error))
    return found, reader.take_rest()


def one(data: bytes) -> RequestHead:
    found, rest = read([data])
    assert rest == b""
    (head,) = found
    assert isinstance(head, RequestHead)
    return head


def refusal(data: bytes, limit: int = LIMIT) -> int:
    (found,), _ = read([data], limit)
    assert isinstance(found, int)
    return found


def test_recorded_requests_are_there() -> None:
    assert len(RECORDED) == 6


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_at_every_split(name: str) -> None:
    data = RECORDED[name]
    whole = read([data + NX])
    assert whole[1] == NX
    for at in range(len(data) + 1):
        assert read([data[:at], data[at:] + NX]) == whole


@pytest.mark.parametrize("client", CLIENTS)
def test_recorded_connection(client: str) -> None:
    """List, stop and connect of one connection, and the first bytes of NX after them."""
    data = b"".join(RECORDED[name] for name in sorted(RECORDED) if name.startswith(client)) + NX
    found, rest = read([data])
    heads = [head for head in found if isinstance(head, RequestHead)]
    assert [head.path for head in heads] == ["/qvd/list_of_vm", "/qvd/stop_vm", "/qvd/connect_to_vm"]
    assert heads[2].parameters["qvd.client.keyboard"] == "pc105/us"
    assert {head.header("authorization") for head in heads} == {"Basic YWxpY2U6c2VjcmV0"}
    assert rest == NX
    assert read([data[i : i + 1] for i in range(len(data))]) == (found, rest)


def test_perl_query_is_empty_not_a_key() -> None:
    assert one(RECORDED["perl-0-list_of_vm"]).query == ()


@given(st.data(), strategies.near_http)
def test_chunking_changes_nothing(data: st.DataObject, stream: bytes) -> None:
    assert read(data.draw(strategies.chunked(stream)), 60) == read([stream], 60)


@given(st.data(), strategies.near_http)
def test_chunking_changes_no_response(data: st.DataObject, stream: bytes) -> None:
    assert read_responses(data.draw(strategies.chunked(stream))) == read_responses([stream])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_protocol_errors_only(stream: bytes) -> None:
    read([stream])
    read_responses([stream])
    read_responses([b"HTTP/1.1 " + stream])
    read([b"GET / HTTP/1.1\n" + stream])


@given(strategies.request_heads(), st.binary(max_size=50))
def test_nothing_is_lost_after_a_head(head: bytes, rest: bytes) -> None:
    reader = HeadReader(LIMIT)
    reader.feed(head + rest)
    assert reader.next_head() is not None
    assert reader.take_rest() == rest
    assert reader.buffered == 0


@given(strategies.tokens, strategies.queries)
def test_requests_of_ours_come_back(method: str, query: list[tuple[str, str]]) -> None:
    head = one(encode_request(method, "/qvd/x", query, [("A-b", "c d")]))
    assert (head.method, head.path, list(head.query)) == (method, "/qvd/x", query)
    assert head.headers == (("A-b", "c d"),)


@given(st.binary(max_size=40))
def test_queries_keep_any_bytes(raw: bytes) -> None:
    """What is no UTF-8 comes out as surrogates and goes on as the same bytes."""
    text = raw.decode("utf-8", "surrogateescape")
    assert decode_query(encode_query([("k", text)])) == (("k", text),)


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        ("", ()),
        ("a", (("a", ""),)),
        ("a=", (("a", ""),)),
        ("a=b=c", (("a", "b=c"),)),
        ("a=1&&b=2", (("a", "1"), ("", ""), ("b", "2"))),
        ("a=%zz%4", (("a", "%zz%4"),)),
        ("a+b=c+d%2B", (("a b", "c d+"),)),
        ("a=ñ&a=%C3%B1", (("a", "ñ"), ("a", "ñ"))),
    ],
)
def test_query_decoding(raw: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert decode_query(raw) == pairs


def test_last_of_duplicates_wins() -> None:
    assert one(b"GET /x?a=1&a=2 HTTP/1.1\n\n").parameters == {"a": "2"}


def test_raw_spaces_and_utf8_in_target() -> None:
    head = one("GET /x?folder=/home/José María/a HTTP/1.1\n\n".encode())
    assert head.target == "/x?folder=/home/José María/a"
    assert head.parameters == {"folder": "/home/José María/a"}


def test_headers_in_any_case_and_their_tokens() -> None:
    head = one(b"GET / HTTP/1.1\r\nCONNECTION: keep-alive,\tUpgrade\nconnection: x,\nempty:\n\n")
    assert head.header("Connection") == "keep-alive,\tUpgrade"
    assert head.tokens("Connection") == {"keep-alive", "upgrade", "x"}
    assert head.header("Empty") == ""
    assert head.header("none") is None
    assert head.tokens("none") == frozenset()


def test_blank_lines_before_a_head_are_skipped_and_begin_nothing() -> None:
    reader = HeadReader(20)
    seen = []
    for data in (b"\r\n\n" * 50 + b"\r", b"\nGET / HTTP/1.1\n", b"\n"):
        reader.feed(data)
        seen.append((reader.next_head() is not None, reader.pending))
    assert seen == [(False, False), (False, True), (True, False)]


def test_short_head_after_a_long_one() -> None:
    reader = HeadReader(LIMIT)
    reader.feed(b"GET /" + b"x" * 100 + b" HTTP/1.1\n")
    assert reader.next_head() is None
    reader.feed(b"\nGET /short HTTP/1.1\n\n")
    assert [head.path[:3] for head in (reader.next_head(), reader.next_head()) if head] == ["/xx", "/sh"]


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n\n",
        b"GET HTTP/1.1\n\n",
        b"G(T / HTTP/1.1\n\n",
        b" GET / HTTP/1.1\n\n",
        b"GET\t/\tHTTP/1.1\n\n",
        b"GET / HTTP/1.1\nno colon\n\n",
        b"GET / HTTP/1.1\nspace : x\n\n",
        b"GET / HTTP/1.1\n: x\n\n",
        b"GET / HTTP/1.1\na: b\n folded\n\n",
        b"GET / HTTP/1.1\n\tfolded\n\n",
        b"GET /\0 HTTP/1.1\n\n",
        b"GET /a\tb HTTP/1.1\n\n",
        b"GET / HTTP/1.1\na: \x7f\n\n",
        b"GET / HTTP/1.1\na: b\rc: d\n\n",
        b"POST / HTTP/1.1\ncontent-length: 5\n\nhello",
        b"POST / HTTP/1.1\nContent-Length: 0\nContent-Length: 5\n\nhello",
        b"POST / HTTP/1.1\nContent-Length: -0\n\n",
        b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n\n",
        b"\x16\x03\x01\x02\x00\x01\n\n",
    ],
)
def test_not_a_request(data: bytes) -> None:
    assert refusal(data) == 400


@pytest.mark.parametrize("line", [b"GET / HTTP/1.0", b"GET /", b"GET / HTTP/1.10", b"A / http/1.1", b"GET / HTTP/1.1 "])
def test_other_versions(line: bytes) -> None:
    assert refusal(line + b"\n\n") == 505


def test_no_body_may_be_said() -> None:
    assert one(b"GET / HTTP/1.1\nContent-Length: 0\n\n").method == "GET"


def test_limit_is_exact() -> None:
    start, end = b"GET / HTTP/1.1\nA: ", b"\r\n\r\n"
    fits = start + b"x" * (100 - len(start) - len(end)) + end
    found, _ = read([fits], 100)
    assert isinstance(found[0], RequestHead)
    assert refusal(fits, 99) == 431
    assert refusal(b"x" * 101, 100) == 431
    assert read([b"x" * 100], 100)[0] == []


def test_number_of_headers() -> None:
    assert len(one(b"GET / HTTP/1.1\n" + b"a: b\n" * 100 + b"\n").headers) == 100
    assert refusal(b"GET / HTTP/1.1\n" + b"a: b\n" * 101 + b"\n") == 431


def test_after_an_error_nothing_is_kept() -> None:
    reader = HeadReader(100)
    reader.feed(b"nonsense\n\n" + b"x" * 1000)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.next_head()
        reader.feed(b"GET / HTTP/1.1\n\n")
        assert reader.buffered == 0


def test_repr_tells_no_secrets() -> None:
    head = one(b"GET /vma/x_start?auth_token=canary HTTP/1.1\nAuthorization: Basic canary\n\n")
    assert "canary" not in repr(head)
    assert "/vma/x_start" in repr(head)


def test_responses_interim_final_and_switch() -> None:
    data = (
        encode_interim(102, [("X-QVD-VM-Info", "wait")])
        + encode_response(200, [], b"body")
        + b"HTTP/1.1 204 \n\n"
        + encode_interim(101, [])
        + encode_response(200, [], b"no HTTP any more")
    )
    found, rest = read_responses([data])
    assert [(r.head.status, r.head.reason, r.body) for r in found if isinstance(r, Response)] == [
        (102, "Processing", b""),
        (200, "OK", b"body"),
        (204, "", b""),
        (101, "Switching Protocols", b""),
    ]
    assert rest == encode_response(200, [], b"no HTTP any more")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\nContent-Length: 1\n\nx",
        b"HTTP/1.1 600 x\nContent-Length: 1\n\nx",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: x\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 201\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: " + b"9" * 100 + b"\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\nx",
        b"x" * 201,
    ],
)
def test_not_a_response(data: bytes) -> None:
    found, rest = read_responses([data])
    assert len(found) == 1
    assert isinstance(found[0], str)
    assert rest == b""


def test_response_bytes() -> None:
    assert (
        encode_response(426, [("A", "b")], b"x")
        == b"HTTP/1.1 426 Upgrade Required\r\nA: b\r\nContent-Length: 1\r\n\r\nx"
    )
    assert encode_interim(101, []) == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    assert encode_request("GET", "/a", [("k", "a b/ñ")]) == b"GET /a?k=a%20b%2F%C3%B1 HTTP/1.1\r\n\r\n"


def test_our_own_mistakes() -> None:
    for bad in ("a\r\nb", "a\nb", "ñ", "\0"):
        with pytest.raises(LocalProtocolError):
            encode_interim(102, [("A", bad)])
    for name in ("A_b", "A b", "", "A:"):
        with pytest.raises(LocalProtocolError):
            encode_interim(102, [(name, "x")])
    with pytest.raises(LocalProtocolError):
        encode_response(200, [], b"")
    with pytest.raises(LocalProtocolError):
        encode_response(102, [], b"x")
    with pytest.raises(LocalProtocolError):
        encode_interim(200, [])
    with pytest.raises(LocalProtocolError):
        encode_response(299, [], b"x")
    for path in ("x", "/a b", "/a?b", "/ñ"):
        with pytest.raises(LocalProtocolError):
            encode_request("GET", path)
    with pytest.raises(LocalProtocolError):
        encode_request("GET", "/", [("a", "\ud800")])


@given(st.text())
def test_any_text_fits_a_header(text: str) -> None:
    data = encode_interim(102, [("X-QVD-VM-Info", header_text(text))])
    (found,), rest = read_responses([data]) if len(data) <= 200 else ((None,), b"")
    assert rest == b""
    assert found is None or isinstance(found, Response)
