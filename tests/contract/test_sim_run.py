"""A small farm for a day in simulated time, over a real PostgreSQL."""

from __future__ import annotations

import gc
from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from qvd.sim.database import SimulationDatabase
from qvd.sim.farm import Farm
from qvd.sim.record import Record
from qvd.sim.report import is_good
from qvd.sim.scenario import Pace, Scenario, parse
from qvd.sim.users import Visit
from tests.fakes.asynchronous import asynchronous
from tests.fakes.postgres import RealPostgres

DAY = """
title = "three nodes, one of which dies"
seed = 5
start = "08:55"
end = "09:00"
[[nodes]]
count = 3
memory_gib = 12
cores = 4
[[tenants]]
name = "acme"
vms = 20
running = 4
[failures]
boot = 0.1
[[logins]]
from = "08:55"
to = "08:56"
session = 330
[[faults]]
at = "08:57"
do = "kill"
nodes = 2
"""
TROUBLE = """
[[faults]]
at = "08:56"
do = "cut"
nodes = 1
for = 45
[[faults]]
at = "08:57:30"
do = "hang"
nodes = 3
for = 60
[[faults]]
at = "08:59"
do = "kill-daemon"
nodes = 1
for = 3
"""


async def run(day: Scenario, postgres: RealPostgres, folder: Path) -> tuple[Record, Farm]:
    # What other tests have left suspended ends now, and not as an internal error of the farm.
    gc.collect()
    dsn = postgres.create_database()
    database = SimulationDatabase(dsn, day.pace is Pace.VIRTUAL)
    farm = Farm(reactor, day, database, folder)
    try:
        return await Deferred.fromCoroutine(farm.run()), farm
    finally:
        database.close()
        postgres.drop_database(dsn)


def firsts(record: Record) -> dict[int, Visit]:
    """The first visit of each VM's user."""
    found: dict[int, Visit] = {}
    for visit in record.visits:
        found.setdefault(visit.person.vm_id, visit)
    return found


@asynchronous
async def test_a_node_dies_and_everybody_gets_a_desktop_again(postgres: RealPostgres, tmp_path: Path) -> None:
    day = parse(DAY, "day")
    record, farm = await run(day, postgres, tmp_path / "one")
    document = record.document()
    assert is_good(document), record.accounts
    assert document["users_without_desktop"] == 0
    assert document["logins"] == 20
    assert document["cut_off"] > 0, "somebody was on the node that died"
    assert document["desktops"] == 20 + document["cut_off"]
    assert document["leftovers"] == {"bound_to_dead_nodes": 0, "sessions_of_dead_nodes": 0}
    assert document["reaction_s"] is None
    assert max(sample.guests["n2"] for sample in record.samples[:24]) > 0
    assert record.samples[-1].guests["n2"] == 0
    assert sum(record.samples[-1].guests.values()) == 20
    assert farm.observer.violations == 0

    again, _ = await run(evolve(day, end=day.start + 90.0), postgres, tmp_path / "two")
    # The seed decides. What nodes do in the same moment may come in another order, which moves things by a tick.
    before, after = firsts(record), firsts(again)
    assert len(after) == 20
    for vm_id, visit in before.items():
        assert (after[vm_id].status, after[vm_id].node) == (visit.status, visit.node)
        assert abs(after[vm_id].asked_at - visit.asked_at) < 0.5


@asynchronous
async def test_cut_hang_and_killed_daemon(postgres: RealPostgres, tmp_path: Path) -> None:
    record, _ = await run(parse(DAY.replace("09:00", "09:02") + TROUBLE, "day"), postgres, tmp_path)
    document = record.document()
    assert document["violations"] == 0, record.accounts
    assert is_good(document)
    assert document["users_without_desktop"] == 0
    # The daemon that was started again has taken over what ran.
    assert record.samples[-1].guests["n1"] > 0


@asynchronous
async def test_real_time(postgres: RealPostgres, tmp_path: Path) -> None:
    text = DAY.replace('end = "09:00"', 'end = "08:55:04"\nclock = "real"\nsample = 1')
    text = text[: text.index("[failures]")]
    text += '[guests]\nboot = 0.2\nx_start = 0.1\n[[logins]]\nfrom = "08:55"\nto = "08:55:01"\nsession = 60\n'
    record, _ = await run(parse(text, "day"), postgres, tmp_path)
    document = record.document()
    assert is_good(document), record.accounts
    assert document["desktops"] == 20
    assert document["reaction_s"]["count"] == 16, "four ran already"
