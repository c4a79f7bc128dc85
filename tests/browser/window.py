"""A window of headless Chromium, and what tests ask of it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

PATIENCE = 20.0
WIDE, NARROW = (1280, 900), (400, 850)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def driver(folder: Path) -> Chrome:
    """@param folder: for the browser's own files."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests run as root, which Chromium refuses with its own
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--lang=en-GB",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(argument)
    options.accept_insecure_certs = True
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    made = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    made.set_page_load_timeout(60)
    return made


class Window:
    """@ivar origin: of the panel.

    @ivar requested: URLs that were asked for, by now.
    """

    def __init__(self, chrome: Chrome, origin: str) -> None:
        self.chrome = chrome
        self.origin = origin
        self.requested: list[str] = []
        self._axe = files("axe_core_python").joinpath("axe.min.js").read_text()
        self.size(WIDE)

    def size(self, wanted: tuple[int, int]) -> None:
        """Of what shows, whatever the least width of a window is."""
        width, height = wanted
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def fit(self, least: tuple[int, int], most: int = 2400) -> None:
        """As high as the page is, for a picture of all of it."""
        height = int(self.run("return document.documentElement.scrollHeight"))
        self.size((least[0], min(max(height, least[1]), most)))

    def scheme(self, name: str) -> None:
        """C{light} or C{dark}, as the desktop would say."""
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def go(self, path: str) -> None:
        """Open a page of the panel."""
        self.chrome.get(self.origin + path)

    @property
    def path(self) -> str:
        """Where it is."""
        return urlsplit(self.chrome.current_url).path

    @property
    def text(self) -> str:
        return self.chrome.find_element(By.TAG_NAME, "body").text

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.chrome.execute_script(script, *arguments)

    def all(self, selector: str) -> Sequence[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first one, as soon as it is there."""
        found = self.until(lambda: next(iter(self.all(selector)), None), f"there is {selector}")
        assert isinstance(found, WebElement)
        return found

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Wait for something to be true."""

        def holds(chrome: object) -> Any:
            try:
                return condition()
            except StaleElementReferenceException:
                return None

        try:
            return WebDriverWait(self.chrome, seconds, poll_frequency=0.05).until(holds)
        except TimeoutException:
            raise AssertionError(f"not within {seconds:g} s: {what}; at {self.path}: {self.text[:2000]}") from None

    def see(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until it is on the page."""
        self.until(lambda: text in self.text, f"the page says {text!r}", seconds)

    def fill(self, name: str, value: str) -> None:
        """Write into a field of a form, or choose from it."""
        field = self.one(f"main [name='{name}']:not([type=hidden]):not(button)")
        if field.tag_name == "select":
            Select(field).select_by_value(value)
        elif field.get_attribute("type") == "file":
            field.send_keys(value)
        elif field.get_attribute("type") == "checkbox":
            if field.is_selected() != (value == "true"):
                self.press(field)
        else:
            field.clear()
            field.send_keys(value)

    def press(self, target: str | WebElement) -> None:
        """Click on something, and wait for the page that comes of it, if one does."""
        element = self.one(target) if isinstance(target, str) else target
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def button(self, name: str) -> WebElement:
        """The button or link of that name that can be seen."""

        def visible() -> WebElement | None:
            known = self.all("button, a, summary")
            return next((each for each in known if named(each, name) and each.is_displayed()), None)

        found = self.until(visible, f"there is a button {name!r}")
        assert isinstance(found, WebElement)
        return found

    def choose(self, name: str) -> None:
        """Press the button or link of that name."""
        self.press(self.button(name))

    def moving(self, act: Callable[[], None]) -> None:
        """Do something that opens another page, and wait for that."""
        self.run("window.here = true")
        act()

        def moved() -> bool:
            try:
                return bool(self.run("return !window.here && document.readyState === 'complete'"))
            except WebDriverException:  # between two pages
                return False

        self.until(moved, "another page")

    def keys(self, text: str) -> None:
        """Type, wherever the focus is."""
        ActionChains(self.chrome).send_keys(text).perform()

    def submit(self, name: str) -> None:
        """Press the button of that name, and wait for the page that it opens."""
        self.moving(lambda: self.choose(name))

    def violations(self) -> list[str]:
        """What axe finds, in lines for people."""
        self.chrome.execute_cdp_cmd("Runtime.evaluate", {"expression": self._axe})
        script = (
            "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(done, e => done(String(e)))"
        )
        found = self.chrome.execute_async_script(script, RULES)
        assert isinstance(found, dict), found
        return [
            f"{each['id']}: {each['help']}: {node['html'][:200]}: {node.get('failureSummary', '')[:300]}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    def requests(self) -> list[str]:
        """URLs that pages have asked for since the last look."""
        found = []
        for entry in self.chrome.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        self.requested += found
        return found

    def complaints(self) -> list[str]:
        """What the browser's console has said: errors of scripts, and what the policy has refused."""
        return [
            entry["message"]
            for entry in self.chrome.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] == "SEVERE"
        ]

    def strangers(self) -> list[str]:
        """URLs elsewhere that a page has asked for."""
        self.requests()
        inside = (self.origin + "/", "data:", "blob:", "chrome:", "about:")
        return [url for url in self.requested if not url.startswith(inside)]

    def shoot(self, path: Path) -> None:
        """A picture of what shows, in the format that the name ends in: C{png} or C{webp}."""
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = {"format": "webp", "quality": 60} if path.suffix == ".webp" else {"format": "png"}
        taken = self.chrome.execute_cdp_cmd("Page.captureScreenshot", wanted)
        path.write_bytes(base64.b64decode(taken["data"]))

    def rest(self, seconds: float) -> None:
        """Let the page be, as a person does."""
        time.sleep(seconds)

    def close(self) -> None:
        self.chrome.quit()


def named(element: WebElement, name: str) -> bool:
    """Whether a person would call it so."""
    return name in (element.text.strip(), element.get_attribute("aria-label"), element.get_attribute("title"))
