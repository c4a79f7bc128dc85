"""Lists of all kinds."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from qvd.admin.api import all_endpoints
from qvd.panel.kinds import kinds_of
from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, Element, Page, sound
from tests.panel.held import HeldAcls

KINDS = kinds_of(all_endpoints())


def rows(page: Page) -> list[Element]:
    tables = page.main.all("table")
    return tables[0].one("tbody").all("tr") if tables else []


def column(page: Page, name: str) -> list[str]:
    return [row.one("td", data_field=name).text for row in rows(page)]


@pytest.mark.parametrize("collection", sorted(KINDS))
@asynchronous
async def test_every_list(boss: Browser, desks: Desks, collection: str) -> None:
    page = sound(await boss.get(f"/panel/{collection}"))
    assert page.status == 200, page.main.text
    able = [each["value"] for each in page.main.all("input", type="checkbox", name="columns")]
    page = sound(await boss.get(f"/panel/{collection}?columns={','.join(able)}"))
    assert page.status == 200, page.main.text


@asynchronous
async def test_filters_are_in_the_address(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    desks.new_vm(api.acme, desks.user, desks.osf, "laboratory")
    page = sound(await anna.get("/panel/vms"))
    assert sorted(column(page, "name")) == ["alice-1", "laboratory"]
    form = {**page.form("/panel/vms"), "name[ilike]": "LAB", "f": "state", "o": "eq", "v": "stopped"}
    page = sound(await anna.get("/panel/vms?" + "&".join(f"{name}={quote(value)}" for name, value in form.items())))
    assert page.url == "/panel/vms?name%5Bilike%5D=%25LAB%25&state=stopped"
    assert column(page, "name") == ["laboratory"]
    chips = page.main.one("ul", class_="chips")
    assert "Name holds LAB" in chips.text and "State is Stopped" in chips.text
    page = await anna.get(chips.all("a")[0]["href"])
    assert page.url.startswith("/panel/vms?state=stopped")
    assert page.form("/panel/vms")["state"] == "stopped"


@asynchronous
async def test_a_filter_that_there_is_not_is_said(anna: Browser) -> None:
    page = sound(await anna.get("/panel/vms?nothing=1"))
    assert page.status == 400
    assert "nothing" in page.main.text and "Show the list without filters" in page.main.text


@asynchronous
async def test_nothing_there_and_nothing_found(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get("/panel/vms?name=none"))
    assert "Nothing matches these filters" in page.main.text
    page = sound(await anna.get("/panel/osfs?name=none"))
    page = sound(await anna.get("/panel/properties"))
    assert "There is nothing here yet" in page.main.text
    assert page.main.all("a", href="/panel/properties/new")


@asynchronous
async def test_sorting_and_paging(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    for number in range(25):
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"u{number:02}")
    page = sound(await anna.get("/panel/users?limit=10&sort=-name"))
    assert column(page, "name") == [f"u{number:02}" for number in range(24, 14, -1)]
    assert page.main.one("th", aria_sort="descending").text.startswith("Name")
    assert "10 of 26 shown" in page.main.text
    page = sound(await anna.get(page.main.one("a", rel="next")["href"]))
    assert column(page, "name")[0] == "u14"
    page = await anna.get(page.main.one("a", rel="prev")["href"])
    assert column(page, "name")[0] == "u24"
    [head] = [link for link in page.main.one("thead").all("a") if link.text.startswith("Name")]
    assert column(await anna.get(head["href"]), "name")[0] == "alice"


@asynchronous
async def test_columns_are_chosen_and_kept(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get("/panel/vms?columns=name&columns=mac&columns=osf_name"))
    assert page.url == "/panel/vms?columns=name%2Cmac%2Cosf_name"
    heads = [head["data-field"] for head in page.main.all("th") if head["data-field"]]
    assert heads == ["name", "mac", "osf_name"]
    await anna.post("/panel/vms/view", {**page.form("/panel/vms/view"), "what": "save"})
    page = sound(await anna.get("/panel/vms"))
    assert [head["data-field"] for head in page.main.all("th") if head["data-field"]] == heads
    await anna.post("/panel/vms/view", {**page.form("/panel/vms/view"), "what": "reset"})
    page = await anna.get("/panel/vms")
    assert [head["data-field"] for head in page.main.all("th") if head["data-field"]] != heads


@asynchronous
async def test_only_what_the_caller_may_see(anna: Browser, desks: Desks, held: HeldAcls, logins: ApiWorld) -> None:
    held.of[logins.anna.administrator_id] = frozenset({"vm.see-main."})
    page = sound(await anna.get("/panel/vms"))
    assert not page.main.all("form", action="/panel/vms/bulk") and "New VM" not in page.main.text
    assert "user_name" not in [head["data-field"] for head in page.main.all("th")]
    page = sound(await anna.get("/panel/users"))
    assert page.status == 403 and "user.see-main." in page.main.text


@asynchronous
async def test_what_lists_watch(anna: Browser, desks: Desks) -> None:
    page = await anna.get("/panel/vms?state=stopped&columns=name,state,properties")
    [topic] = [each["data-topic"] for each in page.main.all("table")]
    assert topic == "vms?state=stopped&fields=name%2Cstate"


@pytest.mark.parametrize(
    "query",
    [
        "since[ge]=0001-01-01T00:00Z",
        "since[ge]=9999-12-31T23:59-12:00",
        "since[ge]=never",
        "since[between]=a,b",
        "id=999999999999999999999999",
        "name[ilike]=%5C",
        "name[nothing]=1",
        "state[in]=",
        "limit=100000",
        "cursor=x",
        "sort=-",
        "columns=,,,",
        "f=&o=&v=",
        "=",
        "[eq]=1",
        "a[b]c=1",
        "name=a&name=b&name=c",
        "property.room=12",
    ],
)
@asynchronous
async def test_odd_addresses(boss: Browser, desks: Desks, query: str) -> None:
    page = sound(await boss.get(f"/panel/vms?{query}"))
    assert page.status < 500, page.main.text
