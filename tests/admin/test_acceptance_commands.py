"""
Acceptance point 25, as far as the API goes: what the original's command line was shown to do can be done, with the same
effect. The command line that takes the original's words is no part of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from qvd.model.configuration import EXPIRING_DAYS
from tests.admin.commandlines import EXAMPLES, Example
from tests.admin.desks import Desks
from tests.admin.imageworld import ImageWorld, images, write
from tests.fakes.asynchronous import asynchronous

__all__ = ["images"]


def filled(value: Any, known: dict[str, Any]) -> Any:
    """With what is known in the place of names in braces."""
    match value:
        case str():
            if value.startswith("{") and value[1:-1] in known:
                return known[value[1:-1]]
            for name, each in known.items():
                value = value.replace(f"{{{name}}}", str(each))
            return value
        case dict():
            return {name: filled(each, known) for name, each in value.items()}
        case list():
            return [filled(each, known) for each in value]
        case _:
            return value


def number_of(body: Any) -> int:
    """Of what was made, or of the one that was found."""
    if "items" in body:
        [body] = body["items"]
    return int(body["image"]["id"] if "image" in body else body["id"])


async def follow(images: ImageWorld, example: Example, known: dict[str, Any]) -> None:
    """Do what the command does, and look at what it leads to."""
    api = images.api
    reply = None
    for step in example.steps:
        path = quote(filled(step.path, known), safe="/?=&,[]*%-:")
        reply = await api.call(api.boss, step.method, path, filled(step.body, known))
        assert reply.status < 300, (example.command, reply.body)
        assert not (isinstance(reply.body, dict) and reply.body.get("failed")), (example.command, reply.body)
        if step.keep:
            known[step.keep] = number_of(reply.body)
    if "image" in known:
        await images.settled(known["image"])
    if example.shows:
        path = quote(filled(example.shows, known), safe="/?=&,[]*%-:")
        reply = await api.call(api.boss, "GET", path)
    assert reply is not None and reply.status == 200, (example.command, reply)
    entries = reply.body["items"] if isinstance(reply.body, dict) else reply.body
    assert tuple(each[example.member] for each in entries) == example.expected, example.command


@pytest.mark.acceptance(25)
@asynchronous
async def test_what_the_command_line_was_shown_to_do(images: ImageWorld, tmp_path: Path) -> None:
    api, desks = images.api, Desks(images.api)
    api.ask("UPDATE osfs SET hypervisor = NULL WHERE id = %s", desks.osf)
    for name in ("adm1", "adm2", "bob"):
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, name)
    more = [desks.new_vm(api.acme, desks.user, desks.osf, name) for name in ("two", "three", "four")]
    for vm_id in (desks.vm, *more):
        desks.be("running", vm_id)
    desks.connect(more[2])
    api.ask("UPDATE vm_runtimes SET blocked = true WHERE vm_id = %s", more[0])
    ada = api.administrator("ada", api.acme, "acme")
    assert ada.tenant_id == api.acme
    write(tmp_path / "staging" / "new.qcow2")
    known: dict[str, Any] = {
        "acme": api.acme,
        "osf": desks.osf,
        "one": desks.vm,
        "two": more[0],
        "three": more[1],
        "host": desks.host,
        "days": EXPIRING_DAYS,
    }
    for example in EXAMPLES:
        await follow(images, example, known)
