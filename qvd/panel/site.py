# -*- test-case-name: tests.panel.test_skeleton -*-
"""The pages as routes of the API's web server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import evolve, frozen
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from qvd.admin.call import Answer, Call
from qvd.admin.dispatch import Dispatcher
from qvd.admin.endpoint import Endpoint
from qvd.admin.problems import Problem
from qvd.admin.site import Answered, broken, respond, tell
from qvd.admin.underway import Underway
from qvd.panel.calls import Calls, Reply
from qvd.panel.files import BASE as STATIC
from qvd.panel.files import StaticFiles
from qvd.panel.problems import problem_page
from qvd.panel.rendering import Renderer
from qvd.panel.visit import PASSWORD, Refused, Visit, visit_of

HOME = "/panel/"
LOGIN, NEW_PASSWORD = "/panel/login", "/panel/password"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer browsers say that a form comes from nowhere (Origin: null), and the API refuses it.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Vary": "Accept-Language, Cookie",
    "X-Frame-Options": "DENY",
}
Handler = Callable[[Visit], Awaitable[Answer]]


@frozen
class Route:
    """A page.

    @ivar path: with parameters as Klein has them: C{/panel/vms/<id>}.
    @ivar public: nobody has to be logged in.
    @ivar early: shown before a one-time secret is replaced.
    """

    method: str
    path: str
    handler: Handler
    public: bool = False
    early: bool = False


class Panel:
    """All pages.

    @param screens: each gives some of the pages.
    @param answered: told of each page, as of a call of the API.
    @ivar calls: the API. C{renderer}: the templates.
    """

    log = Logger()

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        dispatcher: Dispatcher,
        screens: Sequence[Callable[[Panel], Sequence[Route]]],
        underway: Underway | None = None,
        answered: Sequence[Answered] = (),
    ) -> None:
        self._dispatcher = dispatcher
        self._answered = answered
        self.calls = Calls(endpoints, dispatcher)
        self.static = StaticFiles()
        self.renderer = Renderer(self.static)
        self._underway = Underway() if underway is None else underway
        self._routes = [route for screen in screens for route in screen(self)]

    def add_to(self, app: Klein) -> None:
        """Their routes."""
        app.route("/", methods=["GET"])(self._to_home)
        app.route("/panel", methods=["GET"], strict_slashes=True)(self._to_home)
        app.route(f"{STATIC}<name>", methods=["GET"])(self._serve_static)
        for number, route in enumerate(self._routes):
            app.route(route.path, methods=[route.method])(self._serving(route, number))
        app.route("/panel/<path:rest>", methods=["GET", "POST"])(self._serving(Route("", "", no_page), -1))

    def _to_home(self, request: Any) -> bytes:
        return respond(request, with_headers(Answer(303, b"", {"Location": HOME}, "text/plain")), "")

    def _serve_static(self, request: Any, name: str) -> bytes:
        found = self.static.answer(name) or Answer(404, b"There is no such file\n", media="text/plain")
        return respond(request, with_headers(found), "")

    def _serving(self, route: Route, number: int) -> Any:
        """A function for Klein. Each needs a name of its own."""

        async def serve(request: Any, **path: str) -> bytes:
            begun = self._dispatcher.services.reactor.seconds()
            visit = visit_of(self, request, path)
            address = request.getClientAddress().host or ""
            try:
                self._underway.admit(address)
            except Problem as problem:
                reply = Reply(problem.status, problem.document(visit.request_id, ""))
                return respond(request, with_headers(problem_page(visit, reply)), visit.request_id)
            answer = await self._underway.run(address, self.answer(route, visit))
            seconds = self._dispatcher.services.reactor.seconds() - begun
            tell(self._answered, self._call_of(visit), answer, seconds)
            return respond(request, with_headers(answer), visit.request_id)

        serve.__name__ = f"panel_{number}"
        return serve

    def _call_of(self, visit: Visit) -> Call:
        """The page as a call, for those who count them."""
        call = broken(self._dispatcher, visit.request)
        method = "POST" if visit.request.method == b"POST" else "GET"
        call.endpoint = evolve(call.endpoint, action="panel.page", method=method)
        call.request_id, call.caller = visit.request_id, visit.caller
        return call

    async def answer(self, route: Route, visit: Visit) -> Answer:
        """The page, whatever happens."""
        try:
            return visit.finish(await self._page(route, visit))
        except CancelledError:
            raise
        except Refused as refused:
            return visit.finish(self._instead(visit, refused.reply))
        except Exception:  # noqa: BLE001  whatever it is, somebody looks at the browser
            self.log.failure("request {request} of a page failed", request=visit.request_id)
            title = "Unexpected failure of the service"
            body = {"type": "/problems/internal", "title": title, "detail": "", "request_id": visit.request_id}
            return problem_page(visit, Reply(500, body))

    async def _page(self, route: Route, visit: Visit) -> Answer:
        if not route.public:
            await visit.enter()
            if visit.session["must_change_password"] and not route.early:
                return visit.go(NEW_PASSWORD)
        if visit.form.one(PASSWORD):
            reply = await visit.reauthenticate()
            if not reply.ok:
                return self._again(visit, reply)
        return await route.handler(visit)

    def _instead(self, visit: Visit, reply: Reply) -> Answer:
        """What is shown in place of the page."""
        match reply.kind:
            case "credentials-required" | "session-expired" | "invalid-credentials" if not visit.session:
                return self._to_login(visit, reply)
            case "credentials-required" | "session-expired":
                return self._to_login(visit, reply)
            case "password-change-required":
                return visit.go(NEW_PASSWORD)
            case "reauthentication-required" if visit.request.method == b"POST":
                return self._again(visit, None)
            case _:
                return problem_page(visit, reply)

    def _to_login(self, visit: Visit, reply: Reply) -> Answer:
        """Back to the page that was asked for, once they are logged in."""
        asked = visit.request.uri.decode("ascii", "replace") if visit.request.method == b"GET" else HOME
        query = {} if asked in (HOME, "/panel") else {"next": asked}
        if reply.kind == "session-expired":
            query["over"] = "1"
        return visit.go(LOGIN, query)

    def _again(self, visit: Visit, reply: Reply | None) -> Answer:
        """Ask for the password, and keep what was sent meanwhile."""
        kept = visit.form.but(PASSWORD, "_otp", "_csrf")
        asks_code = reply is not None and reply.kind == "otp-required"
        return visit.page("again.html", 403, problem=reply, kept=kept, asks_code=asks_code)


async def no_page(visit: Visit) -> Answer:
    """At a path where there is none."""
    body = {"type": "/problems/not-found", "title": "There is no such object", "detail": ""}
    raise Refused(Reply(404, body))


def with_headers(answer: Answer) -> Answer:
    """With those that every page has."""
    return evolve(answer, headers={**HEADERS, **answer.headers})
