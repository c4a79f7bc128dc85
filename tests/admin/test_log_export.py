"""The audit trail, to take away: point 22 of the acceptance checklist."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from qvd.admin.problems import Problem
from qvd.admin.resources import logexport
from qvd.admin.resources.logexport import LARGE, LEAST_ROWS, MOST_ROWS, cell, fitting
from qvd.model.acls import CATALOGUE
from qvd.model.declared import Principal
from tests.admin.canary import CANARY
from tests.admin.listening import FakeRequest
from tests.admin.server import Server
from tests.admin.test_log import some_history
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

pytestmark = pytest.mark.acceptance(22)
MANY = """
    SELECT audit_append(jsonb_build_object('action', 'user.create', 'outcome', 'done', 'kind', 'user',
        'object_name', 'user' || n, 'object_tenant_id', %s::integer, 'administrator_tenant_id', %s::integer,
        'administrator_name', 'anna', 'after', jsonb_build_object('name', repeat('x', 200))))
    FROM generate_series(1, %s) n
"""


async def export(api: ApiWorld, who: Principal, query: str = "", kind: str = "ndjson") -> FakeRequest:
    """What a client gets, from the first byte to the last."""
    endpoint, path = api.find("POST", f"/log/export.{kind}")
    api.gate.principal = who
    answer = await api.dispatcher.dispatch(api.make_call(endpoint, path, f"/log/export.{kind}{query}", {}), b"")
    assert answer.stream is not None, answer.body
    request = FakeRequest()
    assert await answer.stream(request) == b""
    return request


async def lines(api: ApiWorld, who: Principal, query: str = "") -> list[dict[str, Any]]:
    request = await export(api, who, query)
    assert not request.aborted
    return [json.loads(line) for line in request.written.decode().splitlines()]


@asynchronous
async def test_all_that_the_list_shows(api: ApiWorld) -> None:
    """Row by row what the list and the single rows have, and nothing of another tenant."""
    await some_history(api)
    for who in (api.anna, api.rick, api.boss, api.with_only(api.anna, "log.see-main.", "log.export.")):
        items = (await api.call(who, "GET", "/log?sort=id&limit=500")).body["items"]
        found = await lines(api, who)
        assert [each["id"] for each in found] == [each["id"] for each in items]
        for row, item in zip(found, items, strict=True):
            assert {name: row[name] for name in item} == item
            if who is not api.boss and "after" in row:
                single = (await api.call(who, "GET", f"/log/{row['id']}")).body
                assert row == single
    assert "rick" not in str(await lines(api, api.anna)) and "boss" not in str(await lines(api, api.anna))
    anna = [each["object_name"] for each in await lines(api, api.anna, "?action=user.create&fields=object_name")]
    assert anna == ["alice"]


@asynchronous
async def test_filters_are_those_of_the_list(api: ApiWorld) -> None:
    await some_history(api)
    for query in ("action=user.create", "outcome=denied", "administrator_name=boss", "at[gt]=2999-01-01T00:00:00Z"):
        listed = (await api.call(api.anna, "GET", f"/log?sort=id&{query}")).body["items"]
        assert [each["id"] for each in await lines(api, api.anna, f"?{query}")] == [each["id"] for each in listed]
    for query, problem in (
        ("tenant_id=1", "unknown-filter"),
        ("nothing=1", "unknown-filter"),
        ("limit=1", "unknown-filter"),
        ("sort=id", "unknown-filter"),
        ("count=true", "unknown-filter"),
        ("fields=nothing", "unknown-field"),
        ("fields=tenant_name", "unknown-field"),
        ("at[gt]=x", "invalid-filter"),
    ):
        assert (await api.call(api.anna, "POST", f"/log/export.ndjson?{query}")).problem == problem, query
    without = api.with_only(api.anna, "log.see-main.", "log.export.")
    assert (await api.call(without, "POST", "/log/export.csv?fields=after")).problem == "forbidden-field"
    assert (await api.call(without, "POST", "/log/export.csv?administrator_name=anna")).problem == "forbidden-filter"


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
@asynchronous
async def test_who_may(api: ApiWorld, kind: str) -> None:
    path = f"/log/export.{kind}"
    for needed in ("log.export.", "log.see-main."):
        others = api.with_only(api.anna, *(CATALOGUE.keys() - {needed}))
        assert (await api.call(others, "POST", path)).problem == "forbidden"
    assert (await api.call(None, "POST", path)).problem == "credentials-required"
    await export(api, api.with_only(api.anna, "log.export.", "log.see-main."), kind=kind)
    outcomes = [(each["action"].partition("-")[0], each["outcome"]) for each in api.trail()]
    assert outcomes == [("log.export", "denied")] * 3 + [("log.export", "done")]


@asynchronous
async def test_an_export_is_in_the_trail_with_what_was_asked_for(api: ApiWorld) -> None:
    await some_history(api)
    await export(api, api.anna, "?outcome=done")
    last = api.trail()[-1]
    assert (last["action"], last["administrator_name"], last["arguments"]) == (
        "log.export",
        "anna",
        {"outcome": ["done"]},
    )
    assert last["object_tenant_id"] == api.acme


@asynchronous
async def test_as_a_table(api: ApiWorld) -> None:
    await api.call(api.anna, "POST", "/users", {"name": "alice", "description": '=cmd|"x", \n1'})
    request = await export(api, api.anna, "?fields=at,object_name,object_id,administrator_name,after", "csv")
    head, row = list(csv.reader(io.StringIO(request.written.decode(), newline="")))
    assert head == ["id", "at", "object_name", "object_id", "administrator_name", "after"]
    assert (row[0], row[2], row[4]) == ("1", "alice", "anna")
    assert json.loads(row[5])["description"] == '=cmd|"x", \n1'
    empty = await export(api, api.anna, "?outcome=failed&fields=at", "csv")
    assert empty.written == b"id,at\r\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (-7, "-7"),
        ("plain", "plain"),
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-x", "'-x"),
        ("+x", "'+x"),
        ("\tx", "'\tx"),
        ({"a": 1}, '{"a":1}'),
    ],
)
def test_cells_run_nothing(value: Any, text: str) -> None:
    assert cell(value) == text


@asynchronous
async def test_no_secrets(api: ApiWorld) -> None:
    await api.call(api.anna, "POST", "/users", {"name": "alice", "password": CANARY})
    await api.call(api.anna, "POST", "/administrators", {"name": "ada", "password": CANARY})
    for kind in ("ndjson", "csv"):
        assert CANARY.encode() not in (await export(api, api.boss, kind=kind)).written


@asynchronous
async def test_many_rows_in_bounded_memory(api: ApiWorld) -> None:
    """Complete, in order, and never more than a page of it in memory."""
    api.ask(MANY, api.acme, api.acme, 10_000)
    api.ask(MANY, api.rival, api.rival, 100)
    endpoint, path = api.find("POST", "/log/export.ndjson")
    api.gate.principal = api.anna
    answer = await api.dispatcher.dispatch(api.make_call(endpoint, path, "/log/export.ndjson", {}), b"")
    assert answer.stream is not None
    ids: list[int] = []
    size = 0

    class Counting(FakeRequest):
        def write(self, data: bytes) -> None:
            nonlocal size
            size += len(data)
            ids.extend(json.loads(line)["id"] for line in data.splitlines())

    tracemalloc.start()
    try:
        await answer.stream(Counting())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ids == list(range(1, 10_001))
    assert size > 4 * 1024**2 and peak < size / 2, (size, peak)


def test_large_rows_come_in_smaller_pages() -> None:
    limit = MOST_ROWS
    for _ in range(10):
        limit = fitting(limit, LARGE + 1)
    assert limit == LEAST_ROWS
    assert fitting(limit, LARGE // 2) == limit
    for _ in range(10):
        limit = fitting(limit, 1000)
    assert limit == MOST_ROWS


@asynchronous
async def test_whoever_may_no_more_gets_no_more(api: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logexport, "RECHECKED", 0.0)
    api.ask(MANY, api.acme, api.acme, 3 * MOST_ROWS)
    whole = (await export(api, api.anna)).written.count(b"\n")
    assert whole == 3 * MOST_ROWS
    narrow = api.with_only(api.anna, "log.export.", "log.see-main.", "log.see-details.")
    changes: list[Any] = [
        None,
        Problem("session-expired", "over"),
        api.with_only(api.anna, "log.export.", "log.see-main."),
        evolve(narrow, tenant_id=api.rival),
        evolve(narrow, must_change_password=True),
    ]
    for now in changes:
        endpoint, path = api.find("POST", "/log/export.ndjson")
        api.gate.principal = narrow
        answer = await api.dispatcher.dispatch(api.make_call(endpoint, path, "/log/export.ndjson", {}), b"")
        assert answer.stream is not None

        class Gate:
            async def identify(self, call: Any, found: Any = now) -> Any:
                if isinstance(found, Problem):
                    raise found
                return found

            def check_origin(self, call: Any) -> None:
                """All calls are from here."""

            def check_site(self, call: Any) -> None:
                """All calls are from here."""

        api.services.gate = Gate()
        request = FakeRequest()
        await answer.stream(request)
        api.services.gate = api.gate
        assert request.aborted and request.written.count(b"\n") == MOST_ROWS


@asynchronous
async def test_over_the_wire(api: ApiWorld, tmp_path: Path) -> None:
    api.ask(MANY, api.acme, api.acme, 2000)
    server = Server(api.dsn, tmp_path, {"known": api.anna})
    await server.start()
    try:
        headers = {"Authorization": "Bearer known"}
        answer = await server.ask("POST", "/api/v1/log/export.ndjson?object_name[prefix]=user", b"", headers)
        table = await server.ask("POST", "/api/v1/log/export.csv?fields=object_name", b"", headers)
        assert (await server.ask("GET", "/api/v1/log/export.csv", headers=headers)).status in (404, 405)
    finally:
        await server.stop()
    assert (answer.status, answer.body.count(b"\n")) == (200, 2000)
    assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    assert table.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert table.body.splitlines()[-2:] == [b"2000,user2000", b"2001,export"]
