"""
Every screen: nothing that axe finds, in light and dark, wide and narrow; nothing asked of strangers; names that look
like code show as text. The fixture looks at strangers, the console and what such names would do.
"""

from __future__ import annotations

import pytest

from tests.browser.farm import HOSTILE, Farm
from tests.browser.logins import log_in
from tests.browser.screens import SCREENS, Screen
from tests.browser.window import NARROW, WIDE, Window

WAYS = (("light", WIDE), ("dark", WIDE), ("light", NARROW))
REFUSED = frozenset({"nowhere"})
"""Screens of pages that are not there: the console says so."""


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_a_screen(window: Window, farm: Farm, screen: Screen) -> None:
    if screen.who:
        log_in(window, screen.who, "*" if screen.who == "root" else "acme")
    found: dict[str, list[str]] = {}
    for scheme, size in WAYS:
        window.size(size)
        window.scheme(scheme)
        window.go(screen.at(farm))
        assert window.one("h1").text
        found[f"{scheme} at {size[0]}"] = window.violations()
        assert window.run("return document.documentElement.scrollWidth <= innerWidth"), f"wider than {size[0]}"
    assert {way: faults for way, faults in found.items() if faults} == {}
    if screen.name in REFUSED:
        assert [each for each in window.complaints() if "404" not in each] == []


@pytest.mark.parametrize("path", ["/panel/", "/panel/images/{image}/life?operation=tag:default"])
def test_names_that_look_like_code_show_as_text(root: Window, farm: Farm, path: str) -> None:
    farm.ask(
        "UPDATE vm_runtimes SET failures = 1, last_error = %s FROM vms WHERE id = vm_id AND name = %s", HOSTILE, HOSTILE
    )
    root.go(path.format(**farm.examples()))
    root.see(HOSTILE)
    assert root.all("img[src=x]") == []


def test_the_menu_is_used_with_the_keyboard(root: Window) -> None:
    """The first stop is the way past the menu; the focus can be seen."""
    root.go("/panel/")
    root.keys("\ue004")
    assert root.run("return document.activeElement.textContent") == "Skip to the content"
    root.keys("\ue007")
    assert root.run("return location.hash") == "#main"
    root.keys("/")
    assert root.run("return document.activeElement.name") == "q"
    assert root.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
