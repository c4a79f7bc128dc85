"""The panel as a browser without scripts meets it: real requests of the real routes, forms filled in and sent."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.web.server import Site

from qvd.admin.endpoint import Endpoint
from qvd.admin.site import make_app
from qvd.panel.screens import SCREENS
from qvd.panel.site import Panel
from tests.admin.world import ApiWorld

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


@define(eq=False)
class Element:
    """Part of a page."""

    tag: str
    attributes: Mapping[str, str]
    children: list[Element | str] = field(factory=list)
    parent: Element | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def walk(self) -> Iterator[Element]:
        """This, and all in it."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Those of that tag and these attributes."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            each
            for each in self.walk()
            if each.tag == tag and all(each.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]

    @property
    def text(self) -> str:
        """All that is read in it."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).split()) if self.tag != "pre" else "".join(parts)


class Tree(HTMLParser):
    """Reads a page; one whose elements are not closed in order fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.at = Element("", {})
        self.feed(text)
        self.close()
        assert self.at is self.root, f"{self.at.tag} is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        made = Element(tag, {name: value or "" for name, value in attrs}, parent=self.at)
        self.at.children.append(made)
        if tag not in VOID:
            self.at = made

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"{tag} is closed in {self.at.tag}"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


@define
class Page:
    """What came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def html(self) -> str:
        return self.body.decode()

    @property
    def root(self) -> Element:
        return Tree(self.html).root

    @property
    def main(self) -> Element:
        return self.root.one("main")

    def form(self, action: str = "", which: int = 0) -> dict[str, str]:
        """What a form sends if nobody touches it.

        @param action: of the form, without its query; empty: the first of the main part.
        """
        forms = [form for form in self.root.all("form") if form["action"].partition("?")[0] == action]
        return values_of((forms if action else self.main.all("form"))[which])


def values_of(form: Element) -> dict[str, str]:
    """What it sends, without its buttons."""
    found: dict[str, str] = {}
    for each in form.walk():
        if each.tag == "input" and each["name"]:
            if each["type"] in ("checkbox", "radio") and "checked" not in each.attributes:
                continue
            found[each["name"]] = each["value"] or ("on" if each["type"] == "checkbox" else "")
        elif each.tag == "textarea":
            found[each["name"]] = "".join(str(child) for child in each.children).removeprefix("\n")
        elif each.tag == "select":
            options = each.all("option")
            chosen = [option for option in options if "selected" in option.attributes] or options[:1]
            for option in chosen:
                found[each["name"]] = option.attributes.get("value", option.text)
    return found


@define
class Browser:
    """Keeps the cookie, follows redirections.

    @ivar cookie: of the session.
    """

    port: int
    cookie: str = ""
    language: str = "en"

    async def get(self, path: str) -> Page:
        return await self._follow("GET", path, None)

    async def post(self, path: str, form: Mapping[str, Any], follow: bool = True) -> Page:
        return await self._follow("POST", path, form, follow)

    async def _follow(self, method: str, path: str, form: Mapping[str, Any] | None, follow: bool = True) -> Page:
        page = await self.ask(method, path, form)
        steps = 0
        while follow and page.status == 303:
            steps += 1
            assert steps < 5, "redirections without end"
            page = await self.ask("GET", urljoin(page.url, page.headers["location"]))
        return page

    async def ask(self, method: str, path: str, form: Mapping[str, Any] | None = None, **headers: str) -> Page:
        """One request."""
        page: Page = await deferToThread(self._ask, method, path, form, headers)
        given = page.headers.get("set-cookie", "")
        if given:
            self.cookie = given.partition("=")[2].partition(";")[0]
        return page

    def _ask(self, method: str, path: str, form: Mapping[str, Any] | None, more: Mapping[str, str]) -> Page:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Accept-Language": self.language, **{name.replace("_", "-"): value for name, value in more.items()}}
        body = None
        if self.cookie:
            headers["Cookie"] = f"__Host-qvd={self.cookie}"
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form, doseq=True)
        try:
            line.request(method, path, body, headers)
            answer = line.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Page(answer.status, names, answer.read(), path)
        finally:
            line.close()

    async def log_in(self, name: str, tenant: str, password: str = "") -> Page:
        """As the tests' administrators do."""
        page = await self.get("/panel/login")
        form = {**page.form("/panel/login"), "name": name, "tenant": tenant}
        return await self.post("/panel/login", {**form, "password": password or f"{name}'s password"})


@define
class Served:
    """The routes on a port of loopback."""

    world: ApiWorld
    endpoints: list[Endpoint]
    port: Any = None

    def start(self) -> None:
        app = make_app(self.endpoints, self.world.dispatcher)
        Panel(self.endpoints, self.world.dispatcher, SCREENS).add_to(app)
        site: Any = Site(app.resource())  # type: ignore[no-untyped-call]
        site.displayTracebacks = False
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")

    def browser(self, language: str = "en") -> Browser:
        return Browser(self.port.getHost().port, language=language)

    async def stop(self) -> None:
        await self.port.stopListening()


def within_the_origin(page: Page) -> None:
    """No page asks for anything from elsewhere, or runs anything that it holds itself."""
    for each in page.root.walk():
        for name in ("href", "src", "action", "formaction", "srcset", "poster", "data"):
            if name in each.attributes:
                split = urlsplit(each[name])
                assert (split.scheme, split.netloc) in (("", ""), ("data", "")), f"{each.tag} {name}={each[name]}"
        assert not [name for name in each.attributes if name.startswith("on") or name == "style"], each
        if each.tag in ("script", "style"):
            assert each["src"] and not each.text, f"{each.tag} with code in the page"


def labelled(page: Page) -> None:
    """Whatever is filled in says what it is; ids are there once; the language is named, and the title."""
    root = page.root
    ids = [each["id"] for each in root.walk() if each["id"]]
    assert len(ids) == len(set(ids)), sorted(name for name in ids if ids.count(name) > 1)
    labels = {each["for"] for each in root.all("label")}
    for each in root.walk():
        if each.tag in ("input", "select", "textarea") and each["type"] not in ("hidden", "submit"):
            wrapped = any(above.tag == "label" for above in above_of(each))
            assert wrapped or each["id"] in labels or each["aria-label"], f"{each.tag} {dict(each.attributes)}"
        if each.tag in ("button", "a"):
            assert each.text or each["aria-label"] or each["title"], f"{each.tag} without a text"
        if each.tag == "img":
            assert "alt" in each.attributes
        for name in ("aria-describedby", "aria-labelledby", "for", "list"):
            for known in each[name].split():
                assert known in ids, f"{each.tag} {name}={known}"
    assert root.one("html")["lang"] and root.one("title").text
    assert len(root.all("h1")) == 1 and len(root.all("main")) == 1


def above_of(element: Element) -> Iterator[Element]:
    while element.parent is not None:
        element = element.parent
        yield element


def sound(page: Page) -> Page:
    """What holds of every page."""
    within_the_origin(page)
    labelled(page)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    return page
