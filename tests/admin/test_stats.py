"""What the dashboard counts."""

from __future__ import annotations

import pytest

from qvd.model.configuration import EXPIRING_DAYS
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


def farm(api: ApiWorld, tenant: int, host: int, vms: int) -> list[int]:
    """So many VMs of a tenant's one user: the first is running with a client, the second is blocked."""
    user = api.insert("users (tenant_id, login, blocked) VALUES (%s, 'alice', false)", tenant)
    api.insert("users (tenant_id, login, blocked) VALUES (%s, 'bob', true)", tenant)
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', 1000)", tenant)
    image = api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'desk', '1')", tenant, osf)
    made = [
        api.insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", tenant, user, osf, f"vm{number}")
        for number in range(vms)
    ]
    api.ask("UPDATE vm_runtimes SET blocked = true WHERE vm_id = %s", made[1])
    api.ask(
        "UPDATE vm_runtimes SET host_id = %s, host_epoch = 1, vm_state = 'running', desired_state = 'running',"
        " vm_address = '127.0.0.1', vm_vma_port = 1, vm_x_port = 2, current_di_id = %s WHERE vm_id = %s",
        host,
        image,
        made[0],
    )
    api.ask(
        "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state)"
        " VALUES (gen_random_uuid(), %s, %s, %s, %s, 1, '127.0.0.1', 'connected')",
        tenant,
        made[0],
        user,
        host,
    )
    return made


def expires(api: ApiWorld, vm: int, kind: str, days: float) -> None:
    api.ask(f"UPDATE vm_runtimes SET vm_expiration_{kind} = now() + %s * interval '1 day' WHERE vm_id = %s", days, vm)


@pytest.mark.acceptance(3)
@asynchronous
async def test_each_counts_what_is_theirs(api: ApiWorld) -> None:
    host = api.insert("hosts (name, address) VALUES ('node1', '127.0.0.1')")
    farm(api, api.acme, host, 3)
    farm(api, api.rival, host, 5)
    api.insert("osfs (tenant_id, name, memory) VALUES (-1, 'shared', 1000)")
    mine = (await api.call(api.anna, "GET", "/stats")).body
    assert mine["users"] == {"total": 2, "blocked": 1, "connected": 1}
    assert mine["vms"] == {"total": 3, "blocked": 1, "by_state": {"running": 1, "stopped": 2}, "expiring": 0}
    assert mine["osfs"] == {"total": 2}
    assert mine["images"]["total"] == 1
    assert mine["hosts"] == {"total": 1, "blocked": 0, "by_state": {"stopped": 1}}
    everything = (await api.call(api.boss, "GET", "/stats")).body
    assert (everything["vms"]["total"], everything["users"]["connected"], everything["osfs"]["total"]) == (8, 2, 3)
    top = (await api.call(api.anna, "GET", "/stats/top-hosts")).body["items"]
    assert top == [{"id": host, "name": "node1", "number_of_vms": 1, "running_vms": 1}]
    assert (await api.call(api.boss, "GET", "/stats/top-hosts")).body["items"][0]["number_of_vms"] == 2


@asynchronous
async def test_each_number_has_its_permission(api: ApiWorld) -> None:
    some = api.with_only(api.anna, "user.stats.blocked", "vm.stats.summary", "osf.stats.summary")
    assert (await api.call(some, "GET", "/stats")).body == {
        "users": {"total": 0, "blocked": 0},
        "vms": {"total": 0},
        "osfs": {"total": 0},
    }
    for path in ("/stats/expirations", "/stats/top-hosts"):
        assert (await api.call(some, "GET", path)).problem == "forbidden"
    assert (await api.call(api.with_only(api.anna, "vm.see-main."), "GET", "/stats")).problem == "forbidden"


@asynchronous
async def test_what_expires_soon(api: ApiWorld) -> None:
    host = api.insert("hosts (name, address) VALUES ('node1', '127.0.0.1')")
    first, second, third, _ = farm(api, api.acme, host, 4)
    [foreign, _] = farm(api, api.rival, host, 2)
    expires(api, first, "hard", 9)
    expires(api, second, "soft", 2)
    expires(api, second, "hard", 90)
    expires(api, third, "hard", 40)
    expires(api, foreign, "hard", 1)
    soon = (await api.call(api.anna, "GET", "/stats/expirations")).body
    assert [each["id"] for each in soon["items"]] == [second, first] and soon["days"] == 30
    assert [each["id"] for each in (await api.call(api.anna, "GET", "/stats/expirations?days=50")).body["items"]] == [
        second,
        first,
        third,
    ]
    stats = (await api.call(api.anna, "GET", "/stats")).body
    assert (stats["vms"]["expiring"], stats["expiring_days"]) == (2, 30)
    await api.call(api.anna, "PUT", f"/config/{EXPIRING_DAYS}", {"value": 5})
    assert (await api.call(api.anna, "GET", "/stats")).body["vms"]["expiring"] == 1
    assert (await api.call(api.boss, "GET", "/stats")).body["vms"]["expiring"] == 3
    assert len((await api.call(api.anna, "GET", "/stats/expirations?limit=1&days=99")).body["items"]) == 1
    for wrong in ("days=0", "days=9999", "limit=501", "limit=x"):
        assert (await api.call(api.anna, "GET", f"/stats/expirations?{wrong}")).status == 400
