"""
Places VMs in a farm of rows, and prints how long each took: C{python -m bench.placement_load DSN}, with an empty
database.

Nothing is vacuumed, so the index of what is reserved is read with the rows behind it, as in a farm at work: there each
row is written at each sign of life of its guest.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from qvd.db import migrate
from qvd.db.pool import Pool
from qvd.db.vms import VMs
from qvd.model.errors import Unavailable
from qvd.model.ids import VMId
from qvd.model.placement import Weights

NODES, VMS = 20, 10_000
PLACEMENTS = 200
MIB = 1024 * 1024
KINDS = ("plain", "prefer", "together", "refused")
SEED = f"""
    INSERT INTO tenants (name) VALUES ('acme');
    INSERT INTO users (tenant_id, login) SELECT 1, 'user ' || n FROM generate_series(1, {VMS}) n;
    INSERT INTO osfs (tenant_id, name, memory) SELECT 1, 'osf ' || n, {512 * MIB} FROM generate_series(1, 10) n;
    INSERT INTO hosts (name, address) SELECT 'node ' || n, '127.0.0.1' FROM generate_series(1, {NODES}) n;
    UPDATE host_runtimes SET state = 'running', lease_until = now() + interval '1 hour', usable_cpu = 64, idle_cpu = 32,
        usable_ram = {VMS} * {512 * MIB}::bigint, available_ram = {VMS} * {512 * MIB}::bigint;
    INSERT INTO vms (tenant_id, user_id, osf_id, name)
        SELECT 1, n, 1 + n %% 10, 'desktop' FROM generate_series(1, {VMS}) n;
    INSERT INTO vms (tenant_id, user_id, osf_id, name)
        SELECT 1, n, 1, k FROM generate_series(1, {PLACEMENTS}) n, unnest(%s::text[]) k;
    WITH document AS (
        SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('score', 2.5, 'inputs', to_jsonb(r))))
            AS placement FROM host_runtimes r)
        UPDATE vm_runtimes SET host_id = 1 + vm_id %% {NODES}, placement = document.placement FROM document
        WHERE vm_id <= {VMS};
    INSERT INTO vm_properties SELECT id, 1, 'qvd.placement.prefer', 'ssd=yes' FROM vms WHERE name = 'prefer';
    INSERT INTO host_properties SELECT id, 'ssd', 'yes' FROM hosts WHERE id %% 2 = 0;
    INSERT INTO osf_properties SELECT id, 1, 'service', name FROM osfs;
    INSERT INTO vm_properties SELECT id, 1, 'qvd.placement.together', 'service' FROM vms WHERE name = 'together';
    INSERT INTO vm_properties SELECT id, 1, 'qvd.placement.require', 'gpu=yes' FROM vms WHERE name = 'refused';
"""


def seed(dsn: str) -> dict[str, list[VMId]]:
    """The VMs to place, by kind. For those that are kept together, a thousand others share their OSF's property."""
    migrate.initialize(dsn, login_roles=True)
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(SEED, (list(KINDS),))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
            cursor.execute("SELECT id, name FROM vms WHERE name <> 'desktop' ORDER BY id")
            rows = cursor.fetchall()
    finally:
        connection.close()
    return {kind: [VMId(number) for number, name in rows if name == kind] for kind in KINDS}


async def measure(vms: VMs, vm_ids: Sequence[VMId]) -> list[float]:
    """Milliseconds, one after the other."""
    found = []
    for vm_id in vm_ids:
        started = time.monotonic()
        try:
            await vms.order_start(vm_id, "bench")
        except Unavailable:
            pass
        found.append((time.monotonic() - started) * 1000)
    return sorted(found)


async def run(reactor: Any, dsn: str, kinds: dict[str, list[VMId]]) -> None:
    pool = Pool(reactor, make_dsn(dsn, user="qvd_node"), 2, 10.0, Random(1))
    await pool.start()
    try:
        for kind, vm_ids in kinds.items():
            found = await measure(VMs(pool, Weights(), Random(1).random), vm_ids)
            figure = {
                "p50": statistics.median(found),
                "p95": found[int(len(found) * 0.95)],
                "least": found[0],
                "rule": kind,
                "nodes": NODES,
                "bound_vms": VMS,
            }
            print(json.dumps(figure), flush=True)
    finally:
        await pool.stop()


def main() -> None:
    dsn = sys.argv[1]
    kinds = seed(dsn)
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, dsn, kinds)))


if __name__ == "__main__":
    main()
