"""Forms that make and change objects."""

from __future__ import annotations

import json

import pytest

from qvd.panel.typed import Invalid, shown_size, size
from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound
from tests.panel.held import HeldAcls


@pytest.mark.parametrize(
    "collection", ["users", "vms", "hosts", "osfs", "administrators", "roles", "properties", "tenants"]
)
@asynchronous
async def test_every_form(boss: Browser, desks: Desks, collection: str) -> None:
    page = sound(await boss.get(f"/panel/{collection}/new"))
    assert page.status == 200, page.main.text
    page = sound(await boss.post(f"/panel/{collection}/new", page.form()))
    assert page.status == 422, page.main.text


@asynchronous
async def test_making_a_user_and_a_vm(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get("/panel/users/new"))
    assert not [each for each in page.main.all("input") if each["name"] == "tenant_id"]
    form = {**page.form(), "name": "maria", "password": "a long password", "description": "of the lab"}
    page = sound(await anna.post("/panel/users/new", form))
    assert page.url.startswith("/panel/users/") and "Done." in page.root.text, page.main.text
    number = page.url.partition("?")[0].rpartition("/")[2]
    page = sound(await anna.get(f"/panel/vms/new?user_id={number}"))
    form = page.form()
    assert form["user_id"] == f"#{number}"
    page = sound(await anna.post("/panel/vms/new", {**form, "name": "desk of maria", "osf_id": "desk"}))
    assert page.url.startswith("/panel/vms/"), page.main.text
    assert page.main.one("dd", data_field="user_name").text == "maria"


@asynchronous
async def test_faults_are_at_their_fields_and_nothing_is_lost(anna: Browser, desks: Desks) -> None:
    page = await anna.get("/panel/users/new")
    page = sound(await anna.post("/panel/users/new", {**page.form(), "name": "a@b", "description": "kept"}))
    assert page.status == 422
    wrong = [each for each in page.main.all("input") if each["aria-invalid"] == "true"]
    assert [each["name"] for each in wrong] == ["name"]
    assert page.form()["description"] == "kept" and page.form()["name"] == "a@b"
    page = await anna.get("/panel/vms/new")
    page = sound(await anna.post("/panel/vms/new", {**page.form(), "name": "x", "user_id": "nobody", "osf_id": "desk"}))
    assert page.status == 422 and "There is none of that name" in page.main.text


@asynchronous
async def test_changing_sends_what_differs(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    path = f"/panel/osfs/{desks.osf}/edit"
    page = sound(await anna.get(path))
    form = page.form()
    assert form["memory"] == "1 GiB"
    page = sound(
        await anna.post(path, {**form, "memory": "1,5 GiB", "user_storage_size": "", "is_application": "true"})
    )
    assert page.url.startswith(f"/panel/osfs/{desks.osf}?done"), page.main.text
    assert "1.5 GiB" in page.main.one("dd", data_field="memory").text
    entry = api.trail()[-1]
    assert entry["arguments"]["body"] == {"memory": 1610612736, "is_application": True}
    page = await anna.get(path)
    form = page.form()
    del form["is_application"]
    await anna.post(path, form)
    assert api.trail()[-1]["arguments"]["body"] == {"is_application": False}


@asynchronous
async def test_two_who_change_the_same(anna: Browser, desks: Desks, served: object) -> None:
    path = f"/panel/users/{desks.user}/edit"
    mine = (await anna.get(path)).form()
    theirs = (await anna.get(path)).form()
    await anna.post(path, {**theirs, "description": "theirs", "language": "es"})
    page = sound(await anna.post(path, {**mine, "description": "mine"}))
    assert page.status == 412 and "Somebody has changed it" in page.main.text
    form = page.form()
    assert form["description"] == "mine" and form["language"] == "es"
    assert "By now it is: theirs" in page.main.text
    page = sound(await anna.post(path, form))
    assert page.main.one("dd", data_field="description").text == "mine"
    assert page.main.one("dd", data_field="language").text == "es"


@asynchronous
async def test_properties_are_inputs(anna: Browser, desks: Desks) -> None:
    page = await anna.get("/panel/properties/new")
    for key, type in (("room", "text"), ("seats", "integer"), ("quiet", "boolean")):
        form = {**page.form(), "key": key, "type": type, "kinds": ["user"]}
        made = sound(await anna.post("/panel/properties/new", form))
        assert made.url.startswith("/panel/properties/"), made.main.text
    path = f"/panel/users/{desks.user}/edit"
    page = sound(await anna.get(path))
    given = {"properties.room": "12", "properties.seats": "3", "properties.quiet": "true"}
    page = sound(await anna.post(path, {**page.form(), **given}))
    assert page.url.startswith(f"/panel/users/{desks.user}?done"), page.main.text
    shown = " ".join(each.text for each in page.main.all("section", class_="group"))
    assert "room12" in shown and "seats3" in shown and "quiettrue" in shown, shown
    page = sound(await anna.post(path, {**(await anna.get(path)).form(), "properties.room": ""}))
    assert "room" not in page.main.one("div", class_="groups").text


@asynchronous
async def test_references_are_searched(anna: Browser, desks: Desks) -> None:
    answer = await anna.get("/panel/users/options?q=ALI")
    assert json.loads(answer.body) == [f"alice (#{desks.user})"]
    assert json.loads((await anna.get("/panel/users/options?q=ruth")).body) == []


@asynchronous
async def test_forms_have_what_the_caller_may_change(
    anna: Browser, desks: Desks, held: HeldAcls, logins: ApiWorld
) -> None:
    held.of[logins.anna.administrator_id] = frozenset({"vm.see-main.", "vm.update.description", "vm.see.description"})
    page = sound(await anna.get(f"/panel/vms/{desks.vm}/edit"))
    shown = {each["name"] for each in page.main.all("textarea") + page.main.all("input") if each["type"] != "hidden"}
    assert shown == {"description"}


@pytest.mark.parametrize(
    "text, bytes", [("1 GiB", 1 << 30), ("512M", 512 << 20), ("1,5g", 3 << 29), ("1048576", 1 << 20), ("0 B", 0)]
)
def test_sizes(text: str, bytes: int) -> None:
    assert size(text) == bytes
    assert size(shown_size(bytes)) == bytes


@pytest.mark.parametrize("text", ["", "much", "-1", "1 XB", "1e3", "9" * 400])
def test_no_sizes(text: str) -> None:
    with pytest.raises(Invalid):
        size(text)
