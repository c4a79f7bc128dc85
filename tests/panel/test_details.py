"""The page of one object, and what can be done from it."""

from __future__ import annotations

import pytest

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, Page, sound
from tests.panel.held import HeldAcls


def acts(page: Page) -> set[str]:
    """What is offered."""
    offered = page.main.one("div", class_="acts")
    paths = [link["href"] for link in offered.all("a")] + [form["action"] for form in offered.all("form")]
    return {path.rpartition("/")[2] for path in paths}


@asynchronous
async def test_every_kind(boss: Browser, desks: Desks, api: ApiWorld) -> None:
    await boss.post(f"/panel/vms/{desks.vm}/do/block", (await boss.get(f"/panel/vms/{desks.vm}")).form())
    api.insert("roles (tenant_id, name) VALUES (%s, 'helpers')", api.acme)
    for path in ("users", "vms", "hosts", "osfs", "images", "administrators", "tenants", "roles", "log"):
        listed = await boss.get(f"/panel/{path}")
        first = listed.main.one("tbody").all("tr")[0]["data-id"]
        page = sound(await boss.get(f"/panel/{path}/{first}"))
        assert page.status == 200, (path, page.main.text)
        assert page.main.all("dl"), path


@asynchronous
async def test_a_vm_and_why_it_is_so(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    api.ask("UPDATE host_runtimes SET state = 'stopped'")
    page = sound(await anna.get(f"/panel/vms/{desks.vm}"))
    assert {"start", "edit", "delete", "block"} <= acts(page)
    assert "stop" not in acts(page) and "unblock" not in acts(page)
    assert page.main.one("dd", data_field="user_name").one("a")["href"] == f"/panel/users/{desks.user}"
    assert page.main.one("dd", data_field="state").text == "Stopped"
    page = sound(await anna.post(f"/panel/vms/{desks.vm}/do/start", page.form(f"/panel/vms/{desks.vm}/do/start")))
    assert page.status == 503 and "No node can take the VM" in page.main.text
    page = sound(await anna.get(f"/panel/vms/{desks.vm}"))
    why = page.main.one("section", aria_labelledby="why")
    assert "node1" in why.text
    assert "vm.start" in page.main.one("section", aria_labelledby="audit").text


@asynchronous
async def test_starting_and_stopping_somebody(anna: Browser, desks: Desks) -> None:
    path = f"/panel/vms/{desks.vm}"
    page = await anna.get(path)
    page = sound(await anna.post(f"{path}/do/start", page.form(f"{path}/do/start")))
    assert page.url.startswith(path) and page.main.one("dd", data_field="desired_state").text == "Running"
    desks.be("running")
    desks.connect()
    page = await anna.get(path)
    [stop] = [link["href"] for link in page.main.one("div", class_="acts").all("a") if link.text.startswith("Stop…")]
    page = sound(await anna.get(stop))
    assert "The user is connected" in page.main.text
    await anna.post(stop, page.form())
    assert desks.row()["desired_state"] == "stopped"
    page = sound(await anna.get(f"{path}/do/force-stop"))
    page = await anna.post(f"{path}/do/force-stop", page.form())
    assert page.url.startswith(path) and "Done." in page.root.text


@asynchronous
async def test_a_message_is_typed_and_faults_stand_at_their_place(anna: Browser, desks: Desks) -> None:
    desks.be("running")
    desks.connect()
    path = f"/panel/vms/{desks.vm}/do/message"
    page = sound(await anna.get(path))
    page = sound(await anna.post(path, {**page.form(), "text": "a\u2028b"}))
    assert page.status == 422
    wrong = page.main.one("textarea")
    assert wrong["aria-invalid"] == "true" and page.main.one("span", class_="fault").text
    page = await anna.post(path, {**page.form(), "text": "Save your work,\r\nplease"})
    assert page.url.startswith(f"/panel/vms/{desks.vm}?done"), page.main.text


@asynchronous
async def test_deleting_shows_the_consequences(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get(f"/panel/users/{desks.user}/do/delete"))
    assert "What belongs to it: 1 · VMs" in page.main.text
    page = sound(await anna.post(f"/panel/users/{desks.user}/do/delete", page.form()))
    assert page.status == 409 and page.main.one("input", name="cascade")["value"] == "vms"
    page = sound(await anna.get(f"/panel/vms/{desks.vm}/do/delete"))
    assert "It cannot be brought back" in page.main.text
    page = sound(await anna.post(f"/panel/vms/{desks.vm}/do/delete", page.form()))
    assert page.url == "/panel/vms?done=delete"
    page = await anna.get(f"/panel/users/{desks.user}/do/delete")
    page = await anna.post(f"/panel/users/{desks.user}/do/delete", page.form())
    assert page.url == "/panel/users?done=delete"


@asynchronous
async def test_what_belongs_to_it_is_deleted_with_it(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    path = f"/panel/users/{desks.user}/do/delete"
    page = await anna.post(path, {**(await anna.get(path)).form(), "cascade": "vms"})
    assert page.url == "/panel/users?done=delete"
    assert not api.ask("SELECT FROM vms WHERE id = %s", desks.vm)


@asynchronous
async def test_what_needs_the_version_has_it(anna: Browser, desks: Desks, api: ApiWorld) -> None:
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'empty', 1073741824)", api.acme)
    page = sound(await anna.get(f"/panel/osfs/{osf}/do/delete"))
    page = sound(await anna.post(f"/panel/osfs/{osf}/do/delete", page.form()))
    assert page.url == "/panel/osfs?done=delete", page.main.text


@asynchronous
async def test_a_user_is_blocked_and_has_related_vms(anna: Browser, desks: Desks) -> None:
    path = f"/panel/users/{desks.user}"
    page = sound(await anna.get(path))
    assert "block" in acts(page) and "unblock" not in acts(page)
    table = page.main.one("section", aria_labelledby="related-vms")
    assert table.all("a", href=f"/panel/vms/{desks.vm}") and table.all("a", href=f"/panel/vms/new?user_id={desks.user}")
    await anna.post(f"{path}/do/block", page.form(f"{path}/do/block"))
    assert "unblock" in acts(await anna.get(path))


@pytest.mark.parametrize("path", ["vms/999999", "vms/x", "vms/1/do/nothing", "vms/99999999999/edit", "vms/-1"])
@asynchronous
async def test_what_is_not_there(anna: Browser, path: str) -> None:
    page = sound(await anna.get(f"/panel/{path}"))
    assert page.status == 404, page.main.text


@asynchronous
async def test_others_objects_are_not_there(anna: Browser, desks: Desks) -> None:
    for path in (f"vms/{desks.their_vm}", f"users/{desks.their_user}/edit", f"osfs/{desks.their_osf}/do/delete"):
        page = sound(await anna.get(f"/panel/{path}"))
        assert page.status == 404 and "ruth" not in page.html


@asynchronous
async def test_whoever_may_less_is_offered_less(anna: Browser, desks: Desks, held: HeldAcls, logins: ApiWorld) -> None:
    held.of[logins.anna.administrator_id] = frozenset({"vm.see-main.", "vm.see.state"})
    page = sound(await anna.get(f"/panel/vms/{desks.vm}"))
    assert acts(page) == set()
    assert not page.main.all("section", aria_labelledby="why")
    assert not page.main.all("dd", data_field="user_name")


@asynchronous
async def test_dangerous_things_ask_for_the_password(anna: Browser, desks: Desks, logins: ApiWorld) -> None:
    logins.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '2 days'")
    other = logins.administrator("otto", logins.acme, "acme").administrator_id
    path = f"/panel/administrators/{other}/do/password"
    page = sound(await anna.get(path))
    page = sound(await anna.post(path, {**page.form(), "password": "correct horse battery"}))
    if page.status == 403:
        assert "Your password again" in page.main.text
        page = sound(await anna.post(path, {**page.form(), "_password": "wrong"}))
        assert page.status in (401, 403)
        page = sound(await anna.post(path, {**page.form(), "_password": "anna's password"}))
    assert page.url.startswith(f"/panel/administrators/{other}?done"), page.main.text
