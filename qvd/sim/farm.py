# -*- test-case-name: tests.contract.test_sim_run -*-
"""A farm for one day: builds it from a scenario, lets the day pass, and keeps the record."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from qvd.demo.tls import make_certificates
from qvd.model.errors import QVDError
from qvd.model.ids import TenantId, VMId
from qvd.model.records import VMSpec
from qvd.model.secret import Secret
from qvd.sim.behaviour import Drawn
from qvd.sim.clock import VirtualClock
from qvd.sim.database import SimulationDatabase
from qvd.sim.driver import SimulatedMachine
from qvd.sim.guests import Network
from qvd.sim.node import SimulatedNode, Surroundings
from qvd.sim.observer import Observer
from qvd.sim.pump import Assembly, Pump, Turns
from qvd.sim.record import Record, Sample
from qvd.sim.scenario import Fault, FaultKind, Logins, Pace, Scenario
from qvd.sim.users import Person, UserDay, Visit
from qvd.sim.wires import Outside, Wire

WARM_UP = 300.0
"""Seconds in which the nodes must be up."""
POOL_SIZE = 2
CONNECTIONS_OF_A_NODE = POOL_SIZE + 2


class SimulationError(QVDError):
    """The simulation cannot go on."""

    code = "simulation"


class Farm:
    """One run.

    @param real: the reactor.
    @param folder: for certificates.
    @param tell: called with a line of news now and then.
    """

    log = Logger()

    def __init__(
        self,
        real: Any,
        scenario: Scenario,
        database: SimulationDatabase,
        folder: Path,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._real = real
        self._scenario = scenario
        self._database = database
        self._folder = folder
        self._tell = tell
        self._virtual = scenario.pace is Pace.VIRTUAL
        self.clock: Any = VirtualClock(scenario.start - WARM_UP) if self._virtual else real
        self._turns = Turns(lambda: database.set_time(self.clock.seconds())) if self._virtual else None
        self._assembly = Assembly(real)
        self.observer = Observer(self.day)
        self._network = Network()
        self._offset = 0.0 if self._virtual else real.seconds() - scenario.start
        self._ports = count(10_000)
        self._asked_before: Mapping[str, int] = {}
        self._days: list[Deferred[None]] = []
        self.nodes: list[SimulatedNode] = []
        self.record = Record(scenario)
        self._pump = Pump(
            real,
            self.clock,
            lambda: sum(node.asked for node in self.nodes),
            self._busy,
            self._settle,
        )

    def day(self) -> float:
        """Second of the simulated day."""
        return float(self.clock.seconds()) - self._offset

    def _busy(self) -> bool:
        return (self._turns is not None and self._turns.busy) or any(node.waits for node in self.nodes)

    def _settle(self) -> Awaitable[None]:
        return self._assembly.call(self._database.ring, [node.reactor for node in self.nodes if node.hears])

    async def run(self) -> Record:
        """The whole day.

        @raise SimulationError: the nodes do not come up.
        """
        globalLogPublisher.addObserver(self._count_failures)  # type: ignore[arg-type]
        began = self._real.seconds()
        try:
            self._build()
            await self._warm_up()
            self._plan()
            # Ten thousand guests are there to stay: looking through them again and again for garbage takes longer than
            # all else.
            gc.freeze()
            self._tell(f"{len(self.nodes)} nodes are up")
            await self._pass(self._scenario.end)
            self._finish()
        finally:
            self.record.real_seconds = self._real.seconds() - began
            for day in self._days:
                day.cancel()
            for node in self.nodes:
                node.kill(power_fails=True)
            gc.unfreeze()
            globalLogPublisher.removeObserver(self._count_failures)  # type: ignore[arg-type]
        return self.record

    def _count_failures(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            self.record.internal_errors += 1

    # The beginning.

    def _build(self) -> None:
        scenario = self._scenario
        self._database.prepare(self.clock.seconds())
        self._database.seed(scenario)
        self._folder.mkdir(exist_ok=True)
        tls = self._folder / "tls"
        if not (tls / "key.pem").exists():
            make_certificates(tls)
        settings = {
            "database.pool.size": POOL_SIZE,
            **self._database.parameters(),
            "l7r.address": "127.0.0.1",
            "l7r.port": 0,
            "l7r.tls.cert": str(tls / "cert.pem"),
            "l7r.tls.key": str(tls / "key.pem"),
            **scenario.settings,
        }
        around = Surroundings(
            self.clock, self._real, self._network, settings, scenario.seed, self._turns, self._assembly
        )
        behaviours = Drawn(scenario.seed, scenario.guests, scenario.chances)
        for spec in scenario.nodes:
            machine = SimulatedMachine(spec.name, spec.memory, self.clock, self._network, self.observer, behaviours)
            self.nodes.append(SimulatedNode(spec, around, machine))
        self._people = self._database.people()
        self._let_run()

    def _let_run(self) -> None:
        """The VMs that run when the day begins, spread evenly."""
        wanted = {tenant.name: tenant.running for tenant in self._scenario.tenants}
        rows: list[tuple[int, str, str, str, int, int]] = []
        nodes = self.nodes
        for person in self._people:
            if wanted[person["tenant"]] == 0:
                continue
            wanted[person["tenant"]] -= 1
            node = nodes[len(rows) % len(nodes)]
            secret = Secret(f"secret of {person['vm_id']}")
            guest = node.machine.run_already(
                VMSpec(
                    VMId(person["vm_id"]),
                    TenantId(person["tenant_id"]),
                    person["name"],
                    person["login"],
                    None,
                    "desktop",
                    person["memory"],
                    f"{person['tenant_id']}/{person['vm_id']}",
                    secret,
                )
            )
            rows.append((person["vm_id"], node.name, guest.address, secret.reveal(), guest.vma_port, guest.x_port))
        if rows:
            self._database.run_already(rows)

    async def _warm_up(self) -> None:
        for node in self.nodes:
            node.start()
        scenario = self._scenario
        if self._virtual:
            await self._pump.run_until(scenario.start, self._all_up)
        else:
            gives_up = self._real.seconds() + WARM_UP
            while not self._all_up() and self._real.seconds() < gives_up:
                await deferLater(self._real, 0.05)
        down = [node.name for node in self.nodes if not node.up]
        if down:
            raise SimulationError(f"Nodes {', '.join(down)} did not come up in {WARM_UP:g} s")
        self._offset = self.clock.seconds() - scenario.start

    def _all_up(self) -> bool:
        return all(node.up or node.failed for node in self.nodes)

    async def _pass(self, until: float) -> None:
        if self._virtual:
            await self._pump.run_until(until + self._offset)
        else:
            await deferLater(self._real, max(until - self.day(), 0.0))

    # What is to happen.

    def _plan(self) -> None:
        self.record.began(self.nodes)
        self.record.clock_offset = self._offset
        self._asked_before = self._asked()
        self._at(self._scenario.start + self._scenario.sample, self._sample)
        for fault in self._scenario.faults:
            self._at(fault.at, self._befall, fault)
        rng = Random(f"{self._scenario.seed}/log-ins")
        left = list(self._people)
        rng.shuffle(left)
        for number, wave in enumerate(self._scenario.logins):
            chosen = [person for person in left if wave.tenant in ("", person["tenant"])]
            chosen = chosen[: wave.users or len(chosen)]
            taken = {person["user_id"] for person in chosen}
            left = [person for person in left if person["user_id"] not in taken]
            for person in chosen:
                self._let_live(Person(person["user_id"], person["vm_id"], person["tenant"]), wave, number)

    def _at(self, second: float, call: Callable[..., object], *args: object) -> None:
        self.clock.callLater(max(second - self.day(), 0.0), call, *args)

    def _let_live(self, person: Person, wave: Logins, number: int) -> None:
        rng = Random(f"{self._scenario.seed}/{number}/{person.user_id}")
        self.record.users += 1
        user = UserDay(
            self.clock, person, self._scenario.patience, self.dial, rng, self._visited, self.record.wrong.append
        )
        delay = max(wave.draw(rng) - self.day(), 0.0)
        life = Deferred.fromCoroutine(user.live(delay, wave.session.draw(rng)))
        life.addErrback(self._user_failed)
        self._days.append(life)

    def _user_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("a simulated user failed", failure)

    def _visited(self, visit: Visit) -> None:
        self.record.visits.append(visit)

    def dial(self, outside: Outside, rng: Random) -> tuple[Wire, str]:
        """Any node, as a client finds one by a name with many addresses."""
        node = rng.choice(self.nodes)
        return node.dial(outside, next(self._ports)), node.name

    def _asked(self) -> Mapping[str, int]:
        return {node.name: node.asked for node in self.nodes}

    def _sample(self) -> None:
        asked, before = self._asked(), self._asked_before
        self._asked_before = asked
        seconds = self._scenario.sample
        self.record.samples.append(
            Sample(
                at=self.day(),
                guests={node.name: self.observer.counts.get(node.name, 0) for node in self.nodes},
                waiting=self._database.starting(),
                queries={name: (asked[name] - before[name]) / seconds for name in asked},
            )
        )
        if len(self.record.samples) % 12 == 0:
            self._tell(self.record.news())
        self._at(self.day() + seconds, self._sample)

    def _befall(self, fault: Fault) -> None:
        self._tell(f"{fault.kind.value} of {', '.join(f'n{number}' for number in fault.nodes)}")
        for number in fault.nodes:
            begin, end = self._deeds(fault.kind, self.nodes[number - 1])
            begin()
            if fault.lasts:
                self._at(fault.at + fault.lasts, end)

    def _deeds(self, kind: FaultKind, node: SimulatedNode) -> tuple[Callable[[], None], Callable[[], None]]:
        """What begins a fault, and what ends it."""
        match kind:
            case FaultKind.KILL:
                return lambda: node.kill(power_fails=True), node.start
            case FaultKind.KILL_DAEMON:
                return lambda: node.kill(power_fails=False), node.start
            case FaultKind.START:
                return node.start, node.start
            case FaultKind.HANG:
                return node.hang, node.go_on
            case FaultKind.CUT:
                return node.cut, node.mend

    def _finish(self) -> None:
        self.record.observed(self.observer)
        self.record.leftovers = self._database.leftovers()
        if not self._virtual:
            self.record.reactions = self._database.reactions()
