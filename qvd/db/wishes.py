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

# What a VM has of its OSF, image, user and of its own: the schema has the order, for the administration too.
PROFILE = """
    SELECT o.memory, o.hypervisor,
        coalesce((SELECT jsonb_object_agg(p.key, p.value) FROM vm_properties_of(v.id) p), '{}') AS properties
    FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = %s
"""
# VMs of the same tenant only: another one's properties are its own affair. First those that may be meant, by index;
# then those of them that have the value in the end: in the order of vm_properties_of, but for thousands of VMs at once,
# because the nodes are locked meanwhile.
COMPANY = """
    WITH asked AS (SELECT key, value FROM jsonb_each_text(%(shared)s)),
    me AS (SELECT tenant_id FROM vms WHERE id = %(vm)s),
    meant AS (
        SELECT a.key, a.value, p.vm_id FROM asked a JOIN vm_properties p USING (key, value) JOIN me USING (tenant_id)
        UNION
        SELECT a.key, a.value, v.id FROM asked a JOIN user_properties p USING (key, value) JOIN me USING (tenant_id)
            JOIN vms v ON v.user_id = p.user_id
        UNION
        SELECT a.key, a.value, v.id FROM asked a JOIN di_properties p USING (key, value) JOIN dis d ON d.id = p.di_id
            JOIN vms v ON v.osf_id = d.osf_id JOIN me ON v.tenant_id = me.tenant_id
        UNION
        SELECT a.key, a.value, v.id FROM asked a JOIN osf_properties p USING (key, value)
            JOIN vms v ON v.osf_id = p.osf_id JOIN me ON v.tenant_id = me.tenant_id
    )
    SELECT r.host_id, m.key, count(*) FROM meant m JOIN vms v ON v.id = m.vm_id JOIN vm_runtimes r ON r.vm_id = v.id
        LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag
        LEFT JOIN vm_properties p ON p.vm_id = v.id AND p.key = m.key
        LEFT JOIN user_properties u ON u.user_id = v.user_id AND u.key = m.key
        LEFT JOIN di_properties d ON d.di_id = coalesce(r.current_di_id, g.di_id) AND d.key = m.key
        LEFT JOIN osf_properties o ON o.osf_id = v.osf_id AND o.key = m.key
    WHERE r.host_id IS NOT NULL AND v.id <> %(vm)s AND coalesce(p.value, u.value, d.value, o.value) = m.value
    GROUP BY r.host_id, m.key
"""


async def wanted_for(tx: ITransaction, vm_id: VMId) -> Wanted:
    """What the VM asks for, with its OSF, image and user.

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
