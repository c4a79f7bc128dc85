"""What befalls a farm of two nodes. Each scenario begins and ends with two nodes at work and no VM running."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

from tests.integration.farm import eventually
from tests.soak.clocks import clock_of_a_node, clock_of_the_database, fake_time_library
from tests.soak.failovers import (
    forgotten_move,
    forgotten_node,
    forgotten_registration,
    forgotten_session,
    forgotten_start,
)
from tests.soak.faultfarm import BOUND, LEASE, MACHINE, MARGIN, FaultFarm, FaultNode
from tests.soak.outcome import Outcome, Scenario, taken_over
from tests.soak.pgproxy import Bells

WITHIN = LEASE / 4
"""Seconds without a database that a node and its VMs survive: the fence falls at three quarters of a lease."""
LOSSES = "SELECT id, at, before, after, cause FROM events WHERE kind = 'host.lost' AND id > %s"
BEYOND = LEASE + MARGIN + 2


def killed_machine(farm: FaultFarm) -> Outcome:
    """SIGKILL for a node and its guests; a session of another node goes on."""
    one, two = farm.nodes
    first, second = farm.vms
    farm.run_vm(one, first)
    farm.run_vm(two, second)
    farm.connect(two, second)
    one.kill_machine()
    seconds = taken_over(farm, first, two)
    lost = farm.lost_clients()
    one.start()
    farm.converge("the killed node is back", also=lambda: farm.runs_on(first) is two)
    return Outcome(seconds, lost)


def killed_daemon(farm: FaultFarm) -> Outcome:
    """SIGKILL for the daemon alone, which is started again: the VM has not noticed."""
    one, _ = farm.nodes
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    before = farm.guests(vm_id)
    one.kill()
    one.start()
    seconds = farm.converge("the VM is adopted", also=lambda: farm.runs_on(vm_id) is one)
    (after,) = farm.guests(vm_id)
    assert [after.pid] == [each.pid for each in before]
    return Outcome(seconds)


def killed_and_not_missed(farm: FaultFarm) -> Outcome:
    """SIGKILL for the daemon alone, which is not started again: its watchdog ends the VM in time."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    one.kill()
    seconds = taken_over(farm, vm_id, two)
    one.start()
    farm.converge("the killed node is back", also=lambda: farm.runs_on(vm_id) is two)
    return Outcome(seconds)


def unwatched(farm: FaultFarm) -> Outcome:
    """SIGKILL for the daemon and the watchdog: the supervisors keep the deadline."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    one.kill()
    for watchdog in one.watchdogs():
        watchdog.kill()
    seconds = taken_over(farm, vm_id, two)
    one.start()
    farm.converge("the killed node is back", also=lambda: farm.runs_on(vm_id) is two)
    return Outcome(seconds)


def stopped(leases: float) -> Scenario:
    """SIGSTOP for the daemon and its watchdog, and SIGCONT some leases later: its VM has another node by then."""

    def scenario(farm: FaultFarm) -> Outcome:
        one, two = farm.nodes
        vm_id = farm.vms[0]
        farm.run_vm(one, vm_id)
        watchdogs = one.watchdogs()
        until = time.monotonic() + leases * LEASE
        one.should_run = False
        one.signal(signal.SIGSTOP)
        for watchdog in watchdogs:
            watchdog.suspend()
        try:
            seconds = taken_over(farm, vm_id, two)
            time.sleep(max(until - time.monotonic(), 0))
        finally:
            one.signal(signal.SIGCONT)
            for watchdog in watchdogs:
                watchdog.resume()
        one.should_run = True
        back = farm.converge("the stopped node is back", also=lambda: farm.runs_on(vm_id) is two)
        return Outcome(max(seconds, back))

    return scenario


def cut_within(cut: Callable[[FaultNode], None]) -> Scenario:
    """No database for less than a fence: nothing that runs notices."""

    def scenario(farm: FaultFarm) -> Outcome:
        one, _ = farm.nodes
        vm_id = farm.vms[0]
        farm.run_vm(one, vm_id)
        before = farm.guests(vm_id)
        farm.connect(one, vm_id)
        epoch = farm.host(one)["epoch"]
        cut(one)
        time.sleep(WITHIN)
        one.proxy.heal()
        seconds = farm.converge("all goes on", also=lambda: farm.runs_on(vm_id) is one)
        assert farm.host(one)["epoch"] == epoch
        assert [each.pid for each in farm.guests(vm_id)] == [each.pid for each in before]
        return Outcome(seconds, farm.lost_clients())

    return scenario


def cut_beyond(cut: Callable[[FaultNode], None]) -> Scenario:
    """No database for longer than a lease: the VM goes on elsewhere, and what was held back comes to nothing."""

    def scenario(farm: FaultFarm) -> Outcome:
        one, two = farm.nodes
        vm_id = farm.vms[0]
        farm.run_vm(one, vm_id)
        one.should_run = False
        cut(one)
        seconds = taken_over(farm, vm_id, two)
        one.proxy.heal()
        one.should_run = True
        back = farm.converge("the cut node is back", also=lambda: farm.runs_on(vm_id) is two)
        return Outcome(max(seconds, back))

    return scenario


def cut_while_starting(farm: FaultFarm) -> Outcome:
    """The database falls silent as a start is claimed; another node has the VM when what was said arrives."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    farm.order_on(one, vm_id)
    one.should_run = False
    one.proxy.mute()
    withdraw(farm, vm_id)
    seconds = taken_over(farm, vm_id, two)
    one.proxy.heal()
    one.should_run = True
    back = farm.converge("the cut node is back", also=lambda: farm.runs_on(vm_id) is two)
    return Outcome(max(seconds, back))


def withdraw(farm: FaultFarm, vm_id: int) -> None:
    """An order that was not taken up is placed on another node by itself; withdraw it, so that we can."""
    eventually(lambda: farm.vm(vm_id)["host_id"] != farm.nodes[0].host_id, "the node is lost", BOUND)
    farm.order_stop(vm_id)


def everybody_cut(farm: FaultFarm) -> Outcome:
    """No node has a database for longer than a lease: all end their VMs, and all come back."""
    one, two = farm.nodes
    first, second = farm.vms
    farm.run_vm(one, first)
    farm.run_vm(two, second)
    newest = max((row["id"] for row in farm.rows(LOSSES, 0)), default=0)
    for node in farm.nodes:
        node.proxy.partition()
    eventually(lambda: not farm.watch.live(), "all VMs are dead", LEASE + MACHINE)
    time.sleep(BEYOND - LEASE)
    for node in farm.nodes:
        node.proxy.heal()
    seconds = farm.converge("all are back", also=lambda: farm.runs_on(first) is farm.runs_on(second) is None)
    # Whoever is back first waits for the other one, and for no longer than a lease.
    lost = farm.rows(LOSSES, newest)
    assert lost == [] or seconds > LEASE, lost
    return Outcome(seconds)


def two_partitions(farm: FaultFarm) -> Outcome:
    """One node and then the other: the VM goes to and fro."""
    one, two = farm.nodes
    vm_id = farm.vms[0]
    farm.run_vm(one, vm_id)
    most = 0.0
    for cut, other in ((one, two), (two, one)):
        cut.should_run = False
        cut.proxy.partition()
        most = max(most, taken_over(farm, vm_id, other))
        cut.proxy.heal()
        cut.should_run = True
        most = max(most, farm.converge("the cut node is back", also=lambda: farm.runs_on(vm_id) is other))  # noqa: B023
    return Outcome(most)


def restarted_database(mode: str) -> Scenario:
    """The server is restarted: sessions and VMs go on, and the next VM starts when it may."""

    def scenario(farm: FaultFarm) -> Outcome:
        one, two = farm.nodes
        first, second = farm.vms
        farm.run_vm(one, first)
        before = farm.guests(first)
        farm.connect(one, first)
        epochs = [farm.host(node)["epoch"] for node in farm.nodes]
        began = time.monotonic()
        farm.server.stop(mode)
        farm.server.start()
        if time.monotonic() - began > WITHIN:
            # Too slow a machine for this: the fences may fall.
            farm.lost_clients()
            return Outcome(farm.converge("the nodes have the database back", BOUND + LEASE))
        farm.order_on(two, second)
        seconds = farm.converge("all goes on", also=lambda: farm.runs_on(second) is two)
        assert [farm.host(node)["epoch"] for node in farm.nodes] == epochs
        assert [each.pid for each in farm.guests(first)] == [each.pid for each in before]
        return Outcome(seconds, farm.lost_clients())

    return scenario


def bells(kind: Bells) -> Scenario:
    """Notifications are lost, or come twice: orders are carried out all the same."""

    def scenario(farm: FaultFarm) -> Outcome:
        one, two = farm.nodes
        first, second = farm.vms
        for node in farm.nodes:
            node.proxy.bells = kind
        try:
            began = time.monotonic()
            farm.run_vm(one, first)
            farm.run_vm(two, second)
            started = (time.monotonic() - began) / 2
            older = farm.connect(one, first)
            farm.connect(two, first)
            farm.clients.remove(older)
            eventually(lambda: farm.complaints() == [], "the newer client has it")
            assert older.closed()
            lost = farm.lost_clients()
            for vm_id in farm.vms:
                farm.order_stop(vm_id)
            return Outcome(max(started, farm.converge("all is stopped", also=lambda: not farm.watch.live())), lost)
        finally:
            for node in farm.nodes:
                node.proxy.bells = Bells.PASS

    return scenario


SCENARIOS: Mapping[str, Scenario] = {
    "SIGKILL, machine": killed_machine,
    "SIGKILL, daemon": killed_daemon,
    "SIGKILL, daemon, for good": killed_and_not_missed,
    "SIGKILL, daemon and watchdog": unwatched,
    "SIGSTOP, ten leases": stopped(10),
    "database cut, within": cut_within(lambda node: node.proxy.partition()),
    "database mute, within": cut_within(lambda node: node.proxy.mute()),
    "database cut, beyond": cut_beyond(lambda node: node.proxy.partition()),
    "database mute, beyond": cut_beyond(lambda node: node.proxy.mute()),
    "database mute, starting": cut_while_starting,
    "database cut, everybody": everybody_cut,
    "two partitions": two_partitions,
    "restart, fast": restarted_database("fast"),
    "restart, immediate": restarted_database("immediate"),
    "fail-over, start forgotten": forgotten_start,
    "fail-over, node forgotten": forgotten_node,
    "fail-over, move forgotten": forgotten_move,
    "fail-over, epoch forgotten": forgotten_registration,
    "fail-over, session forgotten": forgotten_session,
    "bells dropped": bells(Bells.DROP),
    "bells doubled": bells(Bells.DOUBLE),
    "clock, node": clock_of_a_node,
    "clock, database": clock_of_the_database,
}

if fake_time_library() is None:
    SCENARIOS = {name: scenario for name, scenario in SCENARIOS.items() if not name.startswith("clock")}

__all__ = ["SCENARIOS", "stopped"]
