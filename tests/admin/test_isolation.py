"""
Two tenants: whatever the one has and does, the other one's answers stay the same, to the last byte. So nothing of it
shows: neither names, ids, counts, entity tags nor the sentences of errors.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.admin.isolation import CANARY, OWN_CANARY, THEIRS, CallOf, reads, writes
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

NAMES = st.sampled_from([CANARY, OWN_CANARY, f"{CANARY}2", "other", "Ünï"])
SOMETHING = st.fixed_dictionaries(
    {"name": NAMES, "description": NAMES, "flag": st.booleans(), "many": st.integers(1, 3)}
)


class Rival:
    """Makes objects of the other tenant, past the API, with ids of its own."""

    def __init__(self, api: ApiWorld) -> None:
        self.api = api
        self.next = THEIRS

    def add(self, name: str, description: str, flag: bool, many: int) -> None:
        """A user with VMs, an OSF with an image, an administrator."""
        api, tenant = self.api, self.api.rival
        for _ in range(many):
            number, self.next = self.next, self.next + 1
            unique = f"{name}{number}" if number > THEIRS else name
            api.ask(
                "INSERT INTO users (id, tenant_id, login, description, blocked) VALUES (%s, %s, %s, %s, %s)",
                number,
                tenant,
                unique,
                description,
                flag,
            )
            api.ask(
                "INSERT INTO osfs (id, tenant_id, name, memory, description) VALUES (%s, %s, %s, 1000, %s)",
                number,
                tenant,
                unique,
                description,
            )
            api.ask(
                "INSERT INTO dis (id, tenant_id, osf_id, path, version, description) VALUES (%s, %s, %s, %s, %s, %s)",
                number,
                tenant,
                number,
                unique,
                unique,
                description,
            )
            api.ask(
                "INSERT INTO vms (id, tenant_id, user_id, osf_id, name, description) VALUES (%s, %s, %s, %s, %s, %s)",
                number,
                tenant,
                number,
                number,
                unique,
                description,
            )
            api.ask(
                "INSERT INTO administrators (id, tenant_id, name, password, description) VALUES (%s, %s, %s, '', %s)",
                number,
                tenant,
                unique,
                description,
            )


def make_ours(api: ApiWorld) -> None:
    """One of each, so that lists are not empty."""
    user = api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, OWN_CANARY)
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, %s, 1000)", api.acme, OWN_CANARY)
    api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, %s, '1')", api.acme, osf, OWN_CANARY)
    for number in range(3):
        name = f"{OWN_CANARY}{number}"
        api.insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", api.acme, user, osf, name)


async def replies(api: ApiWorld, calls: list[CallOf]) -> dict[str, tuple[int, str, str]]:
    return {str(call): await call.reply(api, api.anna) for call in calls}


@pytest.mark.acceptance(3)
@asynchronous
async def test_what_the_rival_has_shows_in_no_read(api: ApiWorld) -> None:
    make_ours(api)
    calls = reads(api, api.anna)
    assert len(calls) > 50
    before = await replies(api, calls)
    assert not [call for call, (status, _, _) in before.items() if status == 500]
    rival = Rival(api)
    told: list[str] = []

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(SOMETHING)
    def examine(thing: dict[str, object]) -> None:
        rival.add(**thing)  # type: ignore[arg-type]

    examine()
    after = await replies(api, calls)
    for call, known in before.items():
        if after[call] != known:
            told.append(f"{call}\n  {known}\n  {after[call]}")
    assert not told, "\n".join(told)


@pytest.mark.acceptance(3)
@asynchronous
async def test_what_the_rival_has_is_absent_for_every_change(api: ApiWorld) -> None:
    make_ours(api)
    calls = writes(api)
    assert len(calls) > 5
    before = await replies(api, calls)
    assert not [call for call, (status, _, _) in before.items() if status == 500]
    rival = Rival(api)
    rival.add(CANARY, CANARY, False, 2)
    rows = whole(api)
    after = await replies(api, calls)
    assert {call: (known, after[call]) for call, known in before.items() if after[call] != known} == {}
    assert whole(api) == rows, "nothing of theirs has changed"


def whole(api: ApiWorld) -> list[str]:
    """All rows of theirs."""
    found = []
    for table in ("users", "osfs", "dis", "vms", "administrators"):
        found += [str(row) for row in api.ask(f"SELECT * FROM {table} WHERE id >= {THEIRS} ORDER BY id")]
    return [*found, *map(str, api.ask(f"SELECT * FROM vm_runtimes WHERE vm_id >= {THEIRS} ORDER BY vm_id"))]


@pytest.mark.acceptance(3)
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%(acme)s, %(user)s, %(osf)s, 'x')",
        "UPDATE vms SET user_id = %(user)s WHERE tenant_id = %(acme)s",
        "UPDATE vms SET osf_id = %(osf)s WHERE tenant_id = %(acme)s",
        "INSERT INTO dis (tenant_id, osf_id, path, version) VALUES (%(acme)s, %(osf)s, 'x', 'x')",
    ],
)
@asynchronous
async def test_the_database_refuses_a_row_across_tenants(api: ApiWorld, sql: str) -> None:
    import psycopg2.errors

    make_ours(api)
    Rival(api).add(CANARY, CANARY, False, 1)
    names = {"acme": api.acme, "user": THEIRS, "osf": THEIRS}
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        await api.pool.execute(sql, names)
