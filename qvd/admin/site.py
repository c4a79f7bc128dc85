# -*- test-case-name: tests.admin.test_server,tests.admin.test_underway -*-
"""The operations as routes of a web server: requests to calls, answers to responses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from qvd.admin.call import Answer, Call
from qvd.admin.dispatch import Dispatcher, answer_of
from qvd.admin.endpoint import PUBLIC, Endpoint
from qvd.admin.problems import Problem
from qvd.admin.underway import Underway

BASE = "/api/v1"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
PARAMETER = re.compile(r"\{([a-z_]+)\}")
log = Logger()
encode = msgspec.json.Encoder(enc_hook=str).encode


Answered = Callable[[Call, Answer, float], object]
"""Told of a call, of its answer, and of the seconds between them."""


def make_app(
    endpoints: Iterable[Endpoint],
    dispatcher: Dispatcher,
    answered: Sequence[Answered] = (),
    underway: Underway | None = None,
) -> Klein:
    """A Klein application that serves them all."""
    app, underway = Klein(), Underway() if underway is None else underway
    for endpoint in endpoints:
        path = PARAMETER.sub(r"<\1>", BASE + endpoint.path)
        app.route(path, methods=[endpoint.method], strict_slashes=False)(
            handler(endpoint, dispatcher, answered, underway)
        )
    app.handle_errors(HTTPException)(refuse_route(dispatcher, answered))
    app.handle_errors(Exception)(confess(dispatcher, answered))
    return app


def handler(endpoint: Endpoint, dispatcher: Dispatcher, answered: Sequence[Answered], underway: Underway) -> Any:
    """A function for Klein. Each needs a name of its own."""

    async def answer_call(call: Call, raw: bytes, begun: float) -> Answer:
        answer = await dispatcher.dispatch(call, raw)
        tell(answered, call, answer, dispatcher.services.reactor.seconds() - begun)
        return answer

    async def serve(request: Any, **path: str) -> Any:
        begun = dispatcher.services.reactor.seconds()
        try:
            call = call_of(endpoint, dispatcher, request, path)
            underway.admit(call.client_address)
        except Problem as problem:
            return refuse(answered, request, broken(dispatcher, request), problem)
        raw = b"" if endpoint.streamed else request.content.read()
        answer = await underway.run(call.client_address, answer_call(call, raw, begun))
        body = respond(request, answer, call.request_id)
        return body if answer.stream is None or request.method == b"HEAD" else await answer.stream(request)

    serve.__name__ = re.sub(r"\W", "_", f"{endpoint.method}_{endpoint.action}_{endpoint.path}")
    return serve


def tell(answered: Sequence[Answered], call: Call, answer: Answer, seconds: float) -> None:
    for each in answered:
        each(call, answer, seconds)


def call_of(endpoint: Endpoint, dispatcher: Dispatcher, request: Any, path: dict[str, str]) -> Call:
    """What the handler gets.

    @raise Problem: the request is no call of it.
    """
    uri = request.uri.decode("ascii", "replace")
    try:
        pairs = parse_qsl(
            uri.partition("?")[2], keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=200
        )
    except ValueError:
        text = "The query string is not valid: UTF-8, percent-encoded, 200 parameters"
        raise Problem("malformed-request", text) from None
    if endpoint.streamed and getattr(request, "body", None) is None:
        # Its body came before anybody saw that it is this operation's.
        raise Problem("malformed-request", "Write the path without escapes and double slashes")
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    return Call(
        endpoint=endpoint,
        services=dispatcher.services,
        request_id=request_id(request),
        client_address=request.getClientAddress().host or "",
        method=endpoint.method,
        uri=uri,
        path=path,
        query=query,
        headers=headers_of(request),
        request=request,
    )


def headers_of(request: Any) -> dict[str, str]:
    """By name in lower case; the last one, where there are several."""
    return {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }


def request_id(request: Any) -> str:
    """The caller's own, where it is fit for a log, or a new one."""
    given = (request.getHeader(b"x-request-id") or b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def broken(dispatcher: Dispatcher, request: Any) -> Call:
    """A call of nothing, to answer with a problem."""

    async def nothing(call: Call) -> Answer:
        return Answer(404)

    endpoint = Endpoint(method="GET", path="/", action="none", need=PUBLIC, handler=nothing, summary="")
    uri = request.uri.decode("ascii", "replace")
    return Call(
        endpoint=endpoint,
        services=dispatcher.services,
        request_id=request_id(request),
        client_address=request.getClientAddress().host or "",
        method=request.method.decode("ascii", "replace"),
        uri=uri,
    )


def refuse(answered: Sequence[Answered], request: Any, call: Call, problem: Problem) -> bytes:
    """Answer what is no call of any operation."""
    answer = answer_of(call, problem)
    tell(answered, call, answer, 0.0)
    return respond(request, answer, call.request_id)


def refuse_route(dispatcher: Dispatcher, answered: Sequence[Answered]) -> Any:
    """Paths and methods that there are not."""

    def answer_error(request: Any, failure: Any) -> bytes:
        error = failure.value
        if isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            problem = Problem("method-not-allowed", f"Methods here: {allowed}", headers={"Allow": allowed})
        else:
            problem = Problem("unknown-operation", "There is nothing at this path")
        return refuse(answered, request, broken(dispatcher, request), problem)

    return answer_error


def confess(dispatcher: Dispatcher, answered: Sequence[Answered]) -> Any:
    """What no operation has caught. The library's own answer would be a page."""

    def answer_failure(request: Any, failure: Any) -> bytes:
        if failure.check(CancelledError):  # whoever asked has gone
            return b""
        call = broken(dispatcher, request)
        log.failure("request {request} failed", failure, request=call.request_id)
        detail = "The service failed; its log has the details under the request's id"
        return refuse(answered, request, call, Problem("internal", detail))

    return answer_failure


def respond(request: Any, answer: Answer, request_id: str) -> bytes:
    """Write the head, and return the body."""
    # Which library in which version serves is nobody's business.
    request.responseHeaders.removeHeader(b"server")
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
    for name, value in {**HEADERS, "X-Request-Id": request_id, **answer.headers}.items():
        request.setHeader(name.encode(), value.encode("latin-1", "replace"))
    if answer.body is None:
        return b""
    body = answer.body if isinstance(answer.body, bytes) else encode(answer.body)
    request.setHeader(b"Content-Type", answer.media.encode())
    return body
