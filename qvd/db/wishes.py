# -*- test-case-name: tests.contract.test_db_placement -*-
"""What a VM asks of its node, and what only those that ask for it need to know of the nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from attrs import evolve

from qvd.interfaces import ITransaction
from qvd.model.affinity import Profile, wanted_by
from qvd.model.ids import VMId
from qvd.model.placement import Candidate, Wanted

PROFILE = """
    SELECT o.memory, o.hypervisor,
        coalesce((SELECT jsonb_object_agg(p.key, p.value) FROM osf_properties p WHERE p.osf_id = o.id), '{}')
        || coalesce((SELECT jsonb_object_agg(p.key, p.value) FROM vm_properties p WHERE p.vm_id = v.id), '{}')
        AS properties
    FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = %s
"""
# VMs of the same tenant only: another one's properties are its own affair. First those that may be meant, by index.
COMPANY = """
    WITH asked AS (SELECT key, value FROM jsonb_each_text(%(shared)s)),
    me AS (SELECT tenant_id FROM vms WHERE id = %(vm)s),
    sharing AS (
        SELECT a.key, p.vm_id FROM asked a JOIN vm_properties p USING (key, value) JOIN me USING (tenant_id)
        UNION ALL
        SELECT a.key, v.id FROM asked a JOIN osf_properties p USING (key, value) JOIN me USING (tenant_id)
            JOIN vms v ON v.osf_id = p.osf_id
        WHERE NOT EXISTS (SELECT FROM vm_properties own WHERE own.vm_id = v.id AND own.key = a.key)
    )
    SELECT r.host_id, s.key, count(*) FROM sharing s JOIN vm_runtimes r USING (vm_id)
    WHERE r.host_id IS NOT NULL AND r.vm_id <> %(vm)s GROUP BY r.host_id, s.key
"""


async def wanted_for(tx: ITransaction, vm_id: VMId) -> Wanted:
    """What the VM and its OSF ask for.

    @raise WrongRule: that cannot be understood.
    """
    row = await tx.fetch_one(PROFILE, (vm_id,))
    assert row is not None, "its row is locked"
    return wanted_by(Profile(**row))


async def looked_at(tx: ITransaction, vm_id: VMId, wanted: Wanted, nodes: Sequence[Candidate]) -> Sequence[Candidate]:
    """The nodes, with what the VM's rules are about. Those of most VMs are about nothing, and cost nothing."""
    named = {*wanted.require, *wanted.prefer}
    if named:
        rows = await tx.fetch("SELECT host_id, key, value FROM host_properties WHERE key = ANY(%s)", (sorted(named),))
        nodes = [
            evolve(node, properties={row["key"]: row["value"] for row in rows if row["host_id"] == node.host_id})
            for node in nodes
        ]
    shared = {**wanted.apart, **wanted.together}
    if shared:
        rows = await tx.fetch(COMPANY, {"shared": json.dumps(shared), "vm": vm_id})
        nodes = [
            evolve(node, company={row["key"]: row["count"] for row in rows if row["host_id"] == node.host_id})
            for node in nodes
        ]
    return nodes
