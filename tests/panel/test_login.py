"""The way in and out."""

from __future__ import annotations

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound

STRONG = "correct horse battery"


@asynchronous
async def test_a_wrong_password_is_said_kindly(browser: Browser) -> None:
    page = sound(await browser.log_in("anna", "acme", "wrong"))
    assert page.status == 401
    assert "credentials are not valid" in page.main.text
    form = page.form("/panel/login")
    assert (form["name"], form["tenant"], form["password"]) == ("anna", "acme", "")
    assert not browser.cookie


@asynchronous
async def test_logging_out(anna: Browser) -> None:
    page = await anna.get("/panel/")
    assert "anna" in page.root.one("header").text
    page = await anna.post("/panel/logout", page.form("/panel/logout"))
    assert page.url == "/panel/login"
    assert (await anna.get("/panel/")).url == "/panel/login"


@asynchronous
async def test_a_one_time_secret_is_replaced_first(browser: Browser, logins: ApiWorld) -> None:
    logins.ask("UPDATE administrators SET must_change_password = true WHERE name = 'anna'")
    page = sound(await browser.log_in("anna", "acme"))
    assert page.url == "/panel/password"
    assert (await browser.get("/panel/vms")).url == "/panel/password"
    form = {**page.form(), "current": "anna's password", "new": STRONG}
    page = sound(await browser.post("/panel/password", {**form, "again": "another"}))
    assert page.status == 422 and "differ" in page.main.text
    page = sound(await browser.post("/panel/password", {**form, "new": "short", "again": "short"}))
    assert page.status == 422
    page = sound(await browser.post("/panel/password", {**form, "again": STRONG}))
    assert page.status == 200 and page.url.startswith("/panel/?")
    other = Browser(browser.port)
    assert (await other.log_in("anna", "acme", STRONG)).url == "/panel/"
