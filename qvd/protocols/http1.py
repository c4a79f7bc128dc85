# -*- test-case-name: tests.unit.test_protocols_http1 -*-
"""
Heads of HTTP/1.1 messages, to values and back, in the dialect that QVD's clients and agents speak.

Lenient where they need it: lines may end in a bare LF, C{Host} is not asked for, and the target of a request may
hold raw spaces and UTF-8. Strict everywhere else: no folded headers, no bodies on requests, no chunks.

What a reader makes of a stream of bytes does not depend on how the stream was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Generic, TypeVar
from urllib.parse import quote, unquote_to_bytes

from attrs import field, frozen

VERSION = "HTTP/1.1"
MAX_HEADERS = 100

_LEADING_BLANK = re.compile(rb"(?:\r?\n)+")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(r"HTTP/1\.1 ([1-5][0-9][0-9])(?: (.*))?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_OUR_NAME = re.compile(r"[A-Za-z0-9\-]+")
_OUR_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OUR_PATH = re.compile(r"/[\x21-\x3e\x40-\x7e]*")

T = TypeVar("T")
Headers = tuple[tuple[str, str], ...]
Pairs = Iterable[tuple[str, str]]


class LocalProtocolError(Exception):
    """We were about to send something that a peer would not understand."""


class RemoteProtocolError(Exception):
    """The peer sent something that is not the protocol. The connection cannot be used further.

    @ivar status_hint: the status to answer with, where there is still somebody to answer.
    """

    def __init__(self, text: str, status_hint: int = 400) -> None:
        super().__init__(text)
        self.status_hint = status_hint


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _first(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


@frozen
class RequestHead:
    """A request. Its C{repr} leaves out what may hold credentials.

    @ivar target: as it was sent; bytes that are not UTF-8 are there as surrogates, here and in C{query}.
    @ivar path: the target up to the first question mark, not decoded.
    @ivar query: decoded, in order, duplicates included.
    """

    method: str
    target: str = field(repr=False)
    path: str
    query: Headers = field(repr=False)
    headers: Headers = field(repr=False)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query as a mapping, where the last of duplicates wins."""
        return dict(self.query)

    def header(self, name: str) -> str | None:
        """The first header of that name, in whatever case."""
        return _first(self.headers, name)

    def tokens(self, name: str) -> frozenset[str]:
        """The members of all headers of that name, in lower case."""
        wanted = name.lower()
        lists = (value.split(",") for key, value in self.headers if key.lower() == wanted)
        return frozenset(token.strip().lower() for tokens in lists for token in tokens) - {""}


@frozen
class ResponseHead:
    """Status and headers of a response."""

    status: int
    reason: str
    headers: Headers = field(repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that name, in whatever case."""
        return _first(self.headers, name)


@frozen
class Response:
    """A complete response; interim ones and the switch have no body."""

    head: ResponseHead
    body: bytes = field(repr=False)


def decode_query(raw: str) -> Headers:
    """Take apart what stands after the question mark; invalid escapes are left as they are."""
    if not raw:
        return ()

    def decoded(part: bytes) -> str:
        return _text(unquote_to_bytes(part.replace(b"+", b" ")))

    pieces = (piece.partition(b"=") for piece in raw.encode("utf-8", "surrogateescape").split(b"&"))
    return tuple((decoded(key), decoded(value)) for key, _, value in pieces)


def encode_query(pairs: Pairs) -> str:
    """The inverse of L{decode_query}: all but unreserved characters escaped."""

    def encoded(part: str) -> str:
        try:
            return quote(part, safe="", errors="surrogateescape")
        except UnicodeEncodeError:
            raise LocalProtocolError("text that is not Unicode in a query") from None

    return "&".join(f"{encoded(key)}={encoded(value)}" for key, value in pairs)


class _HeadBuffer:
    """Bytes not yet consumed, and the lines of the next head among them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        self._searched = 0
        return taken

    def pending(self) -> bool:
        self._skip_blank_lines()
        return len(self._data) > 0 and self._data != b"\r"

    def next_lines(self) -> list[str] | None:
        """@raise RemoteProtocolError: the head is over the limit, or holds control characters."""
        self._skip_blank_lines()
        end = _END_OF_HEAD.search(self._data, max(0, self._searched - 2))
        if (len(self._data) if end is None else end.end()) > self._limit:
            raise RemoteProtocolError(f"The head is longer than {self._limit} bytes", 431)
        if end is None:
            self._searched = len(self._data)
            return None
        size = end.start()  # a match looks at the buffer, which changes below
        return _lines(self.take(end.end())[:size])

    def _skip_blank_lines(self) -> None:
        if blank := _LEADING_BLANK.match(self._data):
            self.take(blank.end())


def _lines(head: bytes) -> list[str]:
    if _FORBIDDEN.search(head):
        raise RemoteProtocolError("There are control characters in the head")
    lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
    if any(b"\r" in line for line in lines):
        raise RemoteProtocolError("There is a carriage return inside a line of the head")
    return [_text(line) for line in lines]


def _parse_headers(lines: list[str]) -> Headers:
    if len(lines) > MAX_HEADERS:
        raise RemoteProtocolError(f"There are more than {MAX_HEADERS} headers", 431)
    return tuple(_parse_header(line) for line in lines)


def _parse_header(line: str) -> tuple[str, str]:
    if line[0] in " \t":
        raise RemoteProtocolError("Folded headers are not supported")
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise RemoteProtocolError("There is a malformed header line")
    return name, value.strip(" \t")


def _parse_request(lines: list[str]) -> RequestHead:
    # First word, last word, and whatever is between: targets come with raw spaces.
    method, _, rest = lines[0].partition(" ")
    target, _, version = rest.rpartition(" ")
    if "\t" in lines[0] or not _TOKEN.fullmatch(method) or not rest:
        raise RemoteProtocolError("This is not an HTTP request")
    if version != VERSION:
        raise RemoteProtocolError("Only HTTP/1.1 is spoken here", 505)
    if not target:
        raise RemoteProtocolError("The request has no target")
    headers = _parse_headers(lines[1:])
    for name, value in headers:
        if name.lower() == "transfer-encoding" or (name.lower() == "content-length" and value != "0"):
            raise RemoteProtocolError("Requests with a body are not supported")
    path, _, query = target.partition("?")
    return RequestHead(method, target, path, decode_query(query), headers)


class _Reader(Generic[T]):
    """Messages out of a stream of bytes. Useless after an error, which it repeats."""

    def __init__(self, head_limit: int) -> None:
        self._buffer = _HeadBuffer(head_limit)
        self._error: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes as they come in."""
        if self._error is None:
            self._buffer.feed(data)

    def take_rest(self) -> bytes:
        """All bytes after the last message: after a 101, the first ones of the new protocol."""
        return self._buffer.take(len(self._buffer))

    @property
    def buffered(self) -> int:
        """How many bytes wait."""
        return len(self._buffer)

    @property
    def pending(self) -> bool:
        """Whether a head has begun; blank lines before it do not count."""
        return self._buffer.pending()

    def _next(self) -> T | None:
        if self._error is not None:
            raise self._error
        try:
            return self._parse()
        except RemoteProtocolError as error:
            self._error = error
            self.take_rest()
            raise

    def _parse(self) -> T | None:
        raise NotImplementedError


class HeadReader(_Reader[RequestHead]):
    """Requests: the server's side."""

    def __init__(self, limit: int) -> None:
        """@param limit: of the size of a head, in bytes."""
        super().__init__(limit)

    def next_head(self) -> RequestHead | None:
        """The next request; L{None} as long as it is not complete.

        @raise RemoteProtocolError: there will never be one.
        """
        return self._next()

    def _parse(self) -> RequestHead | None:
        lines = self._buffer.next_lines()
        return None if lines is None else _parse_request(lines)


class ResponseReader(_Reader[Response]):
    """Responses, interim ones included: the client's side."""

    def __init__(self, head_limit: int, body_limit: int) -> None:
        super().__init__(head_limit)
        self._body_limit = body_limit
        self._head: ResponseHead | None = None
        self._length = 0
        self._switched = False

    def next_response(self) -> Response | None:
        """The next response; L{None} as long as it is not complete, and after a 101.

        @raise RemoteProtocolError: there will never be one.
        """
        return self._next()

    def _parse(self) -> Response | None:
        if self._switched:
            return None
        if self._head is None:
            lines = self._buffer.next_lines()
            if lines is None:
                return None
            self._head = _parse_status(lines)
            self._length = self._body_length(self._head)
            self._switched = self._head.status == HTTPStatus.SWITCHING_PROTOCOLS
        if len(self._buffer) < self._length:
            return None
        head, self._head = self._head, None
        return Response(head, self._buffer.take(self._length))

    def _body_length(self, head: ResponseHead) -> int:
        if head.status < 200 or head.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return 0
        if head.header("Transfer-Encoding") is not None:
            raise RemoteProtocolError("The response is chunked")
        length = head.header("Content-Length")
        if length is None or not _LENGTH.fullmatch(length):
            raise RemoteProtocolError("The response does not say its length")
        if int(length) > self._body_limit:
            raise RemoteProtocolError(f"The response is longer than {self._body_limit} bytes")
        return int(length)


def _parse_status(lines: list[str]) -> ResponseHead:
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise RemoteProtocolError("This is not an HTTP/1.1 response")
    return ResponseHead(int(status[1]), status[2] or "", _parse_headers(lines[1:]))


def header_text(text: str, limit: int = 500) -> str:
    """Make any text fit for a header's value: one line of printable ASCII."""
    plain = text.encode("ascii", "replace").decode("ascii")
    return "".join(char if char.isprintable() else " " for char in plain)[:limit].strip()


def _encode_head(first: str, headers: Pairs) -> bytes:
    lines = [first]
    for name, value in headers:
        # One of the clients takes a name with an underscore for the end of the world.
        if not _OUR_NAME.fullmatch(name):
            raise LocalProtocolError(f"bad header name {name!r}")
        if not _OUR_VALUE.fullmatch(value):
            raise LocalProtocolError(f"bad value for header {name}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _status_line(status: int) -> str:
    try:
        return f"{VERSION} {status} {HTTPStatus(status).phrase}"
    except ValueError:
        raise LocalProtocolError(f"no such status: {status}") from None


def encode_response(status: int, headers: Pairs, body: bytes) -> bytes:
    """A final response. It must have a body: a client in the field waits for ever for an empty one.

    @raise LocalProtocolError: it would not be understood.
    """
    if status < 200:
        raise LocalProtocolError(f"{status} is not final")
    if not body:
        raise LocalProtocolError("a response without a body")
    return _encode_head(_status_line(status), [*headers, ("Content-Length", str(len(body)))]) + body


def encode_interim(status: int, headers: Pairs) -> bytes:
    """A 1xx response; with 101 the last thing before the new protocol.

    @raise LocalProtocolError: it would not be understood.
    """
    if status >= 200:
        raise LocalProtocolError(f"{status} is not interim")
    return _encode_head(_status_line(status), headers)


def encode_request(method: str, path: str, query: Pairs = (), headers: Pairs = ()) -> bytes:
    """A request without a body.

    @raise LocalProtocolError: it would not be understood.
    """
    if not _TOKEN.fullmatch(method) or not _OUR_PATH.fullmatch(path):
        raise LocalProtocolError(f"bad request line for {path!r}")
    encoded = encode_query(query)
    return _encode_head(f"{method} {path}{'?' if encoded else ''}{encoded} {VERSION}", headers)
