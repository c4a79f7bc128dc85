"""What all pages have: their frame, their headers, their files, and what is shown when something is wrong."""

from __future__ import annotations

import re

import pytest

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound
from tests.panel.held import HeldAcls


@asynchronous
async def test_the_root_leads_to_the_panel(browser: Browser) -> None:
    for path in ("/", "/panel", "/panel/"):
        page = await browser.get(path)
        assert (page.status, page.url) == (200, "/panel/login"), path
    sound(page)


@asynchronous
async def test_pages_ask_who_one_is_and_go_on_there(browser: Browser) -> None:
    page = await browser.ask("GET", "/panel/vms?state=running")
    assert page.status == 303
    page = await browser.get(page.headers["location"])
    form = {**page.form(), "tenant": "acme", "name": "anna", "password": "anna's password"}
    answer = await browser.post("/panel/login", form, follow=False)
    assert answer.headers["location"] == "/panel/vms?state=running"
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "/panel/\\x", "x"])
@asynchronous
async def test_nobody_is_sent_elsewhere(browser: Browser, elsewhere: str) -> None:
    form = {"tenant": "acme", "name": "anna", "password": "anna's password", "next": elsewhere}
    answer = await browser.post("/panel/login", form, follow=False)
    assert answer.headers["location"] == "/panel/"


@asynchronous
async def test_the_menu_has_what_the_caller_may_see(anna: Browser, held: HeldAcls, logins: ApiWorld) -> None:
    page = sound(await anna.get("/panel/"))
    offered = {link["href"] for link in page.root.one("nav", class_="menu").all("a")}
    assert {"/panel/users", "/panel/vms", "/panel/roles"} <= offered
    assert "/panel/tenants" not in offered
    held.of[logins.anna.administrator_id] = frozenset({"user.see-main."})
    page = sound(await anna.get("/panel/"))
    offered = {link["href"] for link in page.root.one("nav", class_="menu").all("a")}
    assert offered == {"/panel/", "/panel/users", "/panel/jobs"}


@asynchronous
async def test_files_may_be_kept_for_ever(browser: Browser) -> None:
    page = await browser.get("/panel/login")
    named = re.findall(r'"(/panel/static/[^"]+)"', page.html)
    assert len(set(named)) >= 3
    for name in set(named):
        file = await browser.get(name)
        assert file.status == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"
    assert (await browser.get("/panel/static/panel.css")).status == 404
    assert b"Klein" not in (await browser.get("/panel/static/..%2F..%2Fsite.py")).body


@asynchronous
async def test_no_such_page(anna: Browser) -> None:
    page = sound(await anna.get("/panel/nothing"))
    assert page.status == 404
    assert "There is no such object" in page.main.text


@asynchronous
async def test_a_form_from_elsewhere_does_nothing(anna: Browser) -> None:
    page = await anna.post("/panel/theme", {"theme": "dark", "_csrf": "guessed"})
    assert page.status == 200  # the page goes on
    assert (await anna.get("/panel/")).root.one("html")["data-theme"] == "auto"
    form = (await anna.get("/panel/")).form("/panel/theme")
    await anna.post("/panel/theme", {**form, "theme": "dark"})
    assert (await anna.get("/panel/")).root.one("html")["data-theme"] == "dark"


@asynchronous
async def test_spanish(browser: Browser) -> None:
    browser.language = "es-MX,es;q=0.9,en;q=0.5"
    page = sound(await browser.get("/panel/login"))
    assert page.root.one("html")["lang"] == "es"
    assert "Contraseña" in page.main.text
