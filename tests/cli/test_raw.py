"""C{qvd api}."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.cli.terminal import Terminal
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_any_call(anna: Terminal, desks: Desks) -> None:
    found = await anna.start("api", "get", "/vms", "--query", "fields=name", "--query", "state=stopped,running")
    assert [each["name"] for each in found.json["items"]] == ["alice-1"]
    path = f"/api/v1/vms/{desks.vm}"
    changed = await anna.start("api", "PATCH", path, "--data", '{"description": "x"}', "--header", "If-Match: *")
    assert (changed.status, changed.json["description"]) == (0, "x")
    made = await anna.start("api", "POST", "/users", "--body", "-", "-i", stdin='{"name": "carl"}')
    assert made.out.startswith("HTTP 201\n") and "\nlocation: /api/v1/users/" in made.out
    assert (await anna.start("api", "GET", "/nothing")).status == 5
    assert (await anna.start("api", "DELETE", path)).status == 0
    for wrong in (("--query", "x"), ("--data", "{"), ("--data", "{}", "--body", "-")):
        assert (await anna.start("api", "POST", "/users", *wrong)).status == 2
    assert (await anna.start("api", "GET", "vms")).status == 1
