# -*- test-case-name: tests.panel.test_login -*-
"""The way in and out: log in, replace a one-time secret, log out; and the switch of dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from qvd.admin.call import Answer
from qvd.admin.login.proofs import COOKIE
from qvd.panel.calls import Reply
from qvd.panel.site import HOME, LOGIN, NEW_PASSWORD, Panel, Route
from qvd.panel.visit import Visit

THEMES = ("auto", "light", "dark")


def entrance(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", LOGIN, show_login, public=True),
        Route("POST", LOGIN, log_in, public=True),
        Route("GET", NEW_PASSWORD, show_password, early=True),
        Route("POST", NEW_PASSWORD, change_password, early=True),
        Route("POST", "/panel/logout", log_out, early=True),
        Route("POST", "/panel/theme", switch_theme),
    ]


async def show_login(visit: Visit) -> Answer:
    """The form. Whoever is logged in does not need it."""
    if COOKIE in visit.headers.get("cookie", ""):
        session = await visit.panel.calls.api(visit.request, "GET", "/auth/session")
        if session.ok:
            return visit.go(own_path(visit.query.one("next")))
    return await login_page(visit, None)


async def login_page(visit: Visit, problem: Reply | None) -> Answer:
    """The form, with what was typed, but no secrets."""
    info = await visit.api("GET", "/info")
    known: dict[str, Any] = info.body if info.ok else {}
    asks_code = problem is not None and (problem.kind == "otp-required" or "otp" in visit.form)
    return visit.page(
        "login.html",
        200 if problem is None else problem.status,
        multitenant=bool(known.get("multitenant", True)),
        public=known.get("public_configuration", {}),
        problem=problem if problem is None or problem.kind != "otp-required" else None,
        asks_code=asks_code,
        over=visit.query.one("over") == "1",
        following=own_path(visit.form.one("next") or visit.query.one("next")),
        tenant=visit.form.one("tenant"),
        name=visit.form.one("name"),
    )


async def log_in(visit: Visit) -> Answer:
    """Open a session."""
    form = visit.form
    name, tenant = form.one("name"), form.one("tenant").strip()
    if not tenant:
        name, tenant = await parted(visit, name)
    body = {"name": name, "password": form.one("password"), "tenant": tenant}
    if form.one("otp"):
        body["otp"] = form.one("otp").strip()
    reply = await visit.api("POST", "/auth/login", None, body)
    if not reply.ok:
        return await login_page(visit, reply)
    if reply.body["must_change_password"]:
        return visit.go(NEW_PASSWORD)
    return visit.go(own_path(form.one("next")))


async def parted(visit: Visit, typed: str) -> tuple[str, str]:
    """Name and tenant of what somebody typed into one field: C{anna@acme}."""
    info = await visit.api("GET", "/info")
    if info.ok and info.body["multitenant"]:
        for separator in info.body["auth"]["separators"]:
            name, found, tenant = typed.rpartition(separator)
            if found:
                return name, tenant.strip()
    return typed, ""


def own_path(text: str) -> str:
    """Where to go on: a page of ours, whatever the address says. Browsers take C{//host} and C{/\\host} for another
    server."""
    if not text.startswith("/panel/") or "\\" in text or not text.isprintable():
        return HOME
    return quote(text, safe="/?#[]@!$&'()*+,;=:%", errors="replace")


async def show_password(visit: Visit) -> Answer:
    return password_page(visit, None)


def password_page(visit: Visit, problem: Reply | None, differ: bool = False) -> Answer:
    """The form of a new password. The one-time secret counts as the old one."""
    status = 200 if problem is None and not differ else 422
    asks_code = bool(visit.me.get("totp")) or (problem is not None and problem.kind == "otp-required")
    return visit.page("password.html", status, problem=problem, differ=differ, asks_code=asks_code)


async def change_password(visit: Visit) -> Answer:
    """Replace it."""
    form = visit.form
    if form.one("new") != form.one("again"):
        return password_page(visit, None, differ=True)
    body = {"current": form.one("current"), "new": form.one("new")}
    if form.one("otp"):
        body["otp"] = form.one("otp").strip()
    reply = await visit.api("PUT", "/me/password", None, body)
    if not reply.ok:
        return password_page(visit, reply)
    return visit.go(HOME, {"done": "password"})


async def log_out(visit: Visit) -> Answer:
    """End the session."""
    await visit.api("POST", "/auth/logout")
    return visit.go(LOGIN)


async def switch_theme(visit: Visit) -> Answer:
    """Dark, light, or as the browser is set."""
    theme = visit.form.one("theme")
    if theme in THEMES:
        await visit.api("PATCH", "/me", None, {"theme": theme})
    return visit.go(own_path(visit.form.one("next")))
