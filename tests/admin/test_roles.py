"""Roles over the API."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.model.acls import CATALOGUE
from qvd.model.declared import COMMON, Principal
from qvd.model.shipped_roles import BY_NAME, GRAPH, ROOT
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

VM_OPERATOR, VM_READER = BY_NAME["VMs Operator"].role_id, BY_NAME["VMs Reader"].role_id
ANY = {"If-Match": "*"}


async def make(api: ApiWorld, who: Principal, name: str, **more: Any) -> int:
    made = await api.call(who, "POST", "/roles", {"name": name, **more})
    assert made.status == 201, made.body
    return int(made.body["id"])


async def gives(api: ApiWorld, who: Principal, role_id: int) -> set[str]:
    read = await api.call(who, "GET", f"/roles/{role_id}/acls?view=effective")
    return {each["name"] for each in read.body["items"]}


@asynchronous
async def test_make_read_change_delete(api: ApiWorld) -> None:
    body = {
        "name": "Watchers",
        "acls": {"positive": ["vm.spy.*"], "negative": ["vm.see.mac", "user.delete."]},
        "roles": [VM_READER],
    }
    made = await api.call(api.anna, "POST", "/roles", body)
    assert made.status == 201, made.body
    # An exclusion of what is not inherited is none.
    assert made.body["acls"] == {"positive": ["vm.spy.", "vm.spy.interactive"], "negative": ["vm.see.mac"]}
    assert made.body["roles"] == [{"id": VM_READER, "name": "VMs Reader"}]
    assert made.body["created_by"] == "anna" and made.body["fixed"] is False and "tenant_id" not in made.body
    path = f"/roles/{made.body['id']}"
    assert (await api.call(api.anna, "PATCH", path, {"description": "x"})).problem == "precondition-required"
    changed = await api.call(api.anna, "PATCH", path, {"name": "Spies"}, {"If-Match": made.headers["ETag"]})
    assert (changed.status, changed.body["name"]) == (200, "Spies")
    stale = await api.call(api.anna, "PATCH", path, {"name": "Spies"}, {"If-Match": made.headers["ETag"]})
    assert stale.problem == "precondition-failed"
    assert (await api.call(api.anna, "POST", "/roles", {"name": "SPIES"})).problem == "already-exists"
    assert (await api.call(api.anna, "DELETE", path, headers=ANY)).status == 204
    assert [entry["action"] for entry in api.trail()][-1] == "role.delete"
    assert api.trail()[0]["after"]["acls"]["negative"] == ["vm.see.mac"]


@pytest.mark.acceptance(3)
@asynchronous
async def test_who_sees_which(api: ApiWorld) -> None:
    mine, theirs = await make(api, api.anna, "Mine"), await make(api, api.rick, "Theirs")
    listed = await api.call(api.anna, "GET", "/roles?limit=500")
    assert {each["id"] for each in listed.body["items"]} == {*GRAPH, mine}
    absent = await api.call(api.anna, "GET", "/roles/999999")
    body: Any
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        found = await api.call(api.anna, method, f"/roles/{theirs}", body, ANY)
        assert found.body | {"instance": ""} == absent.body | {"instance": ""}
    for method, below, body in (
        ("PUT", f"parents/{VM_READER}", None),
        ("PUT", "acls/vm.spy.", None),
        ("PATCH", "acls", {"grant": ["vm.spy."]}),
        ("GET", "acls", None),
        ("GET", "administrators", None),
        ("POST", "clone", {"name": "y"}),
    ):
        assert (await api.call(api.anna, method, f"/roles/{theirs}/{below}", body)).problem == "not-found"
    assert (await api.call(api.anna, "PUT", f"/roles/{mine}/parents/{theirs}")).problem == "not-found"
    made = await api.call(api.anna, "POST", "/roles", {"name": "x", "roles": [theirs]})
    assert made.problem == "reference-not-found"
    assert (await api.call(api.anna, "POST", "/roles/preview", {"parents": [theirs]})).problem == "reference-not-found"
    templates = await api.call(api.anna, "GET", "/roles?templates=false&limit=100")
    assert {each["name"] for each in templates.body["items"]} == {
        "Mine",
        *(role.name for role in BY_NAME.values() if role.assignable),
    }
    assert (await api.call(api.anna, "GET", "/roles?templates=maybe")).problem == "malformed-request"


@asynchronous
async def test_shipped_roles_stay_as_they_are(api: ApiWorld) -> None:
    for who in (api.anna, api.boss):
        for method, below, body in (
            ("PATCH", "", {"name": "x"}),
            ("DELETE", "", None),
            ("PUT", f"/parents/{VM_READER}", None),
            ("DELETE", "/acls/vm.spy.", None),
            ("PATCH", "/acls", {"revoke": ["vm.spy."]}),
        ):
            refused = await api.call(who, method, f"/roles/{VM_OPERATOR}{below}", body, ANY)
            assert (refused.status, refused.problem) == (409, "fixed-role")
    rows = api.ask("SELECT acl FROM role_acls WHERE role_id = %s", VM_OPERATOR)
    assert {row["acl"] for row in rows} == GRAPH[VM_OPERATOR].positives


@asynchronous
async def test_common_roles_are_for_superadministrators(api: ApiWorld) -> None:
    common = await make(api, api.boss, "Common", tenant_id=COMMON)
    assert (await api.call(api.anna, "GET", f"/roles/{common}")).status == 200
    assert (await api.call(api.anna, "PATCH", f"/roles/{common}", {"name": "x"}, ANY)).problem == "forbidden"
    assert (await api.call(api.anna, "PUT", f"/roles/{common}/acls/vm.spy.")).problem == "forbidden"
    assert (await api.call(api.boss, "PUT", f"/roles/{common}/acls/vm.spy.")).status == 200
    mine = await make(api, api.anna, "Mine")
    assert (await api.call(api.boss, "PUT", f"/roles/{common}/parents/{mine}")).problem == "not-found"
    assert (await api.call(api.anna, "POST", "/roles", {"name": "x", "tenant_id": COMMON})).problem == (
        "unknown-attribute"
    )


@asynchronous
async def test_giving_and_taking(api: ApiWorld) -> None:
    role = await make(api, api.anna, "R", roles=[VM_OPERATOR])
    path = f"/roles/{role}"
    put = await api.call(api.anna, "PUT", f"{path}/acls/user.delete.")
    assert put.body["acls"] == {"positive": ["user.delete."], "negative": []}
    assert (await api.call(api.anna, "PUT", f"{path}/acls/vm.spy.")).body["acls"] == put.body["acls"]
    taken = await api.call(api.anna, "DELETE", f"{path}/acls/vm.spy.")
    assert taken.body["acls"] == {"positive": ["user.delete."], "negative": ["vm.spy."]}
    # Defect E2: one of its own that is inherited as well.
    api.ask("UPDATE role_acls SET positive = true WHERE role_id = %s AND acl = 'vm.spy.'", role)
    assert (await api.call(api.anna, "DELETE", f"{path}/acls/vm.spy.")).body["acls"] == taken.body["acls"]
    assert await gives(api, api.anna, role) == GRAPH[VM_OPERATOR].positives - {"vm.spy."} | {"user.delete."}
    # Defect E1: nothing is left of an exclusion when there is nothing to exclude.
    gone = await api.call(api.anna, "DELETE", f"{path}/parents/{VM_OPERATOR}")
    assert gone.body["acls"] == {"positive": ["user.delete."], "negative": []}
    assert (await api.call(api.anna, "DELETE", f"{path}/parents/{VM_OPERATOR}")).problem == "not-found"
    many = await api.call(api.anna, "PATCH", f"{path}/acls", {"grant": ["vm.s*"], "revoke": ["*.see.*", "vm.spy."]})
    assert "vm.stats.summary" in many.body["acls"]["positive"] and not many.body["acls"]["negative"]
    assert not {"vm.see.id", "vm.spy."} & await gives(api, api.anna, role)
    wrong = await api.call(api.anna, "PATCH", f"{path}/acls", {"grant": ["vm.spy.", "vm.fly.*"]})
    assert (wrong.problem, wrong.body["errors"][0]["pointer"]) == ("invalid-value", "/grant/1")
    assert (await api.call(api.anna, "PUT", f"{path}/acls/vm.fly.")).problem == "not-found"


@asynchronous
async def test_circles(api: ApiWorld) -> None:
    first = await make(api, api.anna, "A")
    second = await make(api, api.anna, "B", roles=[first])
    assert (await api.call(api.anna, "PUT", f"/roles/{first}/parents/{second}")).problem == "role-cycle"
    assert (await api.call(api.anna, "PUT", f"/roles/{first}/parents/{first}")).problem == "role-cycle"
    assert (await api.call(api.anna, "PUT", f"/roles/{second}/parents/{first}")).problem == "already-assigned"
    refused = await api.call(api.anna, "DELETE", f"/roles/{first}", headers=ANY)
    assert (refused.problem, refused.body["dependents"]) == ("has-dependents", [{"kind": "role", "count": 1}])


@asynchronous
async def test_clones(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", f"/roles/{BY_NAME['Operator L1'].role_id}/clone", {"name": "Ours"})
    assert made.status == 201, made.body
    assert (made.body["fixed"], made.body["acls"]["negative"]) == (False, ["vm.update.name"])
    assert [each["name"] for each in made.body["roles"]] == ["QVD Reader"]
    assert (await api.call(api.anna, "PUT", f"/roles/{made.body['id']}/acls/vm.spy.")).status == 200
    source = f"/roles/{made.body['id']}/clone"
    assert (await api.call(api.boss, "POST", source, {"name": "x"})).problem == "missing-attribute"
    other = await api.call(api.boss, "POST", source, {"name": "x", "tenant_id": api.rival})
    assert other.problem == "tenant-mismatch"
    assert (await api.call(api.anna, "POST", source, {"name": "x", "tenant_id": 0})).problem == "unknown-attribute"
    maker = api.with_only(api.anna, *(CATALOGUE.keys() - {"role.update.assign-acl"}))
    assert (await api.call(maker, "POST", source, {"name": "x"})).problem == "forbidden"


@asynchronous
async def test_tenants_do_not_exist_for_a_tenant(api: ApiWorld) -> None:
    said = [
        await api.call(api.anna, "GET", "/acls"),
        await api.call(api.anna, "GET", f"/roles/{ROOT}"),
        await api.call(api.anna, "GET", f"/roles/{ROOT}/acls?view=own"),
        await api.call(api.anna, "GET", f"/roles/{ROOT}/acls?view=effective&group_by=section"),
        await api.call(api.anna, "GET", "/role-matrix"),
        await api.call(api.anna, "POST", "/roles/preview", {"grant": ["*"]}),
        await api.call(api.anna, "GET", "/roles?limit=500&fields=acls"),
    ]
    assert {each.status for each in said} == {200}
    assert not any("tenant." in str(each.body) or "'Tenants'" in str(each.body) for each in said)
    role = await make(api, api.anna, "R")
    assert (await api.call(api.anna, "PUT", f"/roles/{role}/acls/tenant.create.")).problem == "not-found"
    assert "tenant.create." in await gives(api, api.boss, ROOT)


@asynchronous
async def test_views(api: ApiWorld) -> None:
    path = f"/roles/{BY_NAME['Operator L1'].role_id}/acls"
    own = await api.call(api.anna, "GET", path)
    assert own.body["items"] == [{"name": "osf.see.vm-list-state", "roles": [{"id": 21, "name": "Operator L1"}]}]
    found = await api.call(api.anna, "GET", f"{path}?view=effective&pattern=vm.see*&group_by=action")
    assert found.body["total"] == 26 and set(found.body["groups"]) == {"see", "see-main", "see-details"}
    assert found.body["items"][0]["roles"] == [{"id": VM_READER, "name": "VMs Reader"}]
    tree = await api.call(api.anna, "GET", f"{path}?view=tree")
    assert tree.body["nodes"][-1]["negative"] == ["vm.update.name"] and len(tree.body["nodes"]) == 6
    assert (await api.call(api.anna, "GET", f"{path}?view=bush")).problem == "malformed-request"
    reader = api.with_only(api.anna, "role.see.acl-list")
    assert "roles" not in (await api.call(reader, "GET", path)).body["items"][0]
    assert (await api.call(reader, "GET", f"{path}?view=tree")).problem == "forbidden"
    preview = await api.call(
        api.anna, "POST", "/roles/preview", {"parents": [VM_OPERATOR], "grant": ["user.see*"], "revoke": ["*.spy.*"]}
    )
    assert "user.see.id" in str(preview.body) and "spy" not in str(preview.body)
    assert not [entry for entry in api.trail() if entry["action"] == "role.preview"]


@asynchronous
async def test_catalogue_and_matrix(api: ApiWorld) -> None:
    known = (await api.call(api.with_only(api.boss, "role.see.acl-list"), "GET", "/acls")).body
    assert known["total"] == len(CATALOGUE)
    assert [each["name"] for each in known["items"] if each["operative"]] == ["role.see.acl-list"]
    [spy] = (await api.call(api.boss, "GET", "/acls?pattern=vm.spy.")).body["items"]
    assert spy == {
        "name": "vm.spy.",
        "domain": "vm",
        "verb": "spy",
        "detail": "",
        "description": {"en": "Watch the screen of virtual machines", "es": "Observar la pantalla: máquinas virtuales"},
        "global": False,
        "operative": True,
    }
    matrix = (await api.call(api.boss, "GET", "/role-matrix")).body
    assert matrix["scopes"]["VMs"]["Operator"] == VM_OPERATOR and "Tenants" in matrix["scopes"]


@asynchronous
async def test_who_holds_one(api: ApiWorld) -> None:
    for who in (api.anna, api.rick):
        await api.call(who, "PUT", f"/administrators/{who.administrator_id}/roles/{VM_READER}")
    path = f"/roles/{VM_READER}/administrators"
    assert (await api.call(api.anna, "GET", path)).body == {
        "items": [{"id": api.anna.administrator_id, "name": "anna"}],
        "total": 1,
    }
    assert (await api.call(api.boss, "GET", path)).body["total"] == 2


@pytest.mark.parametrize(
    ("method", "below", "body", "needed"),
    [
        ("POST", "", {"name": "x"}, "role.create."),
        ("PATCH", "/{id}", {"name": "x"}, "role.update.name"),
        ("PATCH", "/{id}", {"description": "x"}, "role.update.description"),
        ("DELETE", "/{id}", None, "role.delete."),
        ("PUT", "/{id}/acls/role.update.assign-acl", None, "role.update.assign-acl"),
        ("DELETE", "/{id}/acls/vm.spy.", None, "role.update.assign-acl"),
        ("PATCH", "/{id}/acls", {"revoke": ["vm.spy."]}, "role.update.assign-acl"),
        ("DELETE", "/{id}/parents/{other}", None, "role.update.assign-role"),
        ("POST", "/{id}/clone", {"name": "x"}, "role.create."),
        ("GET", "/{id}/acls", None, "role.see.acl-list"),
        ("GET", "/{id}/administrators", None, "administrator.see-main."),
        ("GET", "", None, "role.see-main."),
    ],
)
@asynchronous
async def test_permissions(api: ApiWorld, method: str, below: str, body: Any, needed: str) -> None:
    """Acceptance 2: with the permission and nothing else it works; without it, it does not."""
    other = await make(api, api.anna, "Empty")
    role = await make(api, api.anna, "R", **({} if "clone" in below else {"roles": [other]}))
    path = f"/roles{below}".replace("{id}", str(role)).replace("{other}", str(other))

    async def asked(*names: str) -> Reply:
        return await api.call(api.with_only(api.anna, *names), method, path, body, ANY)

    refused = await asked(*(CATALOGUE.keys() - {needed}))
    assert (refused.status, refused.problem) == (403, "forbidden") or refused.problem == "forbidden-attribute"
    allowed = await asked(needed)
    assert allowed.status < 300, allowed.body
