"""Administrators over the API."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.admin.api import COLLECTIONS, all_endpoints
from qvd.db.roles import Authority
from qvd.model.acls import CATALOGUE, matching
from qvd.model.declared import Principal
from qvd.model.shipped_roles import BY_NAME, GRAPH, ROOT
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

HELPDESK, VM_READER = BY_NAME["Helpdesk"].role_id, BY_NAME["VMs Reader"].role_id
ANY = {"If-Match": "*"}


async def make(api: ApiWorld, who: Principal, name: str, **more: Any) -> int:
    made = await api.call(who, "POST", "/administrators", {"name": name, "password": "long enough", **more})
    assert made.status == 201, made.body
    return int(made.body["id"])


@asynchronous
async def test_make_read_change_delete(api: ApiWorld) -> None:
    body = {"name": "ada", "password": "long enough", "roles": [VM_READER, VM_READER], "language": "es"}
    made = await api.call(api.anna, "POST", "/administrators", body)
    assert made.status == 201, made.body
    assert made.body["roles"] == [{"id": VM_READER, "name": "VMs Reader"}] and "password" not in made.body
    path = f"/administrators/{made.body['id']}"
    assert await Authority(api.pool).acls(made.body["id"]) == GRAPH[VM_READER].positives
    tag = {"If-Match": made.headers["ETag"]}
    changed = await api.call(api.anna, "PATCH", path, {"name": "eva", "blocked": True, "page_size": None}, tag)
    assert (changed.status, changed.body["name"], changed.body["blocked"]) == (200, "eva", True)
    assert (await api.call(api.anna, "PATCH", path, {"name": "eva"}, tag)).problem == "precondition-failed"
    assert (await api.call(api.anna, "DELETE", path)).problem == "precondition-required"
    assert (await api.call(api.anna, "DELETE", path, headers=ANY)).status == 204
    assert not api.ask("SELECT FROM administrator_roles")
    assert "long enough" not in str(api.trail())
    assert api.trail()[0]["after"]["created_by"] == "anna"


@asynchronous
async def test_roles(api: ApiWorld) -> None:
    ada = await make(api, api.anna, "ada")
    path = f"/administrators/{ada}/roles"
    assert (await api.call(api.anna, "PUT", f"{path}/{HELPDESK}")).body["roles"][0]["name"] == "Helpdesk"
    assert (await api.call(api.anna, "PUT", f"{path}/{HELPDESK}")).status == 200
    assert (await api.call(api.anna, "PUT", path, {"roles": [VM_READER]})).problem == "precondition-required"
    whole = await api.call(api.anna, "PUT", path, {"roles": [VM_READER]}, ANY)
    assert [each["id"] for each in whole.body["roles"]] == [VM_READER]
    assert (await api.call(api.anna, "DELETE", f"{path}/{HELPDESK}")).problem == "not-found"
    assert (await api.call(api.anna, "DELETE", f"{path}/{VM_READER}")).body["roles"] == []
    assert [(each["action"], each["outcome"]) for each in api.trail()[-3:]] == [
        ("administrator.roles", "done"),
        ("administrator.withdraw-role", "denied"),
        ("administrator.withdraw-role", "done"),
    ]
    assert api.trail()[-1]["before"]["roles"] == [{"id": VM_READER, "name": "VMs Reader"}]
    for wrong in ([-1], ["x"], [True], list(range(101))):
        refused = await api.call(api.anna, "PUT", path, {"roles": wrong}, ANY)
        created = await api.call(
            api.anna, "POST", "/administrators", {"name": "x", "password": "long enough", "roles": wrong}
        )
        assert refused.status == created.status == 422


@pytest.mark.acceptance(3)
@asynchronous
async def test_roles_of_another_tenant_are_absent(api: ApiWorld) -> None:
    theirs = (await api.call(api.rick, "POST", "/roles", {"name": "Theirs"})).body["id"]
    anna = f"/administrators/{api.anna.administrator_id}"
    for who in (api.anna, api.boss):
        found = await api.call(who, "PUT", f"{anna}/roles/{theirs}")
        absent = await api.call(who, "PUT", f"{anna}/roles/999999")
        assert found.problem == absent.problem == "reference-not-found"
        assert found.body["detail"].replace(str(theirs), "999999") == absent.body["detail"]
    for method, below, body in (
        ("GET", "", None),
        ("PATCH", "", {"description": "x"}),
        ("DELETE", "", None),
        ("PUT", "/password", {"password": "long enough"}),
        ("PUT", "/roles", {"roles": []}),
        ("PUT", f"/roles/{VM_READER}", None),
        ("GET", "/acls", None),
    ):
        path = f"/administrators/{api.rick.administrator_id}{below}"
        assert (await api.call(api.anna, method, path, body, ANY)).problem == "not-found"
    listed = await api.call(api.anna, "GET", "/administrators")
    assert [each["name"] for each in listed.body["items"]] == ["anna"]


@asynchronous
async def test_own_account(api: ApiWorld) -> None:
    own = f"/administrators/{api.anna.administrator_id}"
    gone = await api.call(api.anna, "DELETE", own, headers=ANY)
    assert (gone.status, gone.problem, gone.body["code"]) == (409, "own-account", 5200)
    assert (await api.call(api.anna, "PATCH", own, {"blocked": True}, ANY)).problem == "own-account"
    # Whoever has the same name elsewhere is somebody else.
    other = await make(api, api.rick, "anna")
    assert (await api.call(api.rick, "DELETE", f"/administrators/{other}", headers=ANY)).status == 204


@asynchronous
async def test_password(api: ApiWorld) -> None:
    ada = await make(api, api.anna, "ada")
    path = f"/administrators/{ada}/password"
    assert (await api.call(api.anna, "PUT", path, {"password": "short"})).problem == "invalid-value"
    assert (await api.call(api.anna, "PUT", path, {"password": "another one"})).status == 204
    [stored] = api.ask("SELECT password FROM administrators WHERE id = %s", ada)
    assert await api.services.hasher.verify(stored["password"], "another one")
    assert "another one" not in str(api.trail())


@asynchronous
async def test_permissions_of_somebody(api: ApiWorld) -> None:
    ada = await make(api, api.anna, "ada", roles=[ROOT])
    path = f"/administrators/{ada}/acls"
    for who in (api.anna, api.boss):
        found = await api.call(who, "GET", f"{path}?group_by=section")
        assert {each["name"] for each in found.body["items"]} == set(CATALOGUE) - matching("tenant.*")
        assert "tenant" not in found.body["groups"]
    [config] = (await api.call(api.anna, "GET", f"{path}?pattern=config.wat.")).body["items"]
    assert config["roles"] == [{"id": 66, "name": "WAT Config Manager"}]
    reader = api.with_only(api.anna, "administrator.see.acl-list")
    assert set((await api.call(reader, "GET", path)).body["items"][0]) == {"name"}


@asynchronous
async def test_what_is_held_for_a_while(api: ApiWorld) -> None:
    ada = await make(api, api.anna, "ada", roles=[VM_READER])
    api.ask("UPDATE administrator_roles SET expires_at = now() - interval '1 minute'")
    assert (await api.call(api.anna, "GET", f"/administrators/{ada}")).body["roles"] == []
    assert (await api.call(api.anna, "GET", f"/administrators/{ada}/acls")).body["total"] == 0


@pytest.mark.parametrize(
    ("method", "below", "body", "needed"),
    [
        ("GET", "", None, "administrator.see-main."),
        ("POST", "", {"name": "x", "password": "long enough"}, "administrator.create."),
        ("PATCH", "/{id}", {"name": "x"}, "administrator.update.name"),
        ("PATCH", "/{id}", {"description": "x"}, "administrator.update.description"),
        ("PATCH", "/{id}", {"language": "es"}, "administrator.update.language"),
        ("PATCH", "/{id}", {"blocked": True}, "administrator.update.block"),
        ("DELETE", "/{id}", None, "administrator.delete."),
        ("PUT", "/{id}/password", {"password": "long enough"}, "administrator.update.password"),
        ("PUT", "/{id}/roles", {"roles": []}, "administrator.update.assign-role"),
        ("PUT", "/{id}/roles/{role}", None, "administrator.update.assign-role"),
        ("GET", "/{id}/acls", None, "administrator.see.acl-list"),
    ],
)
@asynchronous
async def test_permissions(api: ApiWorld, method: str, below: str, body: Any, needed: str) -> None:
    """Acceptance 2: with the permission and nothing else it works; without it, it does not."""
    ada = await make(api, api.anna, "ada")
    role = (await api.call(api.anna, "POST", "/roles", {"name": "Empty"})).body["id"]
    path = f"/administrators{below}".replace("{id}", str(ada)).replace("{role}", str(role))

    async def asked(*names: str) -> Reply:
        return await api.call(api.with_only(api.anna, *names), method, path, body, ANY)

    refused = await asked(*(CATALOGUE.keys() - {needed}))
    assert refused.problem in ("forbidden", "forbidden-attribute") and refused.status == 403
    allowed = await asked(needed)
    assert allowed.status < 300, allowed.body


@asynchronous
async def test_attributes_of_a_creation(api: ApiWorld) -> None:
    """Defects A38 and A41: what is given with a new object needs its own permission."""
    maker = api.with_only(api.anna, "administrator.create.")
    given: list[dict[str, Any]] = [{"roles": []}, {"language": "es"}, {"blocked": True}]
    for more in given:
        body = {"name": "x", "password": "long enough", **more}
        assert (await api.call(maker, "POST", "/administrators", body)).problem == "forbidden-attribute"


def test_every_permission_that_is_asked_for_exists() -> None:
    """A name that is mistyped would be nobody's, or everybody's (defects A42 and E3)."""
    asked = {name for endpoint in all_endpoints() for name in endpoint.need.any_of}
    for collection in COLLECTIONS:
        for field in collection.resource.fields:
            asked |= {*field.see, field.create_acl, field.update_acl}
    assert asked - {""} <= CATALOGUE.keys(), asked - CATALOGUE.keys()
