# -*- test-case-name: tests.apiclient.test_api -*-
"""Calls of the administration API: who calls, retries of what is safe, pages, events, uploads, the description."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from threading import Event as Bell
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from qvd.apiclient.description import Cache
from qvd.apiclient.events import Event, watch
from qvd.apiclient.problems import ApiError, BadAnswer, Unreachable, Untrusted, problem_of
from qvd.apiclient.uploads import Progress, send_file
from qvd.apiclient.wire import NotSent, Raw, Wire, first_of, lowered
from qvd.model.secret import Secret

BASE = "/api/v1"
COOKIE = "__Host-qvd"
TRIES = 4
LONGEST_WAIT = 30.0
"""Seconds that a server may have one wait before it is asked again; who is told to wait longer is told that."""
AGAIN = (429, 502, 503, 504)
Query = Mapping[str, Any]


@frozen
class Reply:
    """An answer that is no problem.

    @ivar headers: by name in lower case.
    @ivar body: of JSON, what it says; else the bytes; L{None}: there is none.
    """

    status: int
    headers: Mapping[str, str]
    body: Any


class Api:
    """One server, and who calls it.

    @param url: C{https://host:port}.
    @param ca: file of authorities that are trusted instead of the system's.
    @param token: an API token.
    @param session: the cookie of a session, where there is no token; C{csrf}: its token against forgery.
    @param timeout: seconds for one answer.
    @param cache: folder where the API's description is kept.
    @param wait: waits some seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        token: str | None = None,
        session: str | None = None,
        csrf: str | None = None,
        timeout: float = 30.0,
        cache: Path | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._wire = Wire(url, ca, timeout)
        self._token = None if token is None else Secret(checked_proof(token, "token"))
        self._session = None if session is None else Secret(checked_proof(session, "session"))
        self._csrf = None if csrf is None else Secret(checked_proof(csrf, "token against forgery"))
        self._cache = Cache(cache, self._wire.url)
        self._wait = wait or pause

    def __repr__(self) -> str:
        return f"<Api {self.url}>"

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    @property
    def url(self) -> str:
        return self._wire.url

    @property
    def session(self) -> tuple[Secret, Secret] | None:
        """Cookie and token against forgery of the session that L{log_in} opened, to go on with later."""
        return None if self._session is None or self._csrf is None else (self._session, self._csrf)

    def log_in(self, name: str, password: str, *, tenant: str = "", otp: str | None = None) -> Any:
        """Open a session, and call in it from now on. Returns what the API tells of it."""
        body = {"name": name, "password": password, "tenant": tenant} | ({} if otp is None else {"otp": otp})
        reply = self.request("POST", "/auth/login", body=body)
        try:
            self._session = Secret(SimpleCookie(reply.headers.get("set-cookie", ""))[COOKIE].value)
            self._csrf = Secret(str(reply.body["csrf_token"]))
        except (CookieError, KeyError, TypeError):
            raise BadAnswer("The login was answered without a session") from None
        self._token = None
        return reply.body

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call.

        What is safe to be sent twice is sent again when the server cannot answer: reading, and C{POST} of whoever is
        known, which gets an C{Idempotency-Key}.

        @param path: below C{/api/v1}, or with that.
        @param query: values that are lists are given several times; those that are L{None} are left out.
        @param body: sent as JSON; bytes as they are, with the C{Content-Type} that the headers say.
        @raise ApiProblem: the API says no.
        @raise ApiError: there is no answer, or none that is one.
        """
        content, sent = encoded(body, self._headers(method, headers))
        target = target_of(path, query)
        safe = method in ("GET", "HEAD") or (method == "POST" and "idempotency-key" in sent)
        for left in reversed(range(TRIES)):
            try:
                raw = self._wire.ask(method, target, sent, content)
                if raw.status < 400:
                    return reply_of(raw)
                problem = problem_of(raw.status, raw.headers, raw.body)
                seconds = problem.retry_after
                if not (left and safe and raw.status in AGAIN) or (seconds or 0) > LONGEST_WAIT:
                    raise problem
            except Untrusted:
                raise
            except Unreachable as error:
                if not left or not (safe or isinstance(error, NotSent)):
                    raise
                seconds = None
            self._wait(delay(TRIES - left) if seconds is None else seconds)
        raise AssertionError("the last try returns or raises")

    def pages(self, path: str, query: Query | None = None) -> Iterator[dict[str, Any]]:
        """All objects of a list, page by page as they are asked for."""
        asked = {"count": "false"} | dict(query or {})
        while True:
            body = self.request("GET", path, query=asked).body
            try:
                items, following = body["items"], body["page"]["next"]
            except (KeyError, TypeError):
                raise BadAnswer("The answer is not a page of a list") from None
            yield from items
            if following is None:
                return
            asked = {**asked, "cursor": following}

    @contextmanager
    def stream(
        self, method: str, path: str, *, query: Query | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """The headers of an answer, and its body as it comes: of what is too large to be held, as an export."""
        with self._wire.open(method, target_of(path, query), self._headers(method, headers)) as response:
            got = lowered(response)
            if response.status_code >= 400:
                raise problem_of(response.status_code, got, first_of(response))
            yield got, response.iter_bytes()

    def events(
        self,
        topics: Sequence[str],
        filters: Mapping[str, str] | None = None,
        last_id: str | None = None,
    ) -> Iterator[Event]:
        """What changes, as it changes, without end. A connection that breaks is opened again where it was.

        @param topics: C{vms}, C{vm:42}, C{config}, C{stats}, C{me}.
        @param filters: as in a list, for the topics that are lists.
        @param last_id: the L{Event.id} after which to go on.
        """
        tail = f"?{urlencode(filters)}" if filters else ""
        asked = [topic if ":" in topic or "?" in topic or topic in BELLS else topic + tail for topic in topics]
        target = target_of("/events", {"topics": asked})
        return watch(self._wire, target, self._headers("GET", {"Accept": "text/event-stream"}), last_id, self._wait)

    def openapi(self, fresh_for: float = 0.0) -> dict[str, Any]:
        """The API's description of itself.

        @param fresh_for: seconds for which one that was kept is good enough, and the server is not asked.
        """
        kept = self._cache.read()
        if kept is not None and kept.age < fresh_for:
            return kept.document
        known = {} if kept is None else {"If-None-Match": kept.tag}
        reply = self.request("GET", "/openapi.json", headers=known)
        if reply.status == 304 and kept is not None:
            self._cache.touch()
            return kept.document
        if not isinstance(reply.body, dict) or "paths" not in reply.body:
            raise BadAnswer("The server does not describe its API")
        self._cache.write(reply.headers.get("etag", ""), reply.body)
        return reply.body

    def upload(self, path: str, source: Path, on_progress: Progress | None = None) -> Reply:
        """Send a file, from where an earlier attempt came to.

        @param path: of the upload, as the API answered it: C{/api/v1/uploads/7}.
        @param on_progress: is told the bytes that were sent, and those of the whole file.
        """
        raw = send_file(
            self._wire, target_of(path, None), self._headers("PATCH", None), source, on_progress, self._wait
        )
        return reply_of(raw)

    def _headers(self, method: str, given: Mapping[str, str] | None) -> dict[str, str]:
        """With proofs of who calls."""
        headers = {name.lower(): value for name, value in (given or {}).items()}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token.reveal()}"
        elif self._session is not None:
            headers["cookie"] = f"{COOKIE}={self._session.reveal()}"
            if self._csrf is not None and method not in ("GET", "HEAD"):
                headers["x-csrf-token"] = self._csrf.reveal()
        if method == "POST" and (self._token or self._session):
            headers.setdefault("idempotency-key", str(uuid.uuid4()))
        return headers


BELLS = ("config", "stats", "me")


def checked_proof(text: str, what: str) -> str:
    """@raise ApiError: it cannot stand in a header; which would say so with the secret in its error."""
    if not (text.isascii() and text.isprintable()) or not text or " " in text or ";" in text:
        raise ApiError(f"The {what} holds characters that none has")
    return text


def target_of(path: str, query: Query | None) -> str:
    """@raise ApiError: it is no path of this server."""
    if not path.startswith("/") or path.startswith("//") or not path.isprintable() or " " in path:
        raise ApiError(f"Not a path of the API: {path!r}")
    if any(part in (".", "..") for part in path.partition("?")[0].split("/")):
        # They would be resolved on the way, and mean another operation.
        raise ApiError(f"Not a path of the API: {path!r}")
    whole = path if path.startswith(f"{BASE}/") else BASE + path
    pairs = [(name, spelt(each)) for name, value in (query or {}).items() for each in listed(value)]
    return f"{whole}{'&' if '?' in whole else '?'}{urlencode(pairs)}" if pairs else whole


def listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def encoded(body: Any, headers: dict[str, str]) -> tuple[bytes | None, dict[str, str]]:
    if body is None or isinstance(body, bytes):
        return body, headers
    return json.dumps(body, ensure_ascii=False).encode(), {"content-type": "application/json"} | headers


def reply_of(raw: Raw) -> Reply:
    if not raw.body:
        return Reply(raw.status, raw.headers, None)
    if "json" not in raw.headers.get("content-type", ""):
        return Reply(raw.status, raw.headers, raw.body)
    try:
        return Reply(raw.status, raw.headers, json.loads(raw.body))
    except (ValueError, RecursionError):
        raise BadAnswer("The answer is not the JSON that it says it is") from None


def delay(tried: int) -> float:
    """Seconds before the next try: longer each time, and not the same for all who wait."""
    return float(min(LONGEST_WAIT, 0.5 * 2 ** (tried - 1)) * random.uniform(0.5, 1.0))


def pause(seconds: float) -> None:
    """Wait; the keyboard's interruption ends it."""
    Bell().wait(seconds)
