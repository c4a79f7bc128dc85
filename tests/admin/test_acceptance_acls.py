"""
Acceptance point 2: with a permission, and only what the operation needs beside it, one gets through; with all others
but that one, one does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from qvd.admin.api import COLLECTIONS, all_endpoints
from qvd.admin.resources.stats import PARTS
from qvd.model.acls import CATALOGUE
from tests.admin.acltrials import ANY, SOURCE, Trials
from tests.admin.desks import Desks
from tests.admin.heldacls import IN_CODE, UNGUARDED, guarded
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

OPERATIONS = [endpoint for endpoint in all_endpoints() if endpoint.need.any_of]
FIELDS = [(kind.resource, each) for kind in COLLECTIONS for each in kind.resource.fields]
BESIDE: Mapping[str, tuple[str, ...]] = {
    "config.history": ("log.see-main.",),
    "di.create": ("di.create.staging",),
    "log.export": ("log.see-main.",),
    "log.export-table": ("log.see-main.",),
    "role.grant-acl": ("vm.spy.",),
    "view.read": ("vm.see-main.",),
    "view.reset": ("vm.see-main.", "views.update.filters-desktop", "views.update.filters-mobile"),
    "view.set": ("vm.see-main.",),
    "vm.explain": ("vm.see.host",),
}
"""What is needed beside the permission of the operation itself: what it shows, or gives away."""


def let_in(reply: Reply) -> bool:
    """Done, or not to be done to what there is; of many, each."""
    results = reply.body.get("results", ()) if isinstance(reply.body, dict) else ()
    return all(status < 300 or status in (404, 409) for status in (reply.status, *(each["status"] for each in results)))


def test_each_permission_guards_something_or_it_is_said_why_not() -> None:
    asked_for = guarded() | IN_CODE.keys()
    assert not asked_for & UNGUARDED.keys(), "these guard something now: take them from UNGUARDED"
    assert asked_for | UNGUARDED.keys() == CATALOGUE.keys()


@pytest.mark.acceptance(2)
@asynchronous
async def test_operations(api: ApiWorld, desks: Desks) -> None:
    trials = Trials(api, desks)
    await trials.prepare()
    wrong: list[object] = []
    for endpoint in OPERATIONS:
        over_all, needed = endpoint.need.superadmin, endpoint.need.any_of
        for acl in needed:
            holder = trials.holding(over_all, {acl, *BESIDE.get(endpoint.action, ())})
            reply = await trials.run(holder, endpoint, acl)
            if not let_in(reply):
                wrong.append((endpoint.action, acl, reply.body))
        reply = await trials.run(trials.but(over_all, needed), endpoint, needed[0])
        if (reply.status, reply.problem) != (403, "forbidden"):
            wrong.append((endpoint.action, "without", reply.body))
    assert wrong == []


@pytest.mark.acceptance(2)
@asynchronous
async def test_fields_that_are_seen(api: ApiWorld, desks: Desks) -> None:
    trials = Trials(api, desks)
    await trials.prepare()
    wrong: list[object] = []
    for resource, field in FIELDS:
        if not field.see:
            continue
        over_all, path = resource.superadmin_reads or field.superadmin, f"/{resource.collection}"
        for acl in field.see:
            seeing = trials.holding(over_all, {resource.read[0], acl})
            reply = await api.call(seeing, "GET", f"{path}?fields={field.name}")
            if reply.status != 200 or field.name not in reply.body["items"][0]:
                wrong.append((path, field.name, acl, reply.body))
        blind = trials.but(over_all, field.see)
        named, whole = [await api.call(blind, "GET", f"{path}{end}") for end in (f"?fields={field.name}", "?limit=1")]
        if named.status != 403 or (whole.status != 403 and field.name in whole.body["items"][0]):
            wrong.append((path, field.name, "without", named.body))
    assert wrong == []


@pytest.mark.acceptance(2)
@asynchronous
async def test_numbers(api: ApiWorld, desks: Desks) -> None:
    for part, numbers in PARTS.items():
        for name, needed in numbers.items():
            seen = (await api.call(api.with_only(api.boss, needed), "GET", "/stats")).body
            assert name in seen[part], (part, name)
            others = api.with_only(api.boss, *CATALOGUE.keys() - {needed})
            # Whoever sees some of a kind's numbers sees how many there are.
            hidden = (await api.call(others, "GET", "/stats")).body.get(part, {})
            assert name not in hidden or name == "total", (part, name)


@pytest.mark.acceptance(2)
@asynchronous
async def test_fields_that_are_changed(api: ApiWorld, desks: Desks) -> None:
    trials = Trials(api, desks)
    await trials.prepare()
    wrong: list[object] = []
    for resource, field in FIELDS:
        if not field.update_acl:
            continue
        over_all, path = resource.superadmin, f"/{resource.collection}/{trials.ids[resource.collection]}"
        body = {field.name: trials.value(resource, field)}
        reply = await api.call(trials.holding(over_all, [field.update_acl]), "PATCH", path, body, ANY)
        if not let_in(reply):
            wrong.append((path, field.name, reply.body))
        reply = await api.call(trials.but(over_all, [field.update_acl]), "PATCH", path, body, ANY)
        if (reply.status, reply.body.get("acl")) != (403, field.update_acl):
            wrong.append((path, field.name, "without", reply.body))
    assert wrong == []


@pytest.mark.acceptance(2)
@asynchronous
async def test_fields_that_are_given_to_what_is_new(api: ApiWorld, desks: Desks) -> None:
    trials = Trials(api, desks)
    await trials.prepare()
    wrong: list[object] = []
    for resource, field in FIELDS:
        if not field.create_acl:
            continue
        over_all, path = resource.superadmin, f"/{resource.collection}"
        body = trials.least(resource) | {field.name: trials.value(resource, field)}
        beside = {resource.create_acl, *BESIDE.get(f"{resource.name}.create", ())}
        reply = await api.call(trials.holding(over_all, beside | {field.create_acl}), "POST", path, body)
        if not let_in(reply):
            wrong.append((path, field.name, reply.body))
        reply = await api.call(trials.but(over_all, [field.create_acl]), "POST", path, body)
        if (reply.status, reply.body.get("acl")) != (403, field.create_acl):
            wrong.append((path, field.name, "without", reply.body))
    assert wrong == []


@pytest.mark.acceptance(2)
@asynchronous
async def test_what_is_asked_for_within(api: ApiWorld, desks: Desks) -> None:
    trials = Trials(api, desks)
    await trials.prepare()
    desks.be("running")
    job, ada = f"/jobs/{trials.ids['jobs']}", f"/administrators/{trials.ids['administrators']}/acls"
    made = {"osf_id": trials.ids["osfs"]}
    upload = {"type": "upload", "name": "a.qcow2", "size": 1, "checksum": "0" * 64}
    url = {"type": "url", "url": "https://images.example/a.qcow2"}
    tried: set[str] = set()
    for acl, beside, method, path, body in (
        ("di.create.staging", "di.create.", "POST", "/images", made | {"source": SOURCE}),
        ("di.create.upload", "di.create.", "POST", "/images", made | {"source": upload}),
        ("di.create.url", "di.create.", "POST", "/images", made | {"source": url}),
        ("job.cancel.", "job.see-main.", "DELETE", job, None),
        ("vm.update.force-stop", "vm.update.state", "POST", f"/vms/{desks.vm}/stop", {"force": True}),
    ):
        tried.add(acl)
        assert let_in(await api.call(trials.holding(False, {acl, beside}), method, path, body)), acl
        without = await api.call(trials.but(False, [acl]), method, path, body)
        assert (without.status, without.body.get("acl")) == (403, acl)
    # What somebody else does is not there for whoever may not see it; nor is a role.
    assert (await api.call(trials.holding(False, ["job.see-main."]), "GET", job)).status == 200
    assert (await api.call(trials.but(False, ["job.see-main."]), "GET", job)).status == 404
    api.ask("INSERT INTO role_acls VALUES (%s, 'vm.spy.', true)", trials.ids["roles"])
    api.ask(
        "INSERT INTO administrator_roles VALUES (%s, %s, %s, %s)",
        *(trials.ids["administrators"], api.acme, trials.ids["roles"], api.acme),
    )
    listing, roles = "administrator.see.acl-list", "administrator.see.acl-list-roles"
    seen = await api.call(trials.holding(False, [listing, roles]), "GET", ada)
    assert seen.body["items"][0]["roles"]
    assert not (await api.call(trials.but(False, [roles]), "GET", ada)).body["items"][0].get("roles")
    assert tried | {"job.see-main.", roles} == IN_CODE.keys()
