"""What somebody writes into a field is text on every page, whatever it looks like."""

from __future__ import annotations

from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extras import Json

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}</textarea>"
TABLES = (
    "users vms vm_runtimes hosts host_runtimes osfs dis di_tags administrators roles tenants properties jobs audit"
).split()
KINDS = ("users", "vms", "hosts", "osfs", "images", "administrators", "roles", "tenants", "properties", "jobs", "log")


def write_everywhere(api: ApiWorld) -> int:
    """Into each column of text that takes it; how many did."""
    taken = 0
    columns = api.ask(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name = ANY(%s) AND data_type IN ('text', 'character varying') AND is_generated = 'NEVER'"
        " AND column_name NOT IN ('password', 'state', 'vm_state', 'desired_state')",
        TABLES,
    )
    for column in columns:
        table, name = column["table_name"], column["column_name"]
        for row in api.ask(f"SELECT ctid::text AS place FROM {table}"):
            # What a constraint refuses is no way in.
            try:
                api.ask(f'UPDATE {table} SET "{name}" = %s WHERE ctid = %s::tid', EVIL + row["place"], row["place"])
            except psycopg2.Error:
                continue
            taken += 1
    return taken


@pytest.fixture
def evil(desks: Desks, logins: ApiWorld) -> Desks:
    """Everything is called something nasty; the administrators who look are not."""
    api = desks.api
    desks.be("running")
    desks.connect()
    api.insert("roles (tenant_id, name) VALUES (%s, 'helpers')", api.acme)
    api.insert("properties (tenant_id, key, kinds) VALUES (%s, 'room', '{user}')", api.acme)
    columns = "tenant_id, kind, administrator_name, acls, request_id, client_address, arguments"
    api.insert(f"jobs ({columns}) VALUES (%s, 'bulk', 'anna', '{{}}', 'x', '', %s)", api.acme, Json({EVIL: EVIL}))
    assert write_everywhere(api) > 20
    for name in ("anna", "boss"):
        principal = getattr(api, name)
        api.ask("UPDATE administrators SET name = %s WHERE id = %s", name, principal.administrator_id)
    api.ask("UPDATE tenants SET name = '*' WHERE id = 0")
    return desks


@asynchronous
async def test_everything_is_text(evil: Desks, browser: Browser) -> None:
    assert (await browser.log_in("boss", "*")).url == "/panel/"
    seen = 0
    for kind in KINDS:
        page = sound(await browser.get(f"/panel/{kind}"))
        able = [each["value"] for each in page.main.all("input", type="checkbox", name="columns")]
        page = sound(await browser.get(f"/panel/{kind}?columns={','.join(able)}"))
        assert page.status == 200, (kind, page.main.text)
        seen += page.html.count("&lt;img src=x")
        paths = []
        for row in page.main.all("tr"):
            if row["data-id"]:
                paths += [f"{row['data-id']}{more}" for more in ("", "/edit", "/do/delete")]
        for path in paths[:12]:
            shown = sound(await browser.get(f"/panel/{kind}/{path}"))
            assert shown.status in (200, 404), (kind, path, shown.main.text)
            images = [each["src"] for each in shown.root.all("img")]
            assert all(source.startswith("/panel/static/") for source in images), (kind, path, images)
            assert all(each["src"].startswith("/panel/static/") for each in shown.root.all("script"))
            seen += shown.html.count("&lt;img src=x")
    assert seen > 50
    sound(await browser.get("/panel/search?q=img"))


LISTS = ["state={}", "name[ilike]={}", "sort={}", "columns={}", "cursor={}", "limit={}", "{}=1", "f={}&o=eq&v=1"]
PATHS = ["search?q={}", "vms/{}", "login?next={}", "users/new?name={}", "{}", "vms?f=name&o={}&v=1"]


@pytest.mark.parametrize("path", [*(f"vms?{query}" for query in LISTS), *PATHS])
@asynchronous
async def test_addresses_are_text(anna: Browser, path: str) -> None:
    page = sound(await anna.get("/panel/" + path.format(quote(EVIL))))
    assert page.status < 500, page.main.text
    images = [each["src"] for each in page.root.all("img")]
    assert all(source.startswith("/panel/static/") for source in images)
    assert "49" not in page.main.text


@asynchronous
async def test_forms_are_text(anna: Browser, desks: Desks) -> None:
    page = await anna.get("/panel/users/new")
    page = sound(await anna.post("/panel/users/new", {**page.form(), "name": EVIL, "description": EVIL}))
    assert page.status == 422
    assert page.form()["description"] == EVIL and page.form()["name"] == EVIL
    page = sound(await anna.get("/panel/vms"))
    form = {**page.form("/panel/vms/bulk"), "op": "message", "ids": [desks.vm], "text": EVIL, f"where:{EVIL}": EVIL}
    assert sound(await anna.post("/panel/vms/bulk", form)).status < 500


@asynchronous
async def test_the_log_in_form_is_text(browser: Browser) -> None:
    page = sound(await browser.log_in(EVIL, EVIL, "wrong"))
    assert page.form("/panel/login")["name"] == EVIL
