"""Roles on pages: the tree of permissions, and inheritance."""

from __future__ import annotations

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, Page, sound

HELPDESK = "70"


async def made(boss: Browser) -> str:
    """Path of a role's page, with what Helpdesk gives."""
    page = sound(await boss.get("/panel/roles/new"))
    form = {**page.form("/panel/roles/new"), "name": "<b>ours</b>", "roles": HELPDESK}
    page = sound(await boss.post("/panel/roles/new", form))
    assert "Now choose what it gives" in page.root.text and "<b>ours</b>" in page.main.text
    return page.url.partition("?")[0]


def states(page: Page) -> dict[str, str]:
    """Of each permission that the page shows."""
    found = {}
    for line in page.main.all("li"):
        names = line.all("code")
        if names:
            found[names[0].text] = next(each.text for each in line.all("span") if each["class"].startswith("mark"))
    return found


def ticks(page: Page, *changed: str) -> dict[str, object]:
    """What the tree's form sends, with these ticked or not as they were not."""
    (tree,) = [form for form in page.root.all("form") if "data-tree" in form.attributes]
    inputs = [each for each in tree.walk() if each.tag == "input"]

    def of(name: str) -> list[str]:
        return [each["value"] for each in inputs if each["name"] == name]

    ticked = {each["value"] for each in inputs if each["name"] == "acl" and "checked" in each.attributes}
    return {"_csrf": of("_csrf"), "shown": of("shown"), "was": of("was"), "acl": sorted(ticked ^ set(changed))}


@asynchronous
async def test_permissions_are_granted_inherited_and_excluded(boss: Browser) -> None:
    path = await made(boss)
    page = sound(await boss.get(path))
    before = states(page)
    assert before["vm.update.disconnect-user"] == "inherited" and before["vm.delete."] == "none"
    page = sound(await boss.post(path, ticks(page, "vm.update.disconnect-user", "vm.delete.")))
    after = states(page)
    assert after["vm.update.disconnect-user"] == "excluded" and after["vm.delete."] == "granted"
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"vm.update.disconnect-user", "vm.delete."}


@asynchronous
async def test_a_search_changes_only_what_it_shows(boss: Browser) -> None:
    path = await made(boss)
    page = sound(await boss.get(f"{path}?q=user.delete"))
    assert list(states(page)) == ["user.delete."]
    page = sound(await boss.post(f"{path}?q=user.delete", ticks(page, "user.delete.")))
    assert states(page) == {"user.delete.": "granted"}
    everything = states(sound(await boss.get(path)))
    assert everything["vm.update.disconnect-user"] == "inherited"
    assert set(states(sound(await boss.get(f"{path}?only=granted")))) == {"user.delete."}


@asynchronous
async def test_inheritance_ends(boss: Browser) -> None:
    path = await made(boss)
    page = sound(await boss.get(path))
    parents = path.replace("/permissions", "/parents")
    page = sound(await boss.post(parents, {"_csrf": page.form(parents)["_csrf"], "remove": HELPDESK}))
    assert "inherited" not in states(page).values()
    page = sound(await boss.post(parents, {"_csrf": page.form(parents)["_csrf"], "add": path.split("/")[3]}))
    assert page.status == 409 and "would inherit itself" in page.main.text


@asynchronous
async def test_shipped_roles_are_copied(boss: Browser) -> None:
    page = sound(await boss.get(f"/panel/roles/{HELPDESK}/permissions"))
    assert "stays as it is" in page.main.text and not page.main.all("input", name="acl")
    clone = f"/panel/roles/{HELPDESK}/clone"
    page = sound(await boss.post(clone, {**page.form(clone), "name": "copy"}))
    assert page.main.one("h1").text == "copy" and page.main.all("input", name="acl")


@asynchronous
async def test_an_administrators_roles(boss: Browser, logins: ApiWorld) -> None:
    page = sound(await boss.get("/panel/administrators/new"))
    form = {**page.form("/panel/administrators/new"), "tenant_id": str(logins.acme), "roles": HELPDESK}
    page = sound(await boss.post("/panel/administrators/new", {**form, "name": "otto", "password": "short"}))
    assert page.status == 422 and page.form("/panel/administrators/new")["name"] == "otto"
    page = sound(await boss.post("/panel/administrators/new", {**form, "name": "otto", "password": "a long password"}))
    assert page.main.one("h1").text == "Roles of otto"
    path = page.url.partition("?")[0]
    tick = page.main.one("input", name="roles", checked="")
    assert tick["value"] == HELPDESK
    both = {**page.form(path), "roles": [HELPDESK, "21"]}
    page = sound(await boss.post(path, both))
    assert {each["value"] for each in page.main.all("input", checked="")} == {HELPDESK, "21"}
    page = sound(await boss.post(path, both))
    assert page.status == 412, "the form is of an older version"
