"""Nobody gains a permission that they lack: defects A37 and A38, acceptance 4."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from attrs import evolve, frozen

from qvd.db.roles import Authority
from qvd.model.acls import CATALOGUE, operative
from qvd.model.declared import COMMON, Principal
from qvd.model.shipped_roles import ALL, BY_NAME, GRAPH, ROOT, TENANT_OWNER
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

POWERS = (
    "administrator.update.assign-role",
    "role.update.assign-acl",
    "role.update.assign-role",
    "role.create.",
    "administrator.create.",
    "administrator.update.password",
)
ORDINARY = ("vm.see-main.", "vm.spy.", "user.update.password", "user.see-main.")
ANY = {"If-Match": "*"}


async def granted(api: ApiWorld, who: Principal, names: Iterable[str], name: str) -> Principal:
    """The same administrator, holding a role that gives exactly these, as somebody who has logged in."""
    role = api.insert("roles (tenant_id, name) VALUES (%s, %s)", who.tenant_id, name)
    for each in names:
        api.ask("INSERT INTO role_acls VALUES (%s, %s, true)", role, each)
    api.ask(
        "INSERT INTO administrator_roles VALUES (%s, %s, %s, %s)",
        *(who.administrator_id, who.tenant_id, role, who.tenant_id),
    )
    return await logged_in(api, who)


async def logged_in(api: ApiWorld, who: Principal) -> Principal:
    return evolve(who, acls=await Authority(api.pool).acls(who.administrator_id))


async def hold(api: ApiWorld, who: Principal, role_id: int) -> Principal:
    api.ask("INSERT INTO administrator_roles VALUES (%s, %s, %s, -1)", who.administrator_id, who.tenant_id, role_id)
    return await logged_in(api, who)


def refused(reply: Reply) -> bool:
    return (reply.status, reply.problem) == (403, "grants-more")


@pytest.mark.acceptance(4)
@pytest.mark.parametrize("power", POWERS)
@asynchronous
async def test_with_one_power_only(api: ApiWorld, power: str) -> None:
    weak = await granted(api, api.anna, [power], "weak")
    strong = await hold(api, api.administrator("sara", api.acme, "acme"), ROOT)
    empty = api.insert("roles (tenant_id, name) VALUES (%s, 'empty')", api.acme)
    own, other = f"/administrators/{weak.administrator_id}", f"/administrators/{strong.administrator_id}"
    body: Any
    for method, path, body in (
        ("PUT", f"{own}/roles/{ROOT}", None),
        ("PUT", f"{own}/roles", {"roles": [ROOT]}),
        ("PUT", f"{other}/roles/{empty}", None),
        ("DELETE", f"{other}/roles/{ROOT}", None),
        ("PUT", f"{other}/password", {"password": "long enough"}),
        ("PUT", f"/roles/{empty}/acls/vm.spy.", None),
        ("PATCH", f"/roles/{empty}/acls", {"grant": ["*"]}),
        ("PUT", f"/roles/{empty}/parents/{ROOT}", None),
        ("POST", f"/roles/{ROOT}/clone", {"name": "mine"}),
        ("POST", "/roles", {"name": "mine", "acls": {"positive": ["*"]}}),
        ("POST", "/roles", {"name": "mine", "roles": [ROOT]}),
        ("POST", "/administrators", {"name": "mine", "password": "long enough", "roles": [ROOT]}),
    ):
        reply = await api.call(weak, method, path, body, ANY)
        assert reply.status == 403, (power, method, path, reply.body)
    assert (await logged_in(api, weak)).acls == {power}
    assert not api.ask("SELECT FROM administrators WHERE name = 'mine'")
    assert not api.ask("SELECT FROM roles WHERE name = 'mine'")


@asynchronous
async def test_what_is_held_is_given(api: ApiWorld) -> None:
    weak = await granted(api, api.anna, ["role.update.assign-acl", "vm.spy."], "weak")
    empty = api.insert("roles (tenant_id, name) VALUES (%s, 'empty')", api.acme)
    assert (await api.call(weak, "PUT", f"/roles/{empty}/acls/vm.spy.")).status == 200
    reply = await api.call(weak, "PUT", f"/roles/{empty}/acls/vm.spy.interactive")
    assert refused(reply) and reply.body["acl"] == "vm.spy.interactive"


@asynchronous
async def test_an_exclusion_is_a_grant_when_it_is_taken_away(api: ApiWorld) -> None:
    weak = await granted(api, api.anna, ["role.update.assign-acl", *GRAPH[60].positives - {"vm.create."}], "weak")
    made = await api.call(
        api.anna, "POST", "/roles", {"name": "R", "roles": [60], "acls": {"negative": ["vm.create."]}}
    )
    path = f"/roles/{made.body['id']}"
    assert refused(await api.call(weak, "PUT", f"{path}/acls/vm.create."))
    # And so it is when another role that is inherited makes it superfluous.
    assert refused(
        await api.call(evolve(weak, acls=weak.acls | {"role.update.assign-role"}), "PUT", f"{path}/parents/35")
    )


@asynchronous
async def test_a_stronger_role_is_not_edited(api: ApiWorld) -> None:
    weak = await granted(api, api.anna, CATALOGUE.keys() - {"vm.spy."}, "weak")
    made = await api.call(api.anna, "POST", "/roles", {"name": "R", "acls": {"positive": ["vm.spy."]}})
    path = f"/roles/{made.body['id']}"
    assert refused(await api.call(weak, "PATCH", path, {"name": "x"}, ANY))
    assert refused(await api.call(weak, "DELETE", path, headers=ANY))
    assert refused(await api.call(weak, "DELETE", f"{path}/acls/vm.spy."))
    strong = await hold(api, api.administrator("sara", api.acme, "acme"), ROOT)
    other = f"/administrators/{strong.administrator_id}"
    assert refused(await api.call(weak, "PATCH", other, {"blocked": True}, ANY))
    assert refused(await api.call(weak, "DELETE", other, headers=ANY))


@asynchronous
async def test_a_token_that_may_less_does_not_take_over_its_own_account(api: ApiWorld) -> None:
    anna = await hold(api, api.anna, ROOT)
    token = evolve(anna, acls=frozenset({"administrator.update.password"}), by_token=True)
    path = f"/administrators/{anna.administrator_id}/password"
    assert refused(await api.call(token, "PUT", path, {"password": "long enough"}))
    assert (await api.call(anna, "PUT", path, {"password": "long enough"})).status == 204


@asynchronous
async def test_owners_of_tenants(api: ApiWorld) -> None:
    """What reaches beyond a tenant is not theirs to give, since it might take effect one day."""
    owner = await hold(api, api.anna, TENANT_OWNER)
    ada = (await api.call(owner, "POST", "/administrators", {"name": "ada", "password": "long enough"})).body["id"]
    found = {}
    for role in ALL:
        reply = await api.call(owner, "PUT", f"/administrators/{ada}/roles/{role.role_id}")
        assert reply.status == 200 or refused(reply)
        assert "tenant." not in str(reply.body)
        found[role.name] = reply.status == 200
    assert found["Helpdesk"] and found["Operator L2"] and found["Tenant owner"] and found["Master"] is False
    assert not found["Root"] and not found["Operator L3"] and not found["Auditor"]
    root = await hold(api, api.rick, ROOT)
    eva = (await api.call(root, "POST", "/administrators", {"name": "e", "password": "long enough"})).body["id"]
    assert (await api.call(root, "PUT", f"/administrators/{eva}/roles/{ROOT}")).status == 200


@frozen
class Attack:
    """Administrators who try all that they can think of, in an order that a seed makes."""

    api: ApiWorld
    chance: Random
    crew: list[Principal]
    roles: list[int]
    administrators: list[int]

    def names(self) -> list[str]:
        return self.chance.sample((*POWERS, *ORDINARY, "*", "vm.*", "*.spy.*"), 2)

    def step(self) -> tuple[str, str, Any]:
        chance = self.chance
        role = chance.choice([*self.roles, ROOT, TENANT_OWNER, BY_NAME["Roles Operator"].role_id])
        other, name = chance.choice(self.roles), f"n{chance.getrandbits(40)}"
        who = f"/administrators/{chance.choice(self.administrators)}"
        made = {"name": name, "password": "long enough"}
        return chance.choice(
            (
                ("PUT", f"{who}/roles/{role}", None),
                ("PUT", f"{who}/roles", {"roles": [role, other]}),
                ("DELETE", f"{who}/roles/{role}", None),
                ("PUT", f"/roles/{other}/parents/{role}", None),
                ("DELETE", f"/roles/{other}/parents/{role}", None),
                ("PATCH", f"/roles/{other}/acls", {"grant": self.names(), "revoke": self.names()[:1]}),
                ("PUT", f"/roles/{other}/acls/{chance.choice((*POWERS, *ORDINARY))}", None),
                ("DELETE", f"/roles/{other}/acls/{chance.choice((*POWERS, *ORDINARY))}", None),
                ("POST", "/roles", {"name": name, "roles": [role], "acls": {"positive": self.names()}}),
                ("POST", "/roles", {"name": name}),
                ("POST", f"/roles/{role}/clone", {"name": name}),
                ("POST", "/administrators", {**made, "roles": [role]}),
                ("POST", "/administrators", made),
            )
        )

    async def act(self) -> bool:
        who = await logged_in(self.api, self.chance.choice(self.crew))
        method, path, body = self.step()
        reply = await self.api.call(who, method, path, body, ANY)
        assert reply.status < 500, (method, path, reply.body)
        if reply.status == 201:
            (self.administrators if path == "/administrators" else self.roles).append(reply.body["id"])
        return reply.status < 300


@pytest.mark.acceptance(4)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 3])
@asynchronous
async def test_a_gang_never_gains_what_none_of_it_held(api: ApiWorld, seed: int, size: int) -> None:
    """Whatever they do together, and whomever they make: all of them hold, in the end, what some of them held."""
    chance = Random(f"{seed} {size}")
    people = [api.anna, api.administrator("ben", api.acme, "acme"), api.administrator("cleo", api.acme, "acme")]
    start: dict[int, frozenset[str]] = {}
    for number, who in enumerate(people):
        names = {*chance.sample(POWERS, 4), *chance.sample(ORDINARY, 2)}
        start[who.administrator_id] = (await granted(api, who, names, f"start{number}")).acls
    crew, bystanders = people[:size], [each.administrator_id for each in people[size:]]
    roles = [row["id"] for row in api.ask("SELECT id FROM roles WHERE tenant_id = %s", api.acme)]
    strong = (await hold(api, api.administrator("sara", api.acme, "acme"), ROOT)).administrator_id
    attack = Attack(api, chance, crew, roles, [*start, strong])
    done = sum([await attack.act() for _ in range(120)])
    assert done > 5, "the attack must be able to do something"
    together = frozenset().union(*(start[each.administrator_id] for each in crew))
    authority = Authority(api.pool)
    for administrator_id in {*attack.administrators} - {strong}:
        allowed = together | (start[administrator_id] if administrator_id in bystanders else frozenset())
        gained = await authority.acls(administrator_id) - allowed
        assert not gained, (administrator_id, sorted(gained))
    assert await authority.acls(strong) == operative(CATALOGUE, superadmin=False)
    common = api.ask("SELECT count(*) FROM roles WHERE tenant_id = %s", COMMON)
    assert common == [{"count": len(ALL)}]
