# -*- test-case-name: tests.panel.test_me -*-
"""The own account: profile, second factor, sessions, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

import segno

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit, together

ME = "/panel/me"
LANGUAGES = (
    ("default", N_("As the tenant has it")),
    ("auto", N_("As the browser asks for")),
    ("en", "English"),
    ("es", "Español"),
)
THEMES = (("auto", N_("As the system is set")), ("light", N_("Light")), ("dark", N_("Dark")))
DAYS = (7, 30, 90, 365)
DONE = {
    "profile": N_("Your account is changed."),
    "session": N_("The session has ended."),
    "sessions": N_("All other sessions have ended."),
    "token": N_("The token is deleted: whatever uses it is refused from now on."),
    "mfa-off": N_("No code is asked for any more. Delete the account in your authenticator, too."),
}


def me(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", ME, show),
        Route("POST", ME, change),
        Route("POST", f"{ME}/sessions", end_sessions),
        Route("POST", f"{ME}/mfa", enrol),
        Route("POST", f"{ME}/mfa/confirm", confirm),
        Route("POST", f"{ME}/mfa/drop", drop),
        Route("POST", f"{ME}/tokens", make_token),
        Route("POST", f"{ME}/tokens/<id>/delete", drop_token),
    ]


@cache
def zones() -> Sequence[str]:
    """Names of all time zones. They are files of the machine, some hundreds."""
    return sorted(available_timezones())


async def show(visit: Visit) -> Answer:
    return await account_page(visit)


async def account_page(visit: Visit, problem: Reply | None = None, about: str = "", token: str = "") -> Answer:
    """Everything on one page.

    @param about: the form that a problem is with.
    @param token: one that was just made, told once.
    """
    profile, factors, sessions, tokens = await together(
        visit.api("GET", "/me"),
        visit.api("GET", "/me/mfa"),
        visit.api("GET", "/me/sessions"),
        visit.api("GET", "/me/tokens"),
    )
    return visit.page(
        "me.html",
        200 if problem is None else problem.status,
        profile=profile.body,
        factors=factors.body if factors.ok else None,
        sessions=sessions.body["items"] if sessions.ok else [],
        tokens=tokens.body["items"] if tokens.ok else [],
        named_languages=LANGUAGES,
        themes=THEMES,
        zones=zones(),
        days=DAYS,
        problem=problem,
        about=about,
        form=visit.form,
        token=token,
        done=DONE.get(visit.query.one("done"), ""),
    )


async def change(visit: Visit) -> Answer:
    """Profile."""
    form = visit.form
    body: dict[str, Any] = {
        name: form.one(name) for name in ("language", "theme", "time_zone", "description") if name in form
    }
    size = form.one("page_size").strip()
    if "page_size" in form:
        # What is no number, the API tells.
        body["page_size"] = int(size) if size.isascii() and size.isdigit() else size or None
    reply = await visit.api("PATCH", "/me", None, body)
    return visit.go(ME, {"done": "profile"}) if reply.ok else await account_page(visit, reply, "profile")


async def end_sessions(visit: Visit) -> Answer:
    """One, or all others."""
    named = visit.form.one("hash")
    if named:
        reply = await visit.api("DELETE", f"/me/sessions/{segment(named)}")
    else:
        reply = await visit.api("DELETE", "/me/sessions", {"others": "true"})
    if not reply.ok:
        return await account_page(visit, reply, "sessions")
    return visit.go(ME, {"done": "session" if named else "sessions"})


async def enrol(visit: Visit) -> Answer:
    """A secret for an authenticator, as a picture that it reads."""
    reply = await visit.api("POST", "/me/mfa/totp")
    return enrolment(visit, reply.body) if reply.ok else await account_page(visit, reply, "mfa")


def enrolment(visit: Visit, made: Mapping[str, Any], problem: Reply | None = None) -> Answer:
    """The form that confirms it. The secret stands in it, since it is told only once."""
    picture = segno.make(made["uri"], error="m").svg_data_uri(scale=5, border=4, dark="#000", light="#fff")
    return visit.page(
        "mfa.html", 200 if problem is None else problem.status, made=made, picture=picture, problem=problem, codes=()
    )


async def confirm(visit: Visit) -> Answer:
    """With a code of it; recovery codes come back."""
    form = visit.form
    reply = await visit.api("POST", "/me/mfa/totp/confirm", None, {"otp": form.one("otp").replace(" ", "")})
    if not reply.ok:
        return enrolment(visit, {"secret": form.one("secret"), "uri": form.one("uri")}, reply)
    return visit.page("mfa.html", made=None, picture="", problem=None, codes=reply.body["recovery_codes"])


async def drop(visit: Visit) -> Answer:
    """Do without it."""
    reply = await visit.api("DELETE", "/me/mfa/totp")
    return visit.go(ME, {"done": "mfa-off"}) if reply.ok else await account_page(visit, reply, "mfa")


async def make_token(visit: Visit) -> Answer:
    """It is shown once."""
    form = visit.form
    days = form.one("days")
    ends = datetime.now(UTC) + timedelta(days=int(days) if days in map(str, DAYS) else DAYS[0])
    scopes = form.one("scopes").replace(",", " ").split()
    body = {"name": form.one("name").strip(), "scopes": scopes, "expires_at": ends.isoformat()}
    reply = await visit.api("POST", "/me/tokens", None, body)
    if not reply.ok:
        return await account_page(visit, reply, "token")
    return await account_page(visit, token=str(reply.body["token"]))


async def drop_token(visit: Visit) -> Answer:
    reply = await visit.api("DELETE", f"/me/tokens/{visit.path['id']}")
    return visit.go(ME, {"done": "token"}) if reply.ok else await account_page(visit, reply, "token")
