# -*- test-case-name: tests.contract.test_db_nodes -*-
"""
A node that is being drained gets empty: C{docs/decisions/0012-host-life.md}.

Whoever sets the flag does this once, and the node again and again, so that what was on its way then is not forgotten.
Only rows of VMs are locked, in the order of all transactions; the flag keeps new ones away.
"""

from __future__ import annotations

from qvd.interfaces import ITransaction
from qvd.model.host import LOST_PHASE
from qvd.model.ids import HostId, VMId

ORDERED = "vm_state = 'stopped' AND desired_state = 'running' AND generation > acked_generation"
GOES_ON = "vm_state IN ('starting', 'running') AND desired_state = 'running'"


async def drain(tx: ITransaction, host_id: HostId) -> int:
    """What the node's flag says, to its VMs; return to how many. To be run in a transaction of its own."""
    host = await tx.fetch_one(
        "SELECT h.name, r.drain FROM host_runtimes r JOIN hosts h ON h.id = r.host_id WHERE r.host_id = %s", (host_id,)
    )
    if host is None or host["drain"] is None:
        return 0
    await tx.fetch("SELECT set_config('qvd.cause', 'the node ' || %s || ' is being drained', true)", (host["name"],))
    await tx.fetch(
        f"SELECT FROM vm_runtimes WHERE host_id = %s AND ({ORDERED} OR {GOES_ON}) ORDER BY vm_id FOR UPDATE", (host_id,)
    )
    done = await give_up_orders(tx, host_id)
    if host["drain"] == "stop":
        done += await tx.execute(
            "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1,"
            # Whoever waits for it, perhaps in the node's queue, reads why it does not come.
            " last_error = CASE vm_state WHEN 'starting' THEN %(starting)s ELSE last_error END"
            f" WHERE host_id = %(host)s AND {GOES_ON}",
            {
                "host": host_id,
                "starting": f"The node {host['name']}, on which this desktop was starting, is being drained",
            },
        )
    return done


async def give_up_orders(tx: ITransaction, host_id: HostId, only: VMId | None = None) -> int:
    """Orders to start that the node has not taken up stay orders, of VMs without a node: see L{IVMs.unplaced}."""
    return await tx.execute(
        "UPDATE vm_runtimes r SET host_id = NULL, phase = %(phase)s, detail = '',"
        " last_error = 'The node ' || h.name || ', on which this desktop was to start, is being drained'"
        f" FROM hosts h WHERE h.id = %(host)s AND r.host_id = h.id AND {ORDERED}"
        " AND coalesce(r.vm_id = %(only)s, true)",
        {"host": host_id, "phase": LOST_PHASE, "only": only},
    )
