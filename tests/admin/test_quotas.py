"""How much a tenant may have: said by administrators over all tenants, and seen to by the database."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import psycopg2.extensions
from twisted.internet.defer import Deferred, gatherResults

from qvd.db.pool import Pool
from qvd.db.vms import VMs
from qvd.model.errors import Unavailable
from qvd.model.ids import VMId
from qvd.model.placement import Weights
from tests.admin.desks import Desks
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous


async def bound(api: ApiWorld, **most: int | None) -> Reply:
    reply = await api.call(api.boss, "PUT", f"/tenants/{api.acme}/quotas", most, {"If-Match": "*"})
    assert reply.status == 200, reply.body
    return reply


async def at_once(calls: Sequence[Deferred[Reply]]) -> list[int]:
    return sorted(reply.status for reply in await gatherResults(calls))


@asynchronous
async def test_they_are_read_and_written(api: ApiWorld, desks: Desks) -> None:
    path = f"/tenants/{api.acme}/quotas"
    none = {"users": None, "vms": None, "running_vms": None}
    assert (await api.call(api.boss, "GET", path)).body == none
    assert (await bound(api, users=5, vms=7)).body == {"users": 5, "vms": 7, "running_vms": None}
    assert (await api.call(api.boss, "GET", path)).body == {"users": 5, "vms": 7, "running_vms": None}
    (row,) = api.trail()
    assert (row["action"], row["object_name"], row["before"]["quotas"]) == ("tenant.set-quotas", "acme", none)
    assert row["after"]["quotas"]["vms"] == 7
    desks.be("running")
    usage = await api.call(api.boss, "GET", f"/tenants/{api.acme}/usage")
    assert usage.body == {"users": 1, "vms": 1, "running_vms": 1}
    for method, end in (("GET", "quotas"), ("PUT", "quotas"), ("GET", "usage")):
        body: object = {} if method == "PUT" else None
        assert (await api.call(api.anna, method, f"/tenants/{api.acme}/{end}", body)).status in (403, 404)
        assert (await api.call(api.boss, method, f"/tenants/999999/{end}", body)).status == 404
        other = api.with_only(api.boss, "tenant.see-main.")
        assert (await api.call(other, method, f"/tenants/{api.acme}/{end}", body)).problem == "forbidden"
    assert (await api.call(api.boss, "PUT", path, {"users": -1})).problem == "invalid-value"


@asynchronous
async def test_users_and_vms(api: ApiWorld, desks: Desks) -> None:
    await bound(api, users=2, vms=2)
    assert (await api.call(api.anna, "POST", "/users", {"name": "bea"})).status == 201
    refused = await api.call(api.anna, "POST", "/users", {"name": "carl"})
    assert (refused.status, refused.problem) == (409, "conflict")
    assert refused.body["detail"] == "The tenant may have 2 users, and has 2"
    vm = {"user_id": desks.user, "osf_id": desks.osf}
    assert (await api.call(api.anna, "POST", "/vms", {**vm, "name": "two"})).status == 201
    assert (
        (await api.call(api.anna, "POST", "/vms", {**vm, "name": "three"})).body["detail"].endswith("2 VMs, and has 2")
    )
    assert (await api.call(api.rick, "POST", "/users", {"name": "carl"})).status == 201, "another tenant's are its own"
    await bound(api, users=1)
    assert (await api.call(api.anna, "GET", "/users")).body["page"]["total"] == 2, "what is there stays"
    assert (await api.call(api.anna, "POST", "/vms", {**vm, "name": "three"})).status == 201


@asynchronous
async def test_nobody_slips_through_beside_another(api: ApiWorld, desks: Desks) -> None:
    await bound(api, users=3)
    calls = [
        Deferred.fromCoroutine(api.call(api.anna, "POST", "/users", {"name": f"u{number}"})) for number in range(6)
    ]
    assert await at_once(calls) == [201, 201, 409, 409, 409, 409]


@asynchronous
async def test_those_that_run(api: ApiWorld, desks: Desks) -> None:
    await bound(api, running_vms=1)
    other = desks.new_vm(api.acme, desks.user, desks.osf, "alice-2")
    assert (await api.call(api.anna, "POST", f"/vms/{desks.vm}/start")).status == 202
    refused = await api.call(api.anna, "POST", f"/vms/{other}/start")
    assert (refused.status, refused.problem) == (503, "no-host-available")
    assert refused.body["detail"] == "Your organisation may run 1 virtual machines at a time, and does already"
    assert desks.row(other)["last_error"] == refused.body["detail"]
    assert (await api.call(api.rick, "POST", f"/vms/{desks.their_vm}/start")).status == 202
    dsn = psycopg2.extensions.make_dsn(api.dsn, user="qvd_node")
    node = Pool(api.services.reactor, dsn, size=1, deadline=10.0, rng=Random(1))
    await node.start()
    try:
        await VMs(node, Weights(), lambda: 0.5).order_start(VMId(other), "test")
    except Unavailable as error:
        assert error.text == refused.body["detail"], "its user reads the same"
    else:
        raise AssertionError("it was started")
    finally:
        await node.stop()
    desks.be("stopped")
    assert (await api.call(api.anna, "POST", f"/vms/{other}/start")).status == 202


@asynchronous
async def test_nor_beside_another_start(api: ApiWorld, desks: Desks) -> None:
    await bound(api, running_vms=2)
    vms = [desks.new_vm(api.acme, desks.user, desks.osf, f"more-{number}") for number in range(4)]
    calls = [Deferred.fromCoroutine(api.call(api.anna, "POST", f"/vms/{each}/start")) for each in vms]
    assert await at_once(calls) == [202, 202, 503, 503]
