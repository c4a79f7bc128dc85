# -*- test-case-name: tests.admin.test_quotas -*-
"""How many VMs of a tenant may run: asked wherever one is placed. To users and VMs, triggers of the schema see."""

from __future__ import annotations

from qvd.interfaces import ITransaction
from qvd.model.ids import VMId


async def refusal(tx: ITransaction, vm_id: VMId) -> str | None:
    """Why the tenant of a VM may not have it run as well, in words for its user; L{None}: it may."""
    row = await tx.fetch_one(
        "SELECT q.tenant_id, q.running_vms FROM vms v JOIN tenant_quotas q USING (tenant_id)"
        " WHERE v.id = %s AND q.running_vms IS NOT NULL",
        (vm_id,),
    )
    if row is None:
        return None
    # Two starts at a time would both find the last place free.
    await tx.fetch("SELECT pg_advisory_xact_lock(hashtext('qvd quota running'), %s)", (row["tenant_id"],))
    others = await tx.fetch_one(
        "SELECT count(*) FROM vm_runtimes WHERE tenant_id = %s AND host_id IS NOT NULL AND vm_id <> %s",
        (row["tenant_id"], vm_id),
    )
    if others is None or others["count"] < row["running_vms"]:
        return None
    return f"Your organisation may run {row['running_vms']} virtual machines at a time, and does already"
