"""The way in and out."""

from __future__ import annotations

from tests.admin.test_mfa import enrolled
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


@asynchronous
async def test_a_second_factor_is_asked_for(browser: Browser, logins: ApiWorld) -> None:
    _, _, recovery = await enrolled(logins)
    page = sound(await browser.log_in("anna", "acme"))
    assert page.status == 401 and "second factor" in page.main.text and not browser.cookie
    form = page.form("/panel/login")
    assert form["otp"] == "" and form["password"] == ""
    page = sound(await browser.post("/panel/login", {**form, "password": "anna's password", "otp": "000000"}))
    assert page.status == 401 and page.main.all("input", name="otp") and not browser.cookie
    page = sound(await browser.post("/panel/login", {**form, "password": "anna's password", "otp": recovery[0]}))
    assert page.url == "/panel/" and browser.cookie


@asynchronous
async def test_a_session_that_is_over(anna: Browser, logins: ApiWorld) -> None:
    logins.ask("DELETE FROM administrator_sessions")
    page = sound(await anna.get("/panel/vms?state=running"))
    assert page.url.startswith("/panel/login") and "Your session is over" in page.main.text
    assert page.form("/panel/login")["next"] == "/panel/vms?state=running"


@asynchronous
async def test_a_page_of_another_site_cannot_log_in(browser: Browser) -> None:
    form = {"tenant": "acme", "name": "anna", "password": "anna's password"}
    page = await browser.ask("POST", "/panel/login", form, Origin="https://evil.example")
    assert page.status == 403 and not browser.cookie


@asynchronous
async def test_who_asks_is_found_out_for_each_page(anna: Browser, logins: ApiWorld) -> None:
    assert (await anna.get("/panel/vms")).status == 200
    logins.ask("UPDATE administrators SET blocked = true WHERE name = 'anna'")
    page = sound(await anna.get("/panel/vms"))
    assert page.url.startswith("/panel/login")


@asynchronous
async def test_name_and_tenant_in_one_field(browser: Browser) -> None:
    assert (await browser.log_in("anna@acme", "", "anna's password")).url == "/panel/"
    assert (await Browser(browser.port).log_in("anna@rival", "", "anna's password")).status == 401
