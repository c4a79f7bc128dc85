"""The way in, by the panel's own form."""

from __future__ import annotations

from tests.browser.farm import PASSWORD
from tests.browser.window import Window


def log_in(window: Window, name: str, tenant: str = "", password: str = PASSWORD) -> None:
    """As somebody. Where a one-time secret is to be replaced, that is the next page."""
    window.go("/panel/login")
    window.fill("name", name)
    window.fill("tenant", tenant)
    window.fill("password", password)
    window.submit("Log in")


def log_out(window: Window) -> None:
    """Whoever it was."""
    window.chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
