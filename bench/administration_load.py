"""Child of L{bench.administration}: fills a database, calls the API's lists, prints a line of JSON for each kind."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from qvd.db import migrate
from qvd.model.declared import Principal
from tests.admin.world import ApiWorld

TENANTS, USERS, VMS, ROUNDS = 200, 50_000, 100_000, 40
FILL = f"""
    INSERT INTO tenants (name) SELECT 'tenant' || n FROM generate_series(1, {TENANTS}) n;
    INSERT INTO users (tenant_id, login, blocked)
        SELECT t.id, 'user' || n, n % 20 = 0 FROM generate_series(1, {USERS}) n
        JOIN tenants t ON t.name = 'tenant' || (n % {TENANTS} + 1);
    INSERT INTO osfs (tenant_id, name, memory)
        SELECT id, 'desk' || n, 1 << 30 FROM tenants, generate_series(1, 3) n WHERE name LIKE 'tenant%';
    INSERT INTO dis (tenant_id, osf_id, path, version) SELECT tenant_id, id, 'image' || id, '1' FROM osfs;
    INSERT INTO vms (tenant_id, user_id, osf_id, name)
        SELECT u.tenant_id, u.id, o.id, 'vm' || n
        FROM users u JOIN osfs o ON o.tenant_id = u.tenant_id AND o.name = 'desk1',
        generate_series(1, {VMS // USERS}) n;
    INSERT INTO properties (tenant_id, key, kinds) VALUES (0, 'site', ARRAY['vm']);
    INSERT INTO vm_properties (vm_id, tenant_id, key, value)
        SELECT id, tenant_id, 'site', 'site' || id % 10 FROM vms WHERE id % 2 = 0;
    INSERT INTO hosts (name, address) SELECT 'node' || n, '10.0.0.' || n FROM generate_series(1, 50) n;
    UPDATE vm_runtimes SET vm_state = 'running', host_id = vm_id % 50 + 1, host_epoch = 1, vm_address = '10.1.0.1',
        vm_vma_port = 3030, vm_x_port = 4100, desired_state = 'running' WHERE vm_id % 3 = 0;
"""
LISTS = {
    "first page": "/vms?limit=50",
    "filter and sort": "/vms?state=running&sort=-name&limit=50",
    "name by prefix": "/vms?name[prefix]=vm1&sort=name&limit=50",
    "by user's name": "/vms?user_name=user4711&limit=50",
    "by property": "/vms?property.site=site4&sort=name&limit=50",
    "1,000th page": "/vms?limit=50&page=1000",
    "1,000th page, sorted": "/vms?sort=-name&limit=50&page=1000",
    "no count": "/vms?state=running&sort=-name&limit=50&count=false",
    "users, 1,000th page": "/users?sort=name&limit=50&page=1000",
}


async def measure(api: ApiWorld, principal: Principal, path: str) -> list[float]:
    """Milliseconds of each call, in order of size."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        reply = await api.call(principal, "GET", path)
        taken.append((time.perf_counter() - began) * 1000)
        assert reply.status == 200, reply.body
    return sorted(taken)


async def run(dsn: str) -> None:
    migrate.initialize(dsn, login_roles=True)
    api = ApiWorld(dsn)
    await api.pool.start()
    api.ask(FILL.replace("%", "%%"))
    api.ask("ANALYZE")
    tenant = api.ask("SELECT id FROM tenants WHERE name = 'tenant7'")[0]["id"]
    one = api.administrator("one", tenant, "tenant7")
    callers = {"over all tenants": api.boss, "of one tenant": one}
    for name, path in LISTS.items():
        for who, principal in callers.items():
            if "1,000th" in name and principal is one:
                continue
            taken = await measure(api, principal, path)
            figure: dict[str, Any] = {"list": name, "caller": who, "p50": round(statistics.median(taken), 1)}
            print(json.dumps(figure | {"p95": round(taken[int(ROUNDS * 0.95)], 1)}), flush=True)
    await api.close()


def main(reactor: Any, dsn: str) -> Deferred[None]:
    return Deferred.fromCoroutine(run(dsn))


if __name__ == "__main__":
    react(main, sys.argv[1:])
