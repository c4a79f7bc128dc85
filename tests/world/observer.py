"""
Judges the farm by what runs, not by what rows say; and, once all is healed and quiet, whether rows say what runs.
"""

from __future__ import annotations

from qvd.model.ids import HostId
from qvd.model.records import Desired, HostState
from qvd.model.vm import VMState
from tests.world.farm import Farm


class Violation(AssertionError):
    """What must never be."""


def judge(farm: Farm) -> None:
    """At each moment.

    @raise Violation: a VM runs twice, a home is mounted twice, or a machine has promised more than it has.
    """
    where: dict[object, str] = {}
    for machine in farm.machines:
        for guest in machine.guests.values():
            for thing in (f"VM {guest.vm_id}", f"the home {guest.home}"):
                if thing in where:
                    raise Violation(f"{thing} is on {where[thing]} and on {machine.name}")
                where[thing] = machine.name
        used = sum(guest.memory for guest in machine.guests.values())
        if used > machine.memory:
            raise Violation(f"{machine.name} runs VMs of {used} bytes and has {machine.memory}")


def judge_rows(farm: Farm) -> None:
    """At each moment, of the rows alone.

    @raise Violation: more is bound to a node than it has, or a VM has a session that is over or another VM's.
    """
    for host in farm.db.hosts.values():
        bound = farm.db.reserved(host.host_id)
        if host.usable and bound > host.usable:
            raise Violation(f"{host.name} has {bound} bytes bound of {host.usable}")
    for row in farm.db.vms.values():
        if row.vm.session_id is not None:
            session = farm.db.sessions[row.vm.session_id]
            if session.ended or session.vm_id != row.vm.vm_id:
                raise Violation(f"VM {row.vm.vm_id} has the session {session}")


def unsettled(farm: Farm) -> list[str]:
    """What is not as it should be when nothing is broken, and enough time has passed."""
    return [*_vms(farm), *_machines(farm), *_sessions(farm), *_clients(farm)]


def _vms(farm: Farm) -> list[str]:
    found = []
    for row in farm.db.vms.values():
        vm = row.vm
        runs = [machine for machine in farm.machines if vm.vm_id in machine.guests]
        text = f"VM {vm.vm_id} ({vm.state.value}, {vm.phase}, wanted {vm.desired.value}, node {vm.host_id}.{vm.epoch})"
        if vm.generation > vm.acked:
            found.append(f"{text}: an order was not taken up")
        elif vm.state is VMState.RUNNING and vm.desired is Desired.RUNNING:
            guests = [machine.guests[vm.vm_id].guest for machine in runs if machine.number == vm.host_id]
            if guests != [vm.guest]:
                found.append(f"{text}: runs on {[machine.name for machine in runs]}")
        elif vm.state is VMState.STOPPED and vm.desired is Desired.STOPPED:
            if vm.host_id is not None or runs:
                found.append(f"{text}: bound, or runs on {[machine.name for machine in runs]}")
        else:
            found.append(f"{text}: neither runs nor is stopped")
        host = None if vm.host_id is None else farm.db.hosts[vm.host_id]
        if host is not None and (host.state is not HostState.RUNNING or host.epoch != vm.epoch):
            found.append(f"{text}: bound to {host}")
    return found


def _machines(farm: Farm) -> list[str]:
    found = []
    for machine in farm.machines:
        bound = {row.vm.vm_id for row in farm.db.vms.values() if row.vm.host_id == machine.number}
        orphans = machine.prepared - bound
        if farm.daemon(machine.number).alive:
            found += [f"{machine.name} has leftovers of VM {vm_id}" for vm_id in orphans]
        found += [f"{machine.name} runs VM {vm_id}" for vm_id in machine.guests if vm_id not in bound]
        host = farm.db.hosts[HostId(machine.number)]
        if farm.daemon(machine.number).alive and host.state is not HostState.RUNNING:
            found.append(f"{machine.name} is {host.state.value}")
        if farm.daemon(machine.number).failed:
            found.append(f"{machine.name} has given up")
    return found


def _sessions(farm: Farm) -> list[str]:
    found = []
    for session in farm.db.sessions.values():
        daemon = farm.daemon(session.host_id)
        served = daemon.alive and daemon.ledger.serves(session.session_id)
        if session.ended == served:
            found.append(f"session {session}: served {served}")
    return found


def _clients(farm: Farm) -> list[str]:
    """Each has what it came for, or was told why not."""
    found = []
    for client in farm.clients:
        if client.outcome == "":
            found.append(f"a client of VM {client.vm_id} was turned away without a word")
        if client.outcome is None and not client.connected:
            found.append(f"a client of VM {client.vm_id} still waits")
    return found
