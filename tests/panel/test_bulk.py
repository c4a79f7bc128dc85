"""The same with many objects."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


@asynchronous
async def test_a_preview_then_the_deed(anna: Browser, desks: Desks) -> None:
    second = desks.new_vm(desks.api.acme, desks.user, desks.osf, "second")
    desks.be("running", second)
    page = await anna.get("/panel/vms")
    form = {**page.form("/panel/vms/bulk"), "op": "delete", "ids": [desks.vm, second]}
    page = sound(await anna.post("/panel/vms/bulk", form))
    assert "This is about 2 objects" in page.main.text
    assert "1 can be done" in page.main.text and "1 cannot be done" in page.main.text and "running" in page.main.text
    assert "alice-1" in page.main.text
    assert len(desks.api.ask("SELECT id FROM vms WHERE id IN (%s, %s)", desks.vm, second)) == 2
    sure = {**page.form(), "ids": [desks.vm, second], "sure": "do"}
    page = sound(await anna.post("/panel/vms/bulk", sure))
    assert "Done for some of them" in page.main.text
    assert [row["id"] for row in desks.api.ask("SELECT id FROM vms WHERE id IN (%s, %s)", desks.vm, second)] == [second]


@asynchronous
async def test_all_that_match(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    for number in range(60):
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"pupil{number}")
    page = await anna.get("/panel/users?name%5Bilike%5D=%25pupil%25&limit=10")
    form = {**page.form("/panel/users/bulk"), "op": "block", "all": "1"}
    page = sound(await anna.post("/panel/users/bulk", form))
    assert "This is about 60 objects" in page.main.text and "Name holds pupil" in page.main.text
    page = sound(await anna.post("/panel/users/bulk", {**page.form(), "sure": "do"}))
    assert page.url.startswith("/panel/jobs/"), page.main.text


@asynchronous
async def test_what_has_to_be_said_first(anna: Browser, desks: Desks) -> None:
    desks.be("running")
    desks.connect()
    page = await anna.get("/panel/vms")
    page = sound(
        await anna.post("/panel/vms/bulk", {**page.form("/panel/vms/bulk"), "op": "message", "ids": [desks.vm]})
    )
    assert page.main.all("textarea") and not [each for each in page.main.all("button") if each["value"] == "do"]
    page = sound(await anna.post("/panel/vms/bulk", {**page.form(), "text": "Good evening", "sure": "look"}))
    assert "1 can be done" in page.main.text
    page = sound(await anna.post("/panel/vms/bulk", {**page.form(), "sure": "do"}))
    assert "Done." in page.main.text


@asynchronous
async def test_nothing_is_selected(anna: Browser, desks: Desks) -> None:
    page = await anna.get("/panel/vms")
    page = sound(await anna.post("/panel/vms/bulk", {**page.form("/panel/vms/bulk"), "op": "start"}))
    assert "Nothing is selected" in page.main.text


@asynchronous
async def test_changing_many_changes_what_is_said(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    other = api.insert("users (tenant_id, login) VALUES (%s, 'other')", api.acme)
    page = await anna.get("/panel/users")
    form = {**page.form("/panel/users/bulk"), "op": "update", "ids": [desks.user, other]}
    page = sound(await anna.post("/panel/users/bulk", form))
    assert page.form()["blocked"] == "" and page.form()["language"] == ""
    form = {**page.form(), "ids": [desks.user, other], "description": "both", "sure": "do"}
    page = sound(await anna.post("/panel/users/bulk", form))
    assert "Done." in page.main.text
    found = api.ask("SELECT description, blocked FROM users WHERE id IN (%s, %s)", desks.user, other)
    assert [(row["description"], row["blocked"]) for row in found] == [("both", False), ("both", False)]


@asynchronous
async def test_what_needs_nothing_more_is_tried_at_once(anna: Browser, desks: Desks) -> None:
    desks.be("running")
    page = await anna.get("/panel/vms")
    page = sound(await anna.post("/panel/vms/bulk", {**page.form("/panel/vms/bulk"), "op": "stop", "ids": [desks.vm]}))
    assert "1 can be done" in page.main.text and desks.row()["desired_state"] == "running"
    page = sound(await anna.post("/panel/vms/bulk", {**page.form(), "sure": "do"}))
    assert "Done." in page.main.text and desks.row()["desired_state"] == "stopped"
