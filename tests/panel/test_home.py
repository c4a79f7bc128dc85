"""The first page: what is wrong, and figures, each for whoever may see it."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound
from tests.panel.held import HeldAcls


@asynchronous
async def test_a_farm_without_troubles(boss: Browser, desks: Desks) -> None:
    page = sound(await boss.get("/panel/"))
    assert "Nothing is wrong" in page.main.text
    numbers = page.main.one("ul", class_="numbers").text
    assert "2 VMs" in numbers and "1 Nodes" in numbers
    assert page.main.one("svg", aria_label="States of VMs")


@asynchronous
async def test_troubles_come_first_with_links(boss: Browser, desks: Desks, api: ApiWorld) -> None:
    api.ask("UPDATE vm_runtimes SET failures = 1, last_error = 'no <b>room</b>' WHERE vm_id = %s", desks.vm)
    api.ask("UPDATE host_runtimes SET state = 'lost'")
    api.ask("UPDATE dis SET state = 'fail', message = 'The file is cut off' WHERE id = %s", desks.di)
    page = sound(await boss.get("/panel/"))
    troubles = page.main.one("ul", class_="troubles")
    assert "1 node is lost" in troubles.text
    assert "1 VM could not start" in troubles.text and "no <b>room</b>" in troubles.text
    assert "The file is cut off" in troubles.text
    links = {link["href"] for link in troubles.all("a")}
    assert {f"/panel/vms/{desks.vm}", "/panel/hosts?state=lost", f"/panel/images/{desks.di}"} <= links
    everything = page.main.text
    assert everything.index("needs somebody now") < everything.index("Numbers")


@asynchronous
async def test_each_sees_what_they_may(anna: Browser, held: HeldAcls, api: ApiWorld, desks: Desks) -> None:
    api.ask("UPDATE vm_runtimes SET failures = 1 WHERE vm_id = ANY(%s)", [desks.vm, desks.their_vm])
    page = sound(await anna.get("/panel/"))
    assert "1 VM could not start" in page.main.text and "ruth-1" not in page.main.text
    held.of[api.anna.administrator_id] = frozenset({"user.see-main.", "user.stats.summary"})
    page = sound(await anna.get("/panel/"))
    assert "VM" not in page.main.text and "1 Users" in page.main.text
    held.of[api.anna.administrator_id] = frozenset()
    assert "Nothing is wrong, as far as you may see" in sound(await anna.get("/panel/")).main.text
