# -*- test-case-name: tests.admin.test_hosts -*-
"""Stopping all VMs of a node, or of a tenant: the orders at once, then waiting until they are carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import deferLater

from qvd.admin.jobs.kinds import JobContext, JobKind
from qvd.admin.problems import Problem

ORDERS = 500
"""That one transaction gives."""
PAUSE, DEADLINE = 0.5, 600.0
"""Seconds between two looks; and until who has not stopped will hardly do."""


async def stop_all(context: JobContext, host_id: int | None, tenant_id: int | None, cause: str) -> int:
    """Order all stops, and wait; return how many were ordered.

    @raise Problem: some do not stop.
    """
    farm, clock = context.services.host_orders, context.services.reactor
    ordered = 0
    while count := await farm.order_stops(host_id, tenant_id, ORDERS, cause):
        ordered += count
        context.check({"ordered": ordered})
    context.log(f"The stop of {ordered} VMs is ordered")
    ends = clock.seconds() + DEADLINE
    most = left = await farm.not_stopped(host_id, tenant_id)
    while left:
        most = max(most, left)
        context.progress(most - left, most)
        context.check({"ordered": ordered, "left": left})
        if clock.seconds() >= ends:
            raise Problem("vm-running", f"{left} VMs have not stopped within {DEADLINE:.0f} s: look at their nodes")
        await deferLater(clock, PAUSE)
        left = await farm.not_stopped(host_id, tenant_id)
    context.progress(most, most)
    return ordered


async def run(context: JobContext) -> Mapping[str, Any]:
    await context.principal()
    host_id = context.job.object_id
    assert host_id is not None
    name = context.arguments["name"]
    cause = f"all VMs of the node {name} are stopped, request {context.job.request_id}"
    return {"ordered": await stop_all(context, host_id, None, cause)}


STOP_VMS = JobKind("host.stop-vms", run, at_once=4)
