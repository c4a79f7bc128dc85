# -*- test-case-name: tests.unit.test_protocols_simplerpc -*-
"""
SimpleRPC, as the node speaks it with the agent in a guest: C{docs/wire/agent-rpc.md}.

A call is a GET whose query holds the arguments. The answer is a JSON value, or C{"",} and the text of an error; the
caller wraps it in brackets to see which. Nothing that a guest says is believed before it has been looked at here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from attrs import field, frozen

from qvd.model.secret import Secret
from qvd.protocols.http1 import RemoteProtocolError, RequestHead, Response, encode_request, encode_response

BASE = "/vma/"
_METHOD = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_HEADERS = [("Content-Type", "application/json-simplerpc")]
_MAX_ERROR = 500


@frozen
class Call:
    """A method and its arguments, which may hold secrets."""

    method: str
    arguments: Mapping[str, str] = field(factory=dict, repr=False)


@frozen
class Result:
    """The call was carried out.

    @ivar value: JSON, of whatever type the callee likes.
    """

    value: object


@frozen
class RPCError:
    """The callee said no.

    @ivar text: one line of bounded length.
    """

    text: str


def encode_call(call: Call, secret: Secret | None) -> bytes:
    """A whole request.

    @param secret: what shows to the agent that its node is calling.
    """
    headers = [("User-Agent", "qvd-node")]
    if secret is not None:
        headers.append(("Authorization", f"Bearer {secret.reveal()}"))
    return encode_request("GET", BASE + call.method, call.arguments.items(), headers)


def parse_call(head: RequestHead) -> Call | None:
    """The call that a request makes; L{None} when it is none."""
    method = head.path.removeprefix(BASE)
    if head.method != "GET" or method == head.path or not _METHOD.fullmatch(method):
        return None
    return Call(method, head.parameters)


def is_authorized(head: RequestHead, secret: Secret) -> bool:
    """Whether the request shows the secret. Takes equally long whatever is wrong with one."""
    scheme, _, token = (head.header("Authorization") or "").partition(" ")
    return scheme.lower() == "bearer" and secret.matches(token)


def encode_result(value: object) -> bytes:
    """A whole response."""
    return _encode(json.dumps(value))


def encode_error(text: str) -> bytes:
    """A whole response. Its status is 200 all the same: the transport has worked."""
    return _encode(f'"",{json.dumps(text)}')


def _encode(body: str) -> bytes:
    return encode_response(200, _HEADERS, body.encode("ascii") + b"\n\r\n")


def decode_reply(response: Response) -> Result | RPCError:
    """What a response says.

    @raise RemoteProtocolError: nothing that makes sense.
    """
    if response.head.status != 200:
        raise RemoteProtocolError(f"HTTP status {response.head.status}")
    try:
        values = json.loads(f"[{response.body.decode('utf-8')}]")
    except (ValueError, RecursionError):
        raise RemoteProtocolError("the body is not JSON") from None
    match values:
        case [value]:
            return Result(value)
        case [_, str(text), *_] if line := _one_line(text):
            return RPCError(line)
        case [_, _, *_]:
            return RPCError("The agent reports an error and does not say which")
        case _:
            raise RemoteProtocolError("the body is empty")


def _one_line(text: str) -> str:
    """Text that database, log and screen can take."""
    printable = "".join(char if char.isprintable() else " " for char in text[:_MAX_ERROR])
    return printable.strip()
