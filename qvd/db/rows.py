"""Rows to values, and pieces of SQL, where more than one store needs them."""

from __future__ import annotations

from qvd.interfaces import Row
from qvd.model.ids import Epoch, Generation, HostId, Run, SessionId, TenantId, UserId, VMId
from qvd.model.records import VM, Desired, Guest
from qvd.model.secret import Secret
from qvd.model.vm import VMState

VM_COLUMNS = """
    v.id AS vm_id, v.tenant_id, v.user_id, v.name, u.login, r.blocked, r.vm_state, r.desired_state, r.generation,
    r.acked_generation, r.host_id, r.host_epoch, r.phase, r.detail, r.last_error, r.vm_address, r.vm_vma_port,
    r.vm_x_port, r.vm_secret, r.session_id::text, r.since,
    r.run, r.forced, r.failures, greatest(extract(epoch FROM r.retry_at - now()), 0)::float8 AS retry_in
"""
VM_TABLES = "vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN users u ON u.id = v.user_id"

# A node's own row in host_runtimes, while nobody has declared it lost.
MINE = "host_id = %(host)s AND epoch = %(epoch)s AND state <> 'lost'"
# The server that answers, told from all that were or will be there: a restart or a fail-over makes another one.
SERVER = "pg_postmaster_start_time()::text"
# What the release of a VM sets, whoever releases it. An order newer than the one acknowledged stays; else the wish ends
# with the run it was for: docs/decisions/0002. What the right sides read is the row as it was.
RELEASED = """
    vm_state = 'stopped', detail = '', since = now(), vm_address = NULL, vm_vma_port = NULL, vm_x_port = NULL,
    vm_secret = NULL, current_di_id = NULL, vma_ok_ts = NULL, host_epoch = NULL,
    desired_state = CASE WHEN generation > acked_generation THEN desired_state ELSE 'stopped' END,
    acked_generation = CASE WHEN desired_state = 'running' THEN acked_generation ELSE generation END
"""


def guest_of(row: Row) -> Guest | None:
    """Where the guest listens; L{None} until its node has said so."""
    if row["vm_address"] is None:
        return None
    return Guest(row["vm_address"], row["vm_vma_port"], row["vm_x_port"], Secret(row["vm_secret"]))


def vm_of(row: Row) -> VM:
    """A row of C{VM_COLUMNS}."""
    return VM(
        vm_id=VMId(row["vm_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        user_id=UserId(row["user_id"]),
        name=row["name"],
        login=row["login"],
        blocked=row["blocked"],
        state=VMState(row["vm_state"]),
        desired=Desired(row["desired_state"]),
        generation=Generation(row["generation"]),
        acked=Generation(row["acked_generation"]),
        host_id=None if row["host_id"] is None else HostId(row["host_id"]),
        epoch=None if row["host_epoch"] is None else Epoch(row["host_epoch"]),
        phase=row["phase"],
        detail=row["detail"],
        last_error=row["last_error"],
        guest=guest_of(row),
        session_id=None if row["session_id"] is None else SessionId(row["session_id"]),
        since=row["since"],
        failures=row["failures"],
        retry_in=row["retry_in"],
        run=Run(row["run"]),
        forced=row["forced"],
    )
