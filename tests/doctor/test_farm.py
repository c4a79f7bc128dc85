"""What the database tells of nodes, VMs and sessions: what is a fault and what is not."""

from __future__ import annotations

from qvd.doctor.findings import Finding, Result
from tests.doctor.world import Setup

ON_NODE = "UPDATE vm_runtimes SET host_id = (SELECT id FROM hosts), host_epoch = 1"
RUNNING = f"{ON_NODE}, vm_state = 'running', vm_address = '::1', vm_vma_port = 1, vm_x_port = 2, vma_ok_ts = now()"


def only(setup: Setup, check: str) -> Finding:
    [found] = setup.look([check]).findings
    return found


def test_nodes_that_are_kept_from_work_are_notes(setup: Setup) -> None:
    setup.ask("UPDATE host_runtimes SET blocked = true, drain = 'wait'")
    found = only(setup, "hosts.lease")
    assert found.result is Result.NOTE
    assert "blocked and drained" in found.sentence


def test_a_node_that_was_decommissioned_is_nobodys_trouble(setup: Setup) -> None:
    setup.add_node("old")
    setup.ask(
        "UPDATE host_runtimes SET decommissioned_at = now(), state = 'lost'"
        " WHERE host_id = (SELECT id FROM hosts WHERE name = 'old')"
    )
    assert only(setup, "hosts.lease").looked_at == "node node1"


def test_a_stopped_node_is_a_fault_if_it_has_vms(setup: Setup) -> None:
    setup.ask("UPDATE host_runtimes SET state = 'stopped'")
    assert only(setup, "hosts.lease").result is Result.NOTE
    setup.add_vm()
    setup.ask(RUNNING)
    found = only(setup, "hosts.lease")
    assert found.result is Result.FAILURE
    assert "1 VM depends on it" in found.sentence


def test_no_node(setup: Setup) -> None:
    setup.ask("DELETE FROM hosts")
    assert "no VM can run" in only(setup, "hosts.lease").sentence


def test_a_vm_on_its_way_has_time(setup: Setup) -> None:
    setup.add_vm()
    setup.ask(f"{ON_NODE}, vm_state = 'starting', phase = 'boot', since = now() - interval '5 minutes'")
    assert only(setup, "vms.stuck").result is Result.OK


def test_an_order_that_nobody_heeds(setup: Setup) -> None:
    setup.add_vm()
    setup.ask(f"{ON_NODE}, generation = 1, desired_state = 'running', since = now() - interval '1 hour'")
    assert only(setup, "vms.stuck").result is Result.OK  # it is new
    setup.ask("UPDATE events SET at = now() - interval '1 hour'")
    found = only(setup, "vms.stuck")
    assert found.result is Result.FAILURE
    assert "wanted running, and its node node1 does not heed" in found.sentence


def test_a_session_that_is_served(setup: Setup) -> None:
    setup.add_vm()
    setup.ask(RUNNING)
    setup.ask(
        "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state, started_at)"
        " SELECT gen_random_uuid(), v.tenant_id, v.id, v.user_id, h.id, 1, '::1', 'connected',"
        " now() - interval '1 hour' FROM vms v, hosts h"
    )
    setup.ask("UPDATE vm_runtimes SET session_id = (SELECT id FROM sessions)")
    found = only(setup, "sessions.open")
    assert (found.result, found.sentence) == (Result.OK, "all that are open (1) are served")
    setup.ask("UPDATE host_runtimes SET lease_until = now() - interval '5 minutes'")
    assert "the lease of its node is over" in only(setup, "sessions.open").sentence


def test_the_nodes_role_may_not_see_jobs(setup: Setup) -> None:
    setup.raw["admin"] = None
    [found] = [each for each in setup.look(["jobs"]).findings if each.check == "jobs.failed"]
    assert found.result is Result.NOT_APPLICABLE


def test_a_job_that_nobody_works_at(setup: Setup) -> None:
    setup.ask(
        "INSERT INTO jobs (kind, tenant_id, administrator_name, acls, request_id, client_address, arguments,"
        " created_at) VALUES ('image.verify', 0, 'anna', '{}', 'r', '::1', '{}', now() - interval '2 hours')"
    )
    found = only(setup, "jobs.failed")
    assert found.result is Result.FAILURE
    assert "start qvd-admin" in found.mend
