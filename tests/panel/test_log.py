"""The audit trail on pages."""

from __future__ import annotations

import json

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


def rename(logins: ApiWorld, number: int) -> None:
    """A row about a user."""
    entry = {"action": "user.update", "outcome": "done", "kind": "user", "object_id": number, "object_name": "alice"}
    who = {"administrator_name": "anna", "administrator_tenant_id": logins.acme, "object_tenant_id": logins.acme}
    change = {"before": {"description": "<old>", "same": 1}, "after": {"description": "<new>", "same": 1}}
    whole = {**entry, **who, **change, "arguments": {"body": {"x": "<s>"}}, "request_id": "r", "client_address": "::1"}
    logins.ask("SELECT audit_append(%s::jsonb)", json.dumps({**whole, "status": 200}))


@asynchronous
async def test_what_became_of_an_object_is_read_field_by_field(anna: Browser, logins: ApiWorld, desks: Desks) -> None:
    rename(logins, desks.user)
    page = sound(await anna.get("/panel/log?action=user.update"))
    (link,) = [each for each in page.main.all("a") if each["href"].startswith("/panel/log/")]
    assert f"/panel/users/{desks.user}" in page.html
    page = sound(await anna.get(link["href"]))
    table = page.main.one("table", class_="difference")
    assert table.one("del").text == "<old>" and table.one("ins").text == "<new>"
    assert [row["class"] for row in table.one("tbody").all("tr")] == ["is-changed", "is-same"]
    assert '"x": "<s>"' in page.main.text


@asynchronous
async def test_the_log_is_narrowed_by_what_there_is(anna: Browser, logins: ApiWorld, desks: Desks) -> None:
    rename(logins, desks.user)
    page = sound(await anna.get("/panel/log"))
    actions = [each["value"] for each in page.main.one("select", id="action").all("option")]
    assert {"", "user.update", "auth.login"} <= set(actions)
    page = sound(await anna.get("/panel/log?action=user.delete"))
    assert "There are none" in page.main.text
    assert page.main.one("select", id="action").all("option", value="user.delete", selected="")
    assert (await anna.get("/panel/log?at[ge]=never")).status == 400
