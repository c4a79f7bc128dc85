"""
The farm as a Hypothesis state machine: orders, clients and faults in any order, with judgement at every step.

At the end of each example all is mended, and what rows say must be what runs within L{LIMIT} seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from attrs import define, field
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from zope.interface import provider

from qvd.hkd.cluster import Cluster
from qvd.hkd.fleet import Fleet
from qvd.hkd.heartbeat import Heartbeat
from qvd.hkd.node import Node
from qvd.hkd.periodic import Periodic
from qvd.hkd.runner import Runner
from qvd.hkd.tenure import Tenure
from qvd.l7r.connect import Attempt, Connector
from qvd.l7r.ledger import Ledger
from qvd.model.ids import HostId, VMId
from qvd.model.records import Desired, Drain
from qvd.model.vm import VMState
from tests.world.daemon import CLUSTER, DEADLINES, LEASE, RECONCILE
from tests.world.farm import Farm
from tests.world.observer import Violation, judge, judge_rows, unsettled

LIMIT = 2 * LEASE.lease + CLUSTER.margin + CLUSTER.interval + RECONCILE + DEADLINES.end + DEADLINES.start
"""A node that stays away is judged one lease after the database is well again; a stop may have to run its full course,
and an order that comes free then a start."""
STEPS = 25
"""Most rules of an example."""
PORTION = 500
"""Examples of one run of Hypothesis, which remembers all of them."""
UNDER_WAY = 1.1
"""Seconds, more than a statement needs for its way when nothing is wrong with it."""
LOOK = 4.0
QUIET = 2
"""Looks in a row that must find nothing."""
LOGGING = (Attempt, Cluster, Connector, Fleet, Heartbeat, Ledger, Node, Periodic, Runner, Tenure)
STATEMENTS = (
    "register renew set_state drain end_stale_sessions read_clock declare_lost bound pending claim_start acknowledge"
    " adopt account show save release claim connected has_ended end unended get order_start unplaced place_again"
).split()
FATES = ("lost", "unanswered", "late", "answered late", "crash before", "crash after")
OPERATIONS = ("prepare", "start", "shutdown", "kill", "destroy", "list")
TROUBLES = ("hang", "fail", "slow", "crash")

numbers = st.integers(1, 3)
vms = st.integers(1, 4)


@define
class Tally:
    """What an exploration has seen.

    @ivar interleavings: examples that ran to their end.
    @ivar schedules: their traces, hashed: the order of orders, faults, statements and operations.
    @ivar steps: rules that were applied.
    @ivar converged: longest time until rows and reality agreed, seconds.
    """

    interleavings: int = 0
    steps: int = 0
    converged: float = 0.0
    schedules: set[int] = field(factory=set)

    @property
    def distinct(self) -> int:
        return len(self.schedules)


class Interleaving(RuleBasedStateMachine):
    """One example.

    @cvar tally: where it is counted.
    @cvar forgets: the database may fail over to a server that has forgotten the last seconds.
    @cvar mutate: called with each new farm: breaks it on purpose, to see whether that is found.
    """

    tally = Tally()
    forgets = True
    mutate: Callable[[Farm], None] = staticmethod(lambda farm: None)

    def __init__(self) -> None:
        super().__init__()
        self.critical: list[Any] = []
        self.wanted: dict[int, bool] = {}
        self._stack = ExitStack()
        self._stack.enter_context(logs_kept(self.critical))
        self.farm: Farm | None = None

    @initialize(
        machines=st.integers(2, 3),
        count=st.integers(1, 4),
        memory=st.integers(1, 3),
        jitter=st.sampled_from((0.0, 0.05, 0.5, 1.0)),
        stop_vms=st.booleans(),
        running=st.integers(0, 2),
        chance=st.integers(0, 2**20),
    )
    def begin(
        self, machines: int, count: int, memory: int, jitter: float, stop_vms: bool, running: int, chance: int
    ) -> None:
        """Nodes that are up, and perhaps some desktops with their clients."""
        self.farm = farm = Farm(machines, count, chance, memory, stop_vms)
        self.mutate(farm)
        farm.judge = lambda: judge(farm)
        farm.advance(1.5)
        for vm_id in range(1, min(running, count) + 1):
            farm.connect(vm_id, 1 + vm_id % machines)
        farm.advance(3.0 if running else 0.0)
        farm.jitter = jitter

    def _note(self, *what: object) -> Farm:
        assert self.farm is not None
        type(self).tally.steps += 1
        self.farm.trace.append(what)
        return self.farm

    def _number(self, number: int) -> int:
        assert self.farm is not None
        return (number - 1) % len(self.farm.machines) + 1

    def _vm(self, number: int) -> int:
        assert self.farm is not None
        return (number - 1) % len(self.farm.db.vms) + 1

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.5, 1.0, 3.0, 6.0, 10.0, 14.0)))
    def time_passes(self, seconds: float) -> None:
        self._note("time", seconds).advance(seconds)

    @rule(vm_id=vms, number=numbers)
    def client_connects(self, vm_id: int, number: int) -> None:
        self._note("connect", vm_id, number).connect(self._vm(vm_id), self._number(number))
        self.wanted.pop(self._vm(vm_id), None)

    @precondition(lambda self: self.farm.clients)
    @rule(which=st.integers(0, 5))
    def client_leaves(self, which: int) -> None:
        farm = self._note("leave", which)
        farm.clients[which % len(farm.clients)].leave()

    @rule(vm_id=vms, running=st.booleans())
    def order(self, vm_id: int, running: bool) -> None:
        farm = self._note("order", vm_id, running)
        if farm.order(self._vm(vm_id), running) is None:
            # The desktops of a node that is to get empty are stopped, whoever wants them: that is an order, too.
            host_id = farm.db.vms[VMId(self._vm(vm_id))].vm.host_id
            emptied = host_id is not None and farm.db.hosts[host_id].drain is Drain.STOP
            self.wanted[self._vm(vm_id)] = running and not emptied

    @rule(number=numbers)
    def daemon_is_killed(self, number: int) -> None:
        self._note("kill", number).crash(self._number(number))

    @rule(number=numbers)
    def machine_loses_power(self, number: int) -> None:
        self._note("power", number).lose_power(self._number(number))

    @precondition(lambda self: not all(daemon.alive for daemon in self.farm.daemons))
    @rule(number=numbers)
    def daemon_is_started(self, number: int) -> None:
        self._note("start", number).restart(self._number(number))

    @rule(number=numbers)
    def daemon_is_asked_to_end(self, number: int) -> None:
        daemon = self._note("term", number).daemon(self._number(number))
        if daemon.runs:
            daemon.leave()

    @rule(number=numbers)
    def daemon_is_stopped(self, number: int) -> None:
        self._note("SIGSTOP", number).daemon(self._number(number)).stopped = True

    @precondition(lambda self: any(daemon.stopped for daemon in self.farm.daemons))
    @rule(number=numbers, timers_first=st.booleans())
    def daemon_goes_on(self, number: int, timers_first: bool) -> None:
        daemon = self._note("SIGCONT", number, timers_first).daemon(self._number(number))
        if daemon.stopped and daemon.alive:
            daemon.go_on(timers_first)

    @rule(number=numbers)
    def database_is_cut_off(self, number: int) -> None:
        self._note("cut", number).cut(self._number(number))

    @rule()
    def database_is_cut_off_for_all(self) -> None:
        farm = self._note("cut all")
        for machine in farm.machines:
            farm.cut(machine.number)

    @precondition(lambda self: not all(daemon.line.up for daemon in self.farm.daemons))
    @rule(number=numbers)
    def database_is_there_again(self, number: int) -> None:
        self._note("heal", number).heal(self._number(number))

    @rule(number=numbers, statement=st.sampled_from(("", *STATEMENTS)), fate=st.sampled_from(FATES))
    def statement_goes_wrong(self, number: int, statement: str, fate: str) -> None:
        """The next one of its kind."""
        self._note("plan", number).plans[self._number(number), statement].append(fate)

    @rule(number=numbers, operation=st.sampled_from(OPERATIONS), trouble=st.sampled_from(TROUBLES))
    def hypervisor_has_trouble(self, number: int, operation: str, trouble: str) -> None:
        self._note("trouble", number).troubles[self._number(number), operation].append(trouble)

    @rule(mood=st.sampled_from(("rung", "lost", "twice")))
    def bells_become(self, mood: str) -> None:
        self._note("bells", mood).bells = mood

    @rule()
    def database_restarts(self) -> None:
        self._note("restart").restart_database()

    @precondition(lambda self: self.forgets)
    @rule(back=st.sampled_from((0.5, 2.0, 5.0, 10.0)))
    def database_fails_over(self, back: float) -> None:
        """To a server that has not heard of the last seconds, and of no order in them."""
        self._note("fail over", back).restart_database(back)
        self.wanted.clear()

    @rule(number=numbers, drain=st.sampled_from((None, *Drain)), blocked=st.booleans())
    def node_gets_flags(self, number: int, drain: Drain | None, blocked: bool) -> None:
        """By an administrator. What is stopped by that is stopped by an order."""
        farm = self._note("flags", number, drain, blocked)
        farm.db.set_flags(HostId(self._number(number)), drain, blocked)
        farm.committed(0, "flags")
        if drain is Drain.STOP:
            self.wanted.clear()

    @rule(by=st.sampled_from((-3600.0, -10.0, -1.0, 1.0, 10.0, 3600.0)))
    def database_clock_is_set(self, by: float) -> None:
        self._note("clock", by).set_clock(by)

    @precondition(lambda self: any(machine.guests for machine in self.farm.machines))
    @rule(vm_id=vms, what=st.sampled_from(("ends", "hangs", "is stubborn")))
    def guest(self, vm_id: int, what: str) -> None:
        farm = self._note("guest", vm_id, what)
        for machine in farm.machines:
            guest = machine.guests.get(VMId(self._vm(vm_id)))
            if guest is not None:
                guest.hung, guest.stubborn = guest.hung or what == "hangs", guest.stubborn or what == "is stubborn"
                if what == "ends":
                    machine.end(guest, "The guest has ended")

    @invariant()
    def rows_are_sound(self) -> None:
        if self.farm is not None:
            judge_rows(self.farm)

    def teardown(self) -> None:
        try:
            if self.farm is not None:
                self._converge(self.farm)
                self._count(self.farm)
        finally:
            self._stack.close()
            self.farm = None

    def _count(self, farm: Farm) -> None:
        tally = type(self).tally
        tally.interleavings += 1
        tally.schedules.add(hash(tuple(farm.trace)))

    def _converge(self, farm: Farm) -> None:
        mend(farm, farm.random.random() < 0.7)
        passed, quiet = 0.0, 0
        while quiet < QUIET and passed < LIMIT + QUIET * LOOK:
            farm.advance(LOOK)
            judge_rows(farm)
            passed += LOOK
            quiet = 0 if unsettled(farm) else quiet + 1
        left = unsettled(farm) + self._unfulfilled(farm)
        if left:
            raise Violation(f"after {passed} s: " + "; ".join(left))
        type(self).tally.converged = max(type(self).tally.converged, passed - (QUIET - 1) * LOOK)
        if self.critical:
            raise Violation(f"logged: {self.critical[0]}")

    def _unfulfilled(self, farm: Farm) -> list[str]:
        """Accepted orders that came to nothing without a word."""
        rows = {vm_id: farm.db.vms[VMId(vm_id)].vm for vm_id, running in self.wanted.items() if running}
        return [
            f"VM {vm_id}: nothing says why it does not run"
            for vm_id, vm in rows.items()
            if vm.state is VMState.STOPPED and vm.desired is Desired.STOPPED and not vm.last_error
        ]


def mend(farm: Farm, everything: bool) -> None:
    """No more faults. A node that is not there stays away, unless C{everything} is to come back, or none is left."""
    farm.plans.clear()
    farm.troubles.clear()
    # A crash that was planned may be on its way.
    farm.advance(UNDER_WAY)
    farm.bells, farm.jitter = "rung", min(farm.jitter, 0.05)
    # A clock that was set back makes leases of an hour: losses are found when it has caught up.
    farm.set_clock(farm.furthest - farm.offset)
    for machine in farm.machines:
        daemon = farm.daemon(machine.number)
        if daemon.stopped and daemon.alive:
            daemon.go_on(farm.random.random() < 0.5)
        if not daemon.line.up:
            farm.heal(machine.number)
    alive = [machine for machine in farm.machines if farm.daemon(machine.number).ended is None]
    alive = [machine for machine in alive if farm.daemon(machine.number).alive]
    for machine in farm.machines:
        if everything or not alive:
            if farm.daemon(machine.number).ended is not None:
                farm.crash(machine.number)
            farm.restart(machine.number)


@contextmanager
def logs_kept(critical: list[Any]) -> Iterator[None]:
    """What the product logs goes nowhere, but for failures nobody expects."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.critical:
            failure = event.get("log_failure")
            critical.append(f"{event['log_format']}: {failure.getTraceback() if failure else ''}")

    with ExitStack() as stack:
        for kind in LOGGING:
            stack.enter_context(patch.object(kind, "log", Logger(kind.__name__, observer=observe)))
        yield


def explore(
    wanted: int,
    first_seed: int,
    mutate: Callable[[Farm], None] = lambda farm: None,
    shrink: bool = True,
    forgets: bool = True,
) -> Tally:
    """Run interleavings until so many I{different} ones were seen; the same ones for the same C{first_seed}.

    @param mutate: breaks each farm on purpose.
    @param forgets: see L{Interleaving}.
    @param shrink: make a violation's example small before it is raised.
    @raise Violation: something was that must never be. Hypothesis prints the example.
    """
    tally = Tally()
    made = type("Interleaving", (Interleaving,), {"tally": tally, "mutate": staticmethod(mutate), "forgets": forgets})
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    number = first_seed
    while tally.distinct < wanted:
        chosen = settings(
            max_examples=min(PORTION, 10 + wanted - tally.distinct),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(number)(made), settings=chosen)
        number += 1
    return tally
