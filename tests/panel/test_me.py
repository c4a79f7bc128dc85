"""The own account."""

from __future__ import annotations

import pyotp

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


@asynchronous
async def test_profile(anna: Browser) -> None:
    page = sound(await anna.get("/panel/me"))
    form = {
        **page.form("/panel/me"),
        "language": "es",
        "theme": "dark",
        "page_size": "25",
        "time_zone": "Europe/Madrid",
    }
    page = sound(await anna.post("/panel/me", form))
    assert "Su cuenta ha cambiado" in page.root.text
    assert page.root.one("html")["data-theme"] == "dark"
    assert page.form("/panel/me")["page_size"] == "25"
    page = sound(await anna.post("/panel/me", {**form, "page_size": "many"}))
    assert page.status == 422 and page.main.all("div", class_="trouble")


@asynchronous
async def test_sessions_end_one_by_one_and_together(served: object, browser: Browser, anna: Browser) -> None:
    await browser.log_in("anna", "acme")
    page = sound(await anna.get("/panel/me"))
    (end,) = page.main.all("button", name="hash")
    form = {"_csrf": page.form("/panel/me")["_csrf"], "hash": end["value"]}
    assert "The session has ended" in sound(await anna.post("/panel/me/sessions", form)).root.text
    assert (await browser.get("/panel/me")).url.startswith("/panel/login")
    await browser.log_in("anna", "acme")
    await anna.post("/panel/me/sessions", {"_csrf": form["_csrf"]})
    assert (await browser.get("/panel/me")).url.startswith("/panel/login")
    page = await anna.post("/panel/me/sessions", {"_csrf": form["_csrf"], "hash": "no/such"})
    assert page.status == 404


@asynchronous
async def test_a_second_factor_is_set_up_with_a_picture(anna: Browser) -> None:
    page = sound(await anna.post("/panel/me/mfa", (await anna.get("/panel/me")).form("/panel/me/mfa")))
    assert page.main.one("img")["src"].startswith("data:image/svg+xml")
    form = page.form("/panel/me/mfa/confirm")
    assert page.main.one("code", id="secret").text == form["secret"]
    page = sound(await anna.post("/panel/me/mfa/confirm", {**form, "otp": "000000"}))
    assert page.status == 422 and page.form("/panel/me/mfa/confirm")["secret"] == form["secret"]
    code = pyotp.TOTP(form["secret"]).now()
    page = sound(await anna.post("/panel/me/mfa/confirm", {**form, "otp": f"{code[:3]} {code[3:]}"}))
    assert len(page.main.one("ul", class_="codes").all("li")) >= 8
    page = sound(await anna.get("/panel/me"))
    assert "An authenticator is in use" in page.main.text
    page = sound(await anna.post("/panel/me/mfa/drop", page.form("/panel/me/mfa/drop")))
    assert "No code is asked for any more" in page.root.text


@asynchronous
async def test_a_token_is_shown_once(anna: Browser, logins: ApiWorld) -> None:
    page = sound(await anna.get("/panel/me"))
    form = {**page.form("/panel/me/tokens"), "name": "backup <b>", "scopes": "vm.see*, user.see*"}
    page = sound(await anna.post("/panel/me/tokens", form))
    token = page.main.one("code", id="token").text
    assert token.startswith("qvd_")
    page = sound(await anna.get("/panel/me"))
    assert "backup <b>" in page.main.text and token not in page.html
    assert "There is a token of that name" in sound(await anna.post("/panel/me/tokens", form)).main.text
    (row,) = logins.ask("SELECT id FROM administrator_tokens")
    path = f"/panel/me/tokens/{row['id']}/delete"
    assert "The token is deleted" in sound(await anna.post(path, {"_csrf": form["_csrf"]})).root.text


@asynchronous
async def test_what_can_do_harm_asks_for_the_password(anna: Browser, logins: ApiWorld) -> None:
    form = (await anna.get("/panel/me")).form("/panel/me/mfa")
    logins.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '1 hour'")
    page = sound(await anna.post("/panel/me/mfa", form))
    assert "Your password again" in page.main.text
    page = sound(await anna.post("/panel/me/mfa", {**page.form("/panel/me/mfa"), "_password": "anna's password"}))
    assert page.main.all("code", id="secret")
