"""The world: its time, its machines and their daemons, the database, the network between them, and the clients."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from qvd.model.errors import QVDError
from qvd.model.ids import UserId, VMId
from qvd.model.records import VM, Guest, User
from tests.fakes.ownership import vm_row
from tests.world.daemon import Daemon, Wire
from tests.world.line import Line
from tests.world.machine import Machine, SimulatedGuest
from tests.world.statements import MemoryDatabase
from tests.world.tables import Snapshot

GIB = 1 << 30
START = 1_700_000_000.0
REMEMBERED = 30.0
"""Seconds of the database's past to which it can fall back."""
KILLED = "its node was killed"
ORDERLY = (0.001, 0.002)


def new_vm(number: int) -> VM:
    """A stopped one that nobody wants, of a user of its own."""
    return vm_row(number, user_id=UserId(number), login=f"user{number}")


@define
class Client:
    """One that connects.

    @ivar outcome: how it ended, in words; L{None} while it goes on.
    """

    vm_id: VMId
    daemon: Daemon
    wire: Wire
    work: Deferred[None]
    outcome: str | None = None

    @property
    def connected(self) -> bool:
        return self.outcome is None and self.wire.sent > 0

    def leave(self) -> None:
        """It hangs up."""
        if self.daemon.runs and self.outcome is None:
            self.work.cancel()


class Farm:
    """@ivar now: seconds; C{offset} is what the database's clock is ahead of it, C{furthest} the most it ever was.
    @ivar plans: by machine and statement, what becomes of the next ones: see L{fate}.
    @ivar judge: called whenever guests have come or gone.
    @ivar trace: what happened, in order: tells two interleavings apart.
    """

    def __init__(self, machines: int, vms: int, seed: int, memory: int = 3, stop_vms: bool = False) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.offset = self.furthest = START
        self.trace: list[object] = []
        self.bells = "rung"
        self.jitter = 0.0
        self.judge: Callable[[], None] = lambda: None
        self.plans: dict[tuple[int, str], deque[str]] = defaultdict(deque)
        self.troubles: dict[tuple[int, str], deque[str]] = defaultdict(deque)
        self.clients: list[Client] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._history: deque[Snapshot] = deque(maxlen=400)
        self._stop_vms = stop_vms
        self.db = MemoryDatabase(lambda: self.now + self.offset)
        self.db.notify = self._notify
        self.db.chance = self.random.random
        self.machines = [Machine(self, number, memory * GIB) for number in range(1, machines + 1)]
        for machine in self.machines:
            self.db.add_host(machine.name)
        for number in range(1, vms + 1):
            self.db.add_vm(new_vm(number), GIB)
        self.daemons = [self._new_daemon(machine) for machine in self.machines]
        for daemon in self.daemons:
            daemon.start()

    # What the machines ask of the world.

    def later(self, seconds: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def guests_changed(self) -> None:
        self.judge()

    def guest_ends(self, guest: SimulatedGuest) -> None:
        for machine in self.machines:
            machine.end(guest, "The guest has powered off")

    def guest_at(self, guest: Guest) -> SimulatedGuest | None:
        for machine in self.machines:
            for there in machine.guests.values():
                if there.guest == guest:
                    return there
        return None

    def effort(self, machine: Machine, what: str) -> tuple[float | None, bool]:
        plans = self.troubles[machine.number, what]
        plan = plans.popleft() if plans else ""
        self.trace.append((machine.number, what, plan))
        match plan:
            case "hang":
                return None, True
            case "fail":
                return 0.1, False
            case "slow":
                return 6.0, True
            case "crash":
                self.later(0.05, lambda: self.crash(machine.number))
                return 0.05, True
            case _:
                return self.random.choice((0.0, 0.05, 0.2)), True

    # What a line asks of the network.

    def fate(self, line: Line, name: str) -> tuple[float | None, float | None]:
        """What becomes of a statement: by plan, or on its way for a moment, which differs from one to the next."""
        number = line.number
        plan = self._planned(number, name)
        before, after = self._delays()
        self.trace.append((number, name, plan))
        match plan:
            case "lost":
                return None, None
            case "unanswered":
                return before, None
            case "late":
                return self.random.choice((2.0, 5.0, 11.0)), after
            case "answered late":
                return before, self.random.choice((1.0, 2.5, 9.0))
            case "crash before":
                self.crash(number)
                return None, None
            case "crash after":
                self.later(before, lambda: self.crash(number))
                return before, None
        if not line.up:
            return None, None
        return before, after

    def arrives(self) -> bool:
        return self.random.random() < 0.5

    def _planned(self, number: int, name: str) -> str:
        for key in ((number, name), (number, "")):
            if self.plans[key]:
                return self.plans[key].popleft()
        return ""

    def _delays(self) -> tuple[float, float]:
        if not self.jitter:
            return ORDERLY
        return self.random.random() * self.jitter, self.random.random() * self.jitter

    def committed(self, number: int, name: str) -> None:
        """A statement has taken effect."""
        self.trace.append((number, name))
        if not self._history or self._history[-1].at < self.db.now():
            self._history.append(self.db.snapshot())

    def _notify(self, channel: str, payload: str) -> None:
        times = {"rung": 1, "lost": 0, "twice": 2}[self.bells]
        for daemon in self.daemons:
            for _ in range(times):
                delay = self.random.random() * self.jitter + 0.001
                self.later(delay, lambda line=daemon.line: line.ring(channel, payload))  # type: ignore[misc]

    # Time.

    def advance(self, seconds: float) -> None:
        """Let it pass, with all that is due in it, in order."""
        until = self.now + seconds
        while True:
            due = self._next_due()
            if due is None or due > until:
                break
            self._reach(max(due, self.now))
        self._reach(until)

    def _next_due(self) -> float | None:
        moments = [self._events[0][0]] if self._events else []
        for daemon in self.daemons:
            call = daemon.clock.next_call() if daemon.runs else None
            if call is not None:
                moments.append(self.now + max(call - daemon.machine.uptime(), 0.0))
        return min(moments, default=None)

    def _reach(self, moment: float) -> None:
        self.now = moment
        for daemon in self.daemons:
            if daemon.runs:
                daemon.clock.jump(daemon.machine.uptime() + 1e-9)
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        for daemon in self.daemons:
            if daemon.runs:
                daemon.clock.turn()

    # What happens to machines and daemons.

    def daemon(self, number: int) -> Daemon:
        return self.daemons[number - 1]

    def machine(self, number: int) -> Machine:
        return self.machines[number - 1]

    def crash(self, number: int) -> None:
        """SIGKILL of a daemon. The clients of it have lost their connections."""
        daemon = self.daemon(number)
        if daemon.alive:
            self.trace.append((number, "killed"))
            daemon.kill()
            for client in self.clients:
                if client.daemon is daemon and client.outcome is None:
                    client.outcome = KILLED

    def lose_power(self, number: int) -> None:
        self.crash(number)
        self.machine(number).lose_power()

    def restart(self, number: int) -> None:
        """A new daemon, where there is none."""
        machine = self.machine(number)
        if not machine.on:
            machine.boot()
        if not self.daemon(number).alive:
            up = self.daemon(number).line.up
            machine.exited = lambda vm_id: None
            self.daemons[number - 1] = daemon = self._new_daemon(machine)
            daemon.line.up = up
            daemon.start()

    def _new_daemon(self, machine: Machine) -> Daemon:
        return Daemon(self, self, machine, self.db, self._stop_vms)

    # What happens to the database.

    def cut(self, number: int) -> None:
        self.daemon(number).line.up = False

    def heal(self, number: int) -> None:
        self.daemon(number).line.reconnect()

    def restart_database(self, back: float = 0.0) -> None:
        """Another run of the server, which has forgotten the last seconds C{back}."""
        if back:
            wanted = self.db.now() - back
            older = [snapshot for snapshot in self._history if snapshot.at <= wanted]
            if older:
                self.db.restore(older[-1])
        self._history.clear()
        self.db.server = f"run {next(self._numbers)}"
        for daemon in self.daemons:
            daemon.line.reset()
            if daemon.line.up:
                daemon.line.reconnect()

    def set_clock(self, by: float) -> None:
        """The database's; seconds."""
        self.offset += by
        self.furthest = max(self.furthest, self.offset)

    # What people do.

    def connect(self, vm_id: int, number: int) -> Client | None:
        """Somebody dials a node. L{None}: it serves nobody now."""
        daemon, vm = self.daemon(number), self.db.vms[VMId(vm_id)].vm
        if not daemon.runs or daemon.ended is not None or daemon.node.refusal() is not None:
            return None
        user = User(vm.user_id, vm.tenant_id, vm.login, None, False)
        wire = Wire(f"192.0.2.9:{next(self._numbers)}")
        work = Deferred.fromCoroutine(daemon.connector.connect(cast(Any, wire), user, vm, {}, lambda text: None))
        client = Client(vm.vm_id, daemon, wire, work)
        self.clients.append(client)
        if not daemon.alive:
            client.outcome = KILLED
        work.addCallbacks(lambda _: self._over(client, "over"), lambda failure: self._failed(client, failure))
        return client

    def _failed(self, client: Client, failure: Failure) -> None:
        match failure.value:
            case QVDError(text=text):
                self._over(client, text or "")
            case CancelledError():
                self._over(client, "it hung up")
            case _:
                failure.raiseException()

    def _over(self, client: Client, outcome: str) -> None:
        if client.outcome is None:
            client.outcome = outcome

    def order(self, vm_id: int, running: bool) -> str | None:
        """An administrator's order, straight to the database. Returns why it was refused."""
        try:
            if running:
                self.db.order_start(VMId(vm_id))
            else:
                self.db.order_stop(VMId(vm_id))
        except QVDError as error:
            return error.text
        self.committed(0, "order")
        return None
