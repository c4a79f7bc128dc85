# -*- test-case-name: tests.apiclient.test_api -*-
"""What goes wrong between a client and the API. No text here holds what was sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

LONGEST_TEXT = 2000


class ApiError(Exception):
    """Anything that ends a call without an answer that is one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Unreachable(ApiError):
    """Nobody answers, or not in time. Whether it was done is not known."""


class Untrusted(Unreachable):
    """Whoever answers shows no certificate that is trusted for the name."""


class BadAnswer(ApiError):
    """What answers does not speak this API, or says too much."""


@frozen
class Fault:
    """What is wrong at one place of the request.

    @ivar pointer: JSON pointer into the body, or the name of a parameter.
    """

    pointer: str
    detail: str
    code: str = ""


class ApiProblem(ApiError):
    """The API said no (RFC 9457).

    @ivar kind: stable name: C{not-found}.
    @ivar code: stable number of QVD.
    @ivar errors: faults of the request, place by place.
    @ivar more: further members of the document.
    @ivar retry_after: seconds; L{None}: it did not say.
    """

    def __init__(
        self,
        kind: str,
        title: str,
        detail: str,
        status: int,
        errors: Sequence[Fault] = (),
        request_id: str = "",
        *,
        code: int = 0,
        retry_after: float | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.kind = kind
        self.title = title
        self.detail = detail
        self.status = status
        self.errors = tuple(errors)
        self.request_id = request_id
        self.code = code
        self.retry_after = retry_after
        self.more = dict(more or {})

    def __repr__(self) -> str:
        return f"<ApiProblem {self.status} {self.kind}: {self.detail!r}>"


KNOWN = {"type", "title", "detail", "status", "errors", "request_id", "code", "instance"}


def problem_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiProblem:
    """What an answer with a status from 400 on says. A proxy on the way may have written it: then it is no document."""
    try:
        document = json.loads(body) if "json" in headers.get("content-type", "") else None
    except ValueError:
        document = None
    wait = seconds_of(headers.get("retry-after", ""))
    if not isinstance(document, Mapping):
        kind, title = OTHERS.get(status, ("unknown", f"The server answered with status {status}"))
        return ApiProblem(kind, title, title, status, request_id=headers.get("x-request-id", ""), retry_after=wait)
    return ApiProblem(
        text_of(document.get("type")).rpartition("/")[2] or "unknown",
        text_of(document.get("title")),
        text_of(document.get("detail")),
        status,
        [fault_of(each) for each in listed(document.get("errors")) if isinstance(each, Mapping)],
        text_of(document.get("request_id")) or headers.get("x-request-id", ""),
        code=code if isinstance(code := document.get("code"), int) else 0,
        retry_after=wait,
        more={name: value for name, value in document.items() if name not in KNOWN},
    )


OTHERS = {
    401: ("credentials-required", "Credentials are needed"),
    403: ("forbidden", "The operation is not permitted"),
    404: ("unknown-operation", "There is no such operation"),
    429: ("too-many-requests", "Too many requests"),
    502: ("unavailable", "The service behind the proxy cannot be reached"),
    503: ("unavailable", "The service cannot be used now"),
    504: ("unavailable", "The service behind the proxy does not answer"),
}


def fault_of(document: Mapping[str, Any]) -> Fault:
    return Fault(*(text_of(document.get(name)) for name in ("pointer", "detail", "code")))


def text_of(value: object) -> str:
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def seconds_of(text: str) -> float | None:
    """C{Retry-After} in seconds; the API never sends it as a date."""
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
