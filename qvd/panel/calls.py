# -*- test-case-name: tests.panel.test_skeleton -*-
"""
Calls of the API from pages: the same operations, by the same dispatcher, with the cookie of whoever asks for the page.
What it answers is what the wire would carry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
from attrs import field, frozen

from qvd.admin.call import Answer, Call
from qvd.admin.dispatch import Dispatcher
from qvd.admin.endpoint import Endpoint
from qvd.admin.site import BASE, encode, headers_of, request_id
from qvd.model.declared import Principal

PARAMETER = re.compile(r"\{([a-z_]+)\}")
PASSED_ON = ("cookie", "host", "origin", "sec-fetch-site", "user-agent")
"""Headers of the page's request by which the API knows who calls, and from where."""
Query = Mapping[str, str | Sequence[str]]


@frozen
class Reply:
    """What the API answered.

    @ivar body: of JSON; L{None}: there was none.
    @ivar caller: who it was answered to, where that was found out.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(factory=dict)
    caller: Principal | None = field(default=None, eq=False, repr=False)

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def kind(self) -> str:
        """Name of the problem; empty: there is none."""
        named = self.body.get("type", "") if isinstance(self.body, dict) and not self.ok else ""
        return str(named).removeprefix("/problems/")

    @property
    def detail(self) -> str:
        """What the problem says to people."""
        return str(self.body.get("detail", "")) if isinstance(self.body, dict) and not self.ok else ""

    @property
    def faults(self) -> Mapping[str, str]:
        """What is wrong, by the member of the body that it is wrong with."""
        if not isinstance(self.body, dict) or self.ok:
            return {}
        return {str(each["pointer"]).lstrip("/"): str(each["detail"]) for each in self.body.get("errors", [])}


class Calls:
    """The operations, found by their paths.

    @ivar endpoints: all of them.
    """

    def __init__(self, endpoints: Sequence[Endpoint], dispatcher: Dispatcher) -> None:
        self.endpoints = endpoints
        self._dispatcher = dispatcher
        # A part of a path that is written out goes before one that may be anything.
        ordered = sorted(endpoints, key=lambda each: each.path.count("{"))
        self._patterns = [(each, pattern_of(each.path)) for each in ordered]
        self._by_route = {each.route: each for each in endpoints}

    def endpoint(self, method: str, template: str) -> Endpoint | None:
        """The operation at a path as it is declared: C{/vms/{id}/start}."""
        return self._by_route.get(f"{method} {template}")

    def find(self, method: str, path: str) -> tuple[Endpoint, Mapping[str, str]]:
        """@raise LookupError: there is no such operation: a page is wrong."""
        for endpoint, pattern in self._patterns:
            if endpoint.method == method and (found := pattern.fullmatch(path)):
                return endpoint, {name: unquote(value) for name, value in found.groupdict().items()}
        raise LookupError(f"the API has no {method} {path}")

    async def api(
        self,
        request: Any,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        caller: Principal | None = None,
    ) -> Reply:
        """Call an operation.

        @param request: of the page: who calls.
        @param path: below C{/api/v1}; names in it quoted.
        @param body: JSON values.
        @param headers: besides those of the page's request: C{if-match}, C{x-csrf-token}.
        @param caller: who another call for the same page was answered to: what is only read for it is not preceded by
            finding that out again. What changes something always is.
        """
        endpoint, parameters = self.find(method, path)
        passed = {name: value for name, value in headers_of(request).items() if name in PASSED_ON}
        asked = {name: [value] if isinstance(value, str) else list(value) for name, value in (query or {}).items()}
        call = Call(
            endpoint=endpoint,
            services=self._dispatcher.services,
            request_id=(headers or {}).get("x-request-id") or request_id(request),
            client_address=request.getClientAddress().host or "",
            method=method,
            uri=BASE + path + (f"?{urlencode(asked, doseq=True)}" if asked else ""),
            path=parameters,
            query=asked,
            headers={**passed, **(headers or {})},
            request=request,
        )
        raw = b"" if body is None else msgspec.json.encode(body)
        if caller is not None and method == "GET" and not endpoint.need.public:
            call.caller = caller
            answer = await self._dispatcher.repeat(call, raw)
        else:
            answer = await self._dispatcher.dispatch(call, raw)
        return Reply(answer.status, values_of(answer), answer.headers, call.caller)


def values_of(answer: Answer) -> Any:
    """What a client would read of an answer's body, where it is JSON."""
    if answer.body is None or "json" not in answer.media:
        return None
    return json.loads(answer.body if isinstance(answer.body, bytes) else encode(answer.body))


def pattern_of(template: str) -> re.Pattern[str]:
    """Of paths that a template such as C{/vms/{id}} stands for."""
    return re.compile(PARAMETER.sub(r"(?P<\1>[^/]+)", template))
