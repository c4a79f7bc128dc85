"""Administrators as their jobs see them, while they are not there."""

from __future__ import annotations

from qvd.admin.login.principals import Absent
from qvd.model.declared import Principal
from tests.admin.logins import FakeAuthority
from tests.admin.policy import FixedPolicy
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

HELD, ASKED = frozenset({"vm.see-main.", "vm.update.state"}), frozenset({"vm.update.state", "vm.delete."})


def absent(api: ApiWorld, multitenant: bool = True) -> Absent:
    return Absent(api.pool, FakeAuthority(HELD), FixedPolicy(has_tenants=multitenant))


async def anna_now(api: ApiWorld) -> Principal | None:
    return await absent(api).now(api.anna.administrator_id, ASKED)


@asynchronous
async def test_who_it_is_now(api: ApiWorld) -> None:
    found = await anna_now(api)
    assert found is not None
    assert (found.name, found.tenant_id, found.tenant_name, found.superadmin) == ("anna", api.acme, "acme", False)
    assert found.acls == HELD & ASKED, "what they may do by now, and no more than they might then"
    assert found.by_token and found.scope.tenant_id == api.acme
    api.ask("UPDATE administrators SET name = 'ann' WHERE name = 'anna'")
    renamed = await anna_now(api)
    assert renamed is not None and renamed.name == "ann"


@asynchronous
async def test_who_is_blocked_or_gone_is_nobody(api: ApiWorld) -> None:
    assert await absent(api).now(None, ASKED) is None
    assert await absent(api).now(2_000_000_000, ASKED) is None
    api.ask("UPDATE administrators SET blocked = true WHERE name = 'anna'")
    assert await anna_now(api) is None
    api.ask("UPDATE administrators SET blocked = false WHERE name = 'anna'")
    assert await anna_now(api) is not None
    api.ask("UPDATE tenants SET blocked = true WHERE id = %s", api.acme)
    assert await anna_now(api) is None
    api.ask("DELETE FROM administrators WHERE name = 'rick'")
    assert await absent(api).now(api.rick.administrator_id, ASKED) is None


@asynchronous
async def test_over_all_tenants_where_there_are_several(api: ApiWorld) -> None:
    found = await absent(api).now(api.boss.administrator_id, ASKED)
    assert found is not None and found.superadmin and found.scope.tenant_id is None
    assert await absent(api, multitenant=False).now(api.boss.administrator_id, ASKED) is None
    alone = await absent(api, multitenant=False).now(api.anna.administrator_id, ASKED)
    assert alone is not None and not alone.multitenant and not alone.superadmin
