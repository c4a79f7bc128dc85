"""Objects found by name, from any page."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


@asynchronous
async def test_what_is_found(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get("/panel/search?q=alice"))
    assert page.main.all("a", href=f"/panel/users/{desks.user}") and page.main.all("a", href=f"/panel/vms/{desks.vm}")
    assert "ruth" not in page.html
    assert (await anna.get("/panel/search?q=alice-1")).url == f"/panel/vms/{desks.vm}"
    assert "Try a part of the name" in sound(await anna.get("/panel/search?q=nobody")).main.text
    assert "Type a part" in sound(await anna.get("/panel/search?q=+")).main.text
