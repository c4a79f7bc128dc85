"""Acceptance points 11 and 17: what happens to those who come at the same time."""

from __future__ import annotations

import re

import pytest
from twisted.internet.defer import gatherResults

from qvd.admin.api import all_endpoints
from tests.admin.desks import Desks
from tests.admin.isolation import sample_body
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous, spawn

AT_ONCE, FREE = 200, 199
"""Creations, and addresses for them."""


@pytest.mark.acceptance(11)
@asynchronous
async def test_two_changes_of_one_version(api: ApiWorld, desks: Desks) -> None:
    for collection, number in (("users", desks.user), ("vms", desks.vm), ("osfs", desks.osf), ("images", desks.di)):
        path = f"/{collection}/{number}"
        for _ in range(3):
            version = {"If-Match": (await api.call(api.anna, "GET", path)).headers["ETag"]}
            texts = {f"{version} {number}" for number in range(2)}
            replies = await gatherResults(
                [spawn(api.call(api.anna, "PATCH", path, {"description": text}, version)) for text in sorted(texts)]
            )
            assert sorted(reply.status for reply in replies) == [200, 412]
            [done] = [reply.body["description"] for reply in replies if reply.status == 200]
            read = await api.call(api.anna, "GET", path)
            assert read.body["description"] == done


@pytest.mark.acceptance(11)
@asynchronous
async def test_no_version_where_one_is_needed(api: ApiWorld) -> None:
    needing = [endpoint for endpoint in all_endpoints() if endpoint.if_match]
    kinds = {endpoint.path.split("/")[1] for endpoint in needing}
    assert {"tenants", "osfs", "images", "roles", "administrators"} <= kinds
    for endpoint in needing:
        path = re.sub(r"\{[a-z_]+\}", "1", endpoint.path)
        body = None if endpoint.body is None else sample_body(endpoint.body)
        reply = await api.call(api.boss, endpoint.method, path, body)
        assert (reply.status, reply.problem) == (428, "precondition-required"), endpoint.route


@pytest.mark.acceptance(17)
@asynchronous
async def test_no_address_is_given_twice(database: str) -> None:
    """As many as come at once: a pool of four sessions has them wait, not fail. Where threads have a session each,
    L{tests.contract.test_db_network} is about it."""
    api = ApiWorld(database, deadline=120.0)
    await api.pool.start()
    try:
        user = api.insert("users (tenant_id, login) VALUES (%s, 'alice')", api.acme)
        osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', 1)", api.acme)
        first = 255 - FREE
        api.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/24', %s)", f"10.3.0.{first}")

        async def make(number: int) -> Reply:
            body = {"name": f"vm{number}", "user_id": user, "osf_id": osf}
            return await api.call(api.anna, "POST", "/vms", body)

        replies = await gatherResults([spawn(make(number)) for number in range(AT_ONCE)])
        made = [reply.body["ip"] for reply in replies if reply.status == 201]
        assert sorted(made) == sorted(f"10.3.0.{last}" for last in range(first, 255))
        [refused] = [reply for reply in replies if reply.status != 201]
        assert (refused.status, refused.problem) == (409, "conflict")
        assert "10.3.0.0/24 has no free address" in refused.body["detail"]
    finally:
        await api.close()
