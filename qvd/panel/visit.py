# -*- test-case-name: tests.panel.test_skeleton -*-
"""One request of a page: who asks, in which language, with what form; and what the page asks of the API for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, gatherResults

from qvd.admin.call import Answer
from qvd.admin.login.proofs import COOKIE
from qvd.admin.site import headers_of, request_id
from qvd.model.declared import Principal
from qvd.panel.calls import Query, Reply
from qvd.panel.texts import Viewer, viewer_of

if TYPE_CHECKING:
    from qvd.panel.site import Panel

MOST_FIELDS = 10_000
"""Of a form or a query string: a selection has one for each row."""
CSRF, PASSWORD, OTP = "_csrf", "_password", "_otp"
"""Members of forms that are the panel's own: against forgery, and to show again who one is."""
ANYWHERE = frozenset(
    {"credentials-required", "session-expired", "password-change-required", "reauthentication-required"}
)
"""Problems that a page of their own answers, whatever page was asked for."""


@frozen
class Refused(Exception):
    """The API refused what a page cannot be without."""

    reply: Reply


@frozen
class Fields:
    """Members of a form or a query string, each as often as it was given."""

    pairs: Sequence[tuple[str, str]] = ()

    def one(self, name: str, default: str = "") -> str:
        """The last one of that name: a check box stands after the hidden field that means no."""
        return next((value for known, value in reversed(self.pairs) if known == name), default)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.pairs if known == name]

    def __contains__(self, name: object) -> bool:
        return any(known == name for known, _ in self.pairs)

    def but(self, *names: str) -> Sequence[tuple[str, str]]:
        """All others."""
        return [(name, value) for name, value in self.pairs if name not in names]


@define(kw_only=True)
class Visit:
    """
    @ivar path: parameters of the page's path.
    @ivar query: of the URL. C{form}: of the body.
    @ivar session: what the API says of it; empty: nobody is logged in.
    @ivar me: the own account, likewise.
    """

    panel: Panel
    request: Any
    request_id: str
    path: Mapping[str, str]
    query: Fields
    form: Fields
    headers: Mapping[str, str]
    session: Mapping[str, Any] = field(factory=dict)
    me: Mapping[str, Any] = field(factory=dict)
    viewer: Viewer = field(factory=Viewer)
    _cookie: str = ""
    _caller: Principal | None = None

    # Who asks.

    async def enter(self) -> None:
        """Learn who asks.

        @raise Refused: nobody who is logged in.
        """
        session = await self._call("GET", "/auth/session")
        if not session.ok:
            raise Refused(session)
        self.session, self._caller = session.body, session.caller
        me = await self._call("GET", "/me")
        self.me = me.body if me.ok else {}
        self.viewer = self.viewer_for(str(session.body["language"]), str(self.me.get("time_zone", "")))

    def viewer_for(self, language: str = "auto", zone: str = "") -> Viewer:
        return viewer_of(language, self.headers.get("accept-language", ""), zone)

    @property
    def caller(self) -> Principal | None:
        """Who asks; L{None}: nobody who is logged in."""
        return self._caller

    @property
    def principal(self) -> Principal:
        """The caller as the API's declarations see them: which fields and operations are theirs."""
        assert self._caller is not None, "nobody is logged in"
        return self._caller

    @property
    def acls(self) -> frozenset[str]:
        """What the caller holds; nothing, where nobody is logged in."""
        return frozenset() if self._caller is None else self._caller.acls

    def may(self, method: str, template: str) -> bool:
        """Whether the caller may call an operation, by its declaration: C{"POST", "/vms/{id}/start"}."""
        endpoint = self.panel.calls.endpoint(method, template)
        return endpoint is not None and bool(self.session) and endpoint.need.is_met(self.principal)

    # What the page asks of the API.

    async def api(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Call an operation; the answer may be a problem, which the page shows where it belongs.

        @raise Refused: one that has a page of its own: the session is over, or the password is needed again.
        """
        reply = await self._call(method, path, query, body, headers)
        if reply.kind in ANYWHERE:
            raise Refused(reply)
        return reply

    async def get(self, path: str, query: Query | None = None) -> Any:
        """What the page is about.

        @raise Refused: it cannot be read, so the page says why.
        """
        reply = await self.api("GET", path, query)
        if not reply.ok:
            raise Refused(reply)
        return reply.body

    async def _call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        own = {"x-csrf-token": self.form.one(CSRF), "x-request-id": self.request_id}
        if self._cookie:
            own["cookie"] = f"{COOKIE}={self._cookie.partition(';')[0].partition('=')[2]}"
            own["x-csrf-token"] = str(self.session.get("csrf_token", ""))
        # Before a one-time secret is replaced, the API looks at each call whether it may be made.
        known = None if self.session.get("must_change_password") else self._caller
        reply = await self.panel.calls.api(self.request, method, path, query, body, {**own, **(headers or {})}, known)
        self._cookie = reply.headers.get("Set-Cookie", self._cookie)
        return reply

    async def reauthenticate(self) -> Reply:
        """Show again who one is, with what the form says besides its own members. What the page then calls goes with
        the session's new cookie."""
        body = {"password": self.form.one(PASSWORD)}
        if self.form.one(OTP):
            body["otp"] = self.form.one(OTP)
        reply = await self._call("POST", "/auth/reauthenticate", None, body)
        if reply.ok and reply.caller is not None:
            self.session = reply.body
            self._caller = evolve(reply.caller, fresh=bool(reply.body["fresh"]))
        return reply

    # What the page answers.

    def page(self, template: str, status: int = 200, **values: Any) -> Answer:
        """A page of a template."""
        text = self.panel.renderer.render(self, template, values)
        return Answer(status, text.encode(), media="text/html; charset=utf-8")

    def go(self, path: str, query: Query | Sequence[tuple[str, str]] | None = None) -> Answer:
        """Have the browser ask for another page of ours."""
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        return Answer(303, b"", {"Location": path + asked}, media="text/plain")

    def finish(self, answer: Answer) -> Answer:
        """With the session's cookie, where the API gave another one."""
        if not self._cookie:
            return answer
        return Answer(answer.status, answer.body, {**answer.headers, "Set-Cookie": self._cookie}, answer.media)


async def together(*calls: Any) -> list[Reply]:
    """Some calls of the API at a time."""
    found: list[Reply] = await gatherResults([Deferred.fromCoroutine(each) for each in calls], consumeErrors=True)
    return found


def visit_of(panel: Panel, request: Any, path: Mapping[str, str]) -> Visit:
    """What a request asks for."""
    uri = request.uri.decode("ascii", "replace")
    headers = headers_of(request)
    form = Fields()
    if request.method == b"POST" and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = fields_of(request.content.read().decode("ascii", "replace"))
    visit = Visit(
        panel=panel,
        request=request,
        request_id=request_id(request),
        path=path,
        query=fields_of(uri.partition("?")[2]),
        form=form,
        headers=headers,
    )
    visit.viewer = visit.viewer_for()
    return visit


def fields_of(text: str) -> Fields:
    """Of what browsers send. What is too much of it is as good as nothing: no page of ours sends that."""
    try:
        return Fields(tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)))
    except ValueError:
        return Fields()
