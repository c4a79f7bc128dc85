"""A served farm and a browser, for the panel's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.farm import Farm
from tests.browser.logins import log_in, log_out
from tests.browser.serving import Serving
from tests.browser.window import WIDE, Window, driver
from tests.conftest import require
from tests.fakes.postgres import RealPostgres


@pytest.fixture(scope="module")
def farm(postgres: RealPostgres, schema_template: str) -> Iterator[Farm]:
    """A furnished farm, for all tests of a module."""
    dsn = postgres.create_database(schema_template)
    made = Farm(dsn)
    made.furnish()
    yield made
    made.close()
    postgres.drop_database(dsn)


@pytest.fixture(scope="module")
def serving(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Its administration."""
    made = Serving(farm.dsn, tmp_path_factory.mktemp("admin"))
    try:
        made.await_ready()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def chromium(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    require("chromium", "chromedriver")
    made = Window(driver(tmp_path_factory.mktemp("chromium")), serving.origin)
    yield made
    made.close()


@pytest.fixture
def window(chromium: Window) -> Iterator[Window]:
    """A window that nobody has logged in with. Whatever the test does, nothing is asked of strangers, and the console
    stays empty."""
    chromium.chrome.get("about:blank")
    log_out(chromium)
    chromium.size(WIDE)
    chromium.scheme("light")
    chromium.complaints()
    yield chromium
    assert chromium.strangers() == []
    assert chromium.run("return window.hit === undefined")
    assert [each for each in chromium.complaints() if "favicon" not in each] == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def anna(window: Window) -> Window:
    """A window of the administrator of acme."""
    log_in(window, "anna", "acme")
    return window


@pytest.fixture
def root(window: Window) -> Window:
    """A window of the administrator of all tenants."""
    log_in(window, "root", "*")
    return window
