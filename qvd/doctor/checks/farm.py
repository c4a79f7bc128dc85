# -*- test-case-name: tests.doctor.test_farm -*-
"""What the database tells of nodes, VMs, sessions and jobs."""

from __future__ import annotations

from collections.abc import Iterator

from qvd.doctor.checks.images import few
from qvd.doctor.findings import Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import Place

STUCK_MINUTES = 20
"""More than a start may take with the settings as shipped: ten minutes in the queue, three to boot."""
ORDERED_MINUTES, SILENT_MINUTES, JOB_DAYS = 5, 5, 7
NODES = """
    SELECT n.name, r.state, r.blocked, r.drain, extract(epoch FROM r.lease_until - clock_timestamp())::float8 AS lease,
        extract(epoch FROM clock_timestamp() - r.ok_ts)::float8 AS silent,
        (SELECT count(*) FROM vm_runtimes v WHERE v.host_id = n.id) AS vms
    FROM hosts n JOIN host_runtimes r ON r.host_id = n.id WHERE r.decommissioned_at IS NULL ORDER BY n.name
"""


def look_at_nodes(place: Place) -> Iterator[Finding]:
    """Each renews its lease."""
    with place.reading() as reader:
        rows = reader.rows(NODES)
    if not rows:
        yield failure(
            "nodes", "There is none: no VM can run", "qvd-db enrolment-token here, and qvd-node enrol on a machine"
        )
    for row in rows:
        looked_at, lease = f"node {row['name']}", row["lease"]
        vms = f" {row['vms']} {'VM depends' if row['vms'] == 1 else 'VMs depend'} on it." if row["vms"] else ""
        match row["state"]:
            case "lost":
                yield failure(
                    looked_at,
                    f"It is lost: it has been silent for {minutes(row['silent'])}.{vms}".rstrip("."),
                    "see to that machine: its power, its network, 'journalctl -u qvd-node'; it comes back by itself",
                )
            case "stopped":
                word = failure if row["vms"] else note
                yield word(
                    looked_at,
                    f"Its daemon does not run.{vms}".rstrip("."),
                    "systemctl start qvd-node there; or decommission the node",
                )
            case state if lease is not None and lease < 0:
                yield failure(
                    looked_at,
                    f"Its lease is over since {minutes(-lease)}, and its state is still {state}: no other node runs"
                    f" that could say that it is lost.{vms}".rstrip("."),
                    "start its daemon, or another node's (journalctl -u qvd-node); or declare it dead (qvd host)",
                )
            case state:
                flags = [word for word, set_ in (("blocked", row["blocked"]), ("drained", row["drain"])) if set_]
                said = f"{state}, with a lease for {0.0 if lease is None else lease:.0f} s more"
                if flags:
                    yield note(looked_at, f"It is {said}, and {' and '.join(flags)}: it takes no new VMs")
                else:
                    yield ok(looked_at, said)


def minutes(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def look_at_vms(place: Place) -> Iterator[Finding]:
    """None is stuck on its way, waits for a node that does not heed it, or is silent."""
    with place.reading() as reader:
        stuck = reader.rows(
            "SELECT v.name, v.id, r.vm_state, r.phase, r.detail, coalesce(n.name, '') AS node,"
            " extract(epoch FROM now() - r.since)::float8 AS seconds FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
            " LEFT JOIN hosts n ON n.id = r.host_id WHERE r.vm_state IN ('starting', 'stopping', 'zombie')"
            " AND r.since < now() - %s * interval '1 minute' ORDER BY r.since",
            (STUCK_MINUTES,),
        )
        unheeded = reader.rows(
            "SELECT v.name, v.id, r.desired_state, n.name AS node FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
            " JOIN hosts n ON n.id = r.host_id WHERE r.generation > r.acked_generation"
            " AND r.vm_state IN ('stopped', 'running') AND r.since < now() - %(minutes)s * interval '1 minute'"
            " AND NOT EXISTS (SELECT FROM events e WHERE e.vm_id = r.vm_id AND e.at > now()"
            " - %(minutes)s * interval '1 minute') ORDER BY v.id",
            {"minutes": ORDERED_MINUTES},
        )
        silent = reader.rows(
            "SELECT v.name, v.id, n.name AS node, extract(epoch FROM now() - r.vma_ok_ts)::float8 AS seconds"
            " FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN hosts n ON n.id = r.host_id"
            " WHERE r.vm_state = 'running' AND r.vma_ok_ts < now() - %s * interval '1 minute' ORDER BY r.vma_ok_ts",
            (SILENT_MINUTES,),
        )
        total = reader.one("SELECT count(*) AS n FROM vm_runtimes WHERE vm_state <> 'stopped'")["n"]
    found = [
        failure(
            f"VM {row['id']} {row['name']!r}",
            f"It is {row['vm_state']} for {minutes(row['seconds'])} on {row['node'] or 'no node'}"
            f" ({row['phase']}{': ' + row['detail'] if row['detail'] else ''})",
            f"'qvd vm history {row['id']}' says how it got there; stop it by force, and see the log of its node",
        )
        for row in stuck
    ]
    found += [
        failure(
            f"VM {row['id']} {row['name']!r}",
            f"It is wanted {row['desired_state']}, and its node {row['node']} does not heed that",
            f"see whether qvd-node works on {row['node']} (hosts.lease, journalctl -u qvd-node)",
        )
        for row in unheeded
    ]
    found += [
        warning(
            f"VM {row['id']} {row['name']!r}",
            f"It is running on {row['node']}, and nobody has heard of its agent for {minutes(row['seconds'])}",
            "see its console; stop and start it",
        )
        for row in silent
    ]
    yield from few(found)
    if not found:
        yield ok("virtual machines", f"none is stuck, of those that are not stopped ({total})")


def look_at_sessions(place: Place) -> Iterator[Finding]:
    """What is said to be open is served by somebody."""
    with place.reading() as reader:
        rows = reader.rows(
            "SELECT s.id::text, v.name AS vm, n.name AS node, CASE"
            " WHEN s.started_at > now() - interval '2 minutes' THEN NULL"
            " WHEN s.host_epoch < h.epoch AND s.instance IS NULL THEN 'its node has begun anew since'"
            " WHEN h.lease_until < clock_timestamp() - interval '1 minute' THEN 'the lease of its node is over'"
            " WHEN r.vm_state = 'stopped' AND r.since < now() - interval '1 minute' THEN 'its VM is stopped'"
            " WHEN r.session_id IS DISTINCT FROM s.id THEN 'its VM has another session, or none' END AS why"
            " FROM sessions s JOIN vms v ON v.id = s.vm_id JOIN vm_runtimes r ON r.vm_id = s.vm_id"
            " JOIN hosts n ON n.id = s.host_id JOIN host_runtimes h ON h.host_id = n.id"
            " WHERE s.ended_at IS NULL ORDER BY s.started_at"
        )
    found = [
        warning(
            f"session {row['id']} of the VM {row['vm']!r}",
            f"It counts as open on {row['node']}, and {row['why']}",
            f"start qvd-node on {row['node']}, which tidies up; or disconnect its user (qvd vm disconnect)",
        )
        for row in rows
        if row["why"] is not None
    ]
    yield from few(found)
    if not found:
        yield ok("sessions", f"all that are open ({len(rows)}) are served")


def look_at_jobs(place: Place) -> Iterator[Finding]:
    """None has failed lately, and somebody goes on with each."""
    with place.reading() as reader:
        if not reader.one("SELECT has_table_privilege('jobs', 'SELECT') AS may")["may"]:
            yield not_applicable("jobs", "the node's role may not see them: run the doctor where the administration is")
            return
        rows = reader.rows(
            "SELECT id, kind, object_name, state, coalesce(problem ->> 'detail', problem ->> 'title', '') AS why"
            " FROM jobs WHERE state IN ('failed', 'partial') AND ended_at > now() - %s * interval '1 day'"
            " ORDER BY ended_at DESC",
            (JOB_DAYS,),
        )
        idle = reader.rows(
            "SELECT id, kind, object_name FROM jobs WHERE state = 'running'"
            " AND lease_until < clock_timestamp() - interval '2 minutes'"
            " OR state = 'queued' AND created_at < now() - interval '30 minutes' ORDER BY id"
        )
    found = [
        failure(
            f"job {row['id']} ({row['kind']} {row['object_name']})",
            "It waits, and nobody works at it",
            "start qvd-admin; where it runs, see its log, and whether it has path.storage.images",
        )
        for row in idle
    ]
    found += [
        warning(
            f"job {row['id']} ({row['kind']} {row['object_name']})",
            "It has failed" + (" in part" if row["state"] == "partial" else "") + (row["why"] and f": {row['why']}"),
            f"'qvd job get {row['id']}' tells more; mend what it says, and ask for it again",
        )
        for row in rows
    ]
    yield from few(found)
    if not found:
        yield ok("jobs", f"none has failed within {JOB_DAYS} days, and none waits for want of a worker")
