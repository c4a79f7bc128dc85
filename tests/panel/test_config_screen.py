"""Configuration on pages."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, Page, sound

KEY = "/panel/config/stats.expiring.days"


def value(page: Page) -> dict[str, str]:
    """What the form of the value sends. The one before it chooses for whom."""
    return page.form(KEY, which=1)


@asynchronous
async def test_a_value_is_set_and_reset_where_it_was_set(boss: Browser, desks: Desks) -> None:
    page = sound(await boss.get("/panel/config?q=expir"))
    assert "stats.expiring.days" in page.main.text and "api.session" not in page.main.text
    tenant = f"?scope=tenant:{desks.api.acme}"
    page = sound(await boss.get(KEY + tenant))
    page = sound(await boss.post(KEY + tenant, {**value(page), "value": "7"}))
    assert "The value is set" in page.root.text and value(page)["value"] == "7"
    assert page.main.one("dl").text.startswith("What counts7 tenant")
    assert value(sound(await boss.get(KEY)))["value"] == "30"
    page = sound(await boss.get(KEY + tenant))
    page = sound(await boss.post(f"{KEY}/reset{tenant}", page.form(f"{KEY}/reset")))
    assert value(page)["value"] == "30" and not [f for f in page.root.all("form") if "/reset" in f["action"]]


@asynchronous
async def test_what_is_no_value_is_said_and_kept(boss: Browser) -> None:
    page = await boss.get(KEY)
    for typed in ("0", "many", "<b>"):
        page = sound(await boss.post(KEY, {**value(page), "value": typed}))
        assert page.status == 422 and value(page)["value"] == typed
    assert (await boss.get("/panel/config/no.such.key")).status == 404


@asynchronous
async def test_a_tenants_administrator_sees_its_own(anna: Browser) -> None:
    page = sound(await anna.get("/panel/config"))
    assert "stats.expiring.days" in page.main.text and "wat.multitenant" not in page.main.text
    assert not page.main.all("select", id="scope")
