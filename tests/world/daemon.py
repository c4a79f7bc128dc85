"""The process of one node: the real parts of the daemon and of its L7R, over what the world gives them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.hkd.cluster import ClusterTimes
from qvd.hkd.deadlines import Deadlines
from qvd.hkd.expiry import ExpiryParts
from qvd.hkd.heartbeat import LeaseTimes
from qvd.hkd.images import ImageParts, Names
from qvd.hkd.node import Node, NodeTimes
from qvd.hkd.runnerports import Ports
from qvd.hkd.serving import Steps
from qvd.hkd.tenure import NodeName, TenureParts
from qvd.hkd.watch import WatchTimes
from qvd.l7r.connect import Connector
from qvd.l7r.desktop import Desktops, DesktopTimes
from qvd.l7r.ledger import Ledger
from qvd.l7r.nx import NXRoad
from qvd.l7r.waiting import VMNews
from qvd.model.errors import GuestError
from qvd.model.records import Capacity, Guest
from qvd.model.secret import Secret
from qvd.protocols.adapters.heads import HeadServer
from qvd.protocols.adapters.relay import GuestLeg
from tests.world.line import Line, Network, Process
from tests.world.machine import Machine, SimulatedDeadline, SimulatedDialer, SimulatedDriver, World
from tests.world.statements import MemoryDatabase
from tests.world.stores import LineExpiry, LineHostImages, LineHosts, LineOwnership, LineSessions, LineVMs

# Shorter than those of a farm, in the same proportions, so that fewer renewals make an example.
LEASE = LeaseTimes(lease=12.0, renew=4.0)
CLUSTER = ClusterTimes(interval=3.0, margin=2.0, lease=12.0)
RECONCILE = 4.0
DEADLINES = Deadlines(start=20.0, shutdown=4.0, kill=1.0, clean=3.0, retry=2.0)
WATCH = WatchTimes(boot=0.4, interval=3.0, failures=3)
DESKTOP = DesktopTimes(start=20.0, stop=DEADLINES.end, x_start=5.0, takeover=4.0, provisioning=10.0)
SELDOM = 60.0
"""Seconds between looks that find nothing here."""
LINE_DEADLINE = 3.0
STOP = 30.0


class DaemonClock(Clock):
    """The uptime of a machine, as one process sees it. One that was stopped finds it further on."""

    def jump(self, uptime: float) -> None:
        """Time has passed, and no timer was looked at."""
        self.rightNow = max(uptime, self.rightNow)

    def next_call(self) -> float | None:
        """When the next timer is due: L{Clock} keeps them in order."""
        return self.calls[0].getTime() if self.calls else None

    def turn(self) -> None:
        """Call what is due."""
        if self.calls and self.calls[0].getTime() <= self.rightNow:
            self.advance(0)


class Wire:
    """A client's connection, as far as a session needs it."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.sent = 0

    def send(self, data: bytes) -> None:
        self.sent += 1


class Leg:
    """A connection to an nxagent.

    @ivar ended: fires with the reason when it is cut, by whomever.
    """

    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred(lambda _: None)

    def cut(self, why: str) -> None:
        if not self.ended.called:
            self.ended.callback(why)

    def abort(self) -> None:
        self.cut("aborted")


@frozen
class Road(NXRoad):
    """L{NXRoad} to simulated guests. An nxagent has one client: the newer one throws the older out."""

    world: World
    process: Process

    async def dial(self, guest: Guest) -> GuestLeg:
        there = self.world.guest_at(guest)
        if there is None or there.hung:
            raise GuestError("The desktop's nxagent does not take the connection")
        legs, there.legs = there.legs, []
        for older in legs:
            older("Another client has come")
        leg = Leg()
        there.legs.append(lambda why: self.process.receive(lambda: leg.cut(why)))
        return cast(GuestLeg, cast(Any, leg))

    async def relay(self, wire: HeadServer, leg: GuestLeg) -> str:
        return await cast(Any, leg).ended  # type: ignore[no-any-return]


class Daemon:
    """One process, from its start to its end.

    @ivar stopped: by SIGSTOP.
    @ivar ended: by itself, in order.
    """

    def __init__(self, world: World, network: Network, machine: Machine, db: MemoryDatabase, stop_vms: bool) -> None:
        self.machine = machine
        self.clock = DaemonClock()
        self.clock.jump(machine.uptime())
        self.stopped = False
        self.ended: Deferred[None] | None = None
        self._killed = False
        self._inbox: deque[Callable[[], object]] = deque()
        self.line = Line(machine.number, network, self, LINE_DEADLINE)
        self.instance = machine.new_instance()
        self.sessions = LineSessions(self.line, db, self.instance)
        self.vms = LineVMs(self.line, db)
        self.dialer = SimulatedDialer(world, self)
        self.ledger = Ledger(self.clock, self.sessions)
        self.news = VMNews(self.clock, self.line)
        self.desktops = Desktops(self.clock, self.vms, self.sessions, self.dialer, self.news, DESKTOP)
        self.failed = False
        self.node = Node(
            self.clock,
            below=(),
            parts=self._parts(world, db),
            above=(
                Steps(lambda: None, self.news.stop),
                Steps(lambda: None, lambda: Deferred.fromCoroutine(self._end_sessions())),
            ),
            times=NodeTimes(STOP + (DEADLINES.end if stop_vms else 0.0), stop_vms),
            check=self._check,
            ready=lambda: None,
            failed=self._fail,
        )
        road = Road(cast(Any, None), world, self)
        self.connector = Connector(self.node, self.sessions, self.desktops, self.ledger, road, machine.name)

    def start(self) -> None:
        self.node.startService()

    async def _check(self) -> None:
        """Its schema is always the right one."""

    async def _no_images(self) -> Names:
        return ()

    def _fail(self) -> None:
        self.failed = True

    async def _end_sessions(self) -> None:
        self.ledger.close_all("The node is being stopped")
        await self.ledger.settled(STOP / 10)

    def _parts(self, world: World, db: MemoryDatabase) -> TenureParts:
        machine = self.machine
        ports = Ports(
            clock=self.clock,
            driver=SimulatedDriver(world, machine, self),
            ownership=LineOwnership(self.line, db),
            dialer=self.dialer,
            deadlines=DEADLINES,
            watch=WATCH,
            forget=lambda _: None,
            seen=lambda _: None,
        )
        secrets = iter(range(1, 1 << 30))
        return TenureParts(
            clock=self.clock,
            node=NodeName(machine.name, machine.name),
            hosts=LineHosts(self.line, db),
            vms=self.vms,
            deadline=SimulatedDeadline(machine, self),
            sessions=self.sessions,
            killer=self.ledger,
            bells=self.line,
            ports=ports,
            times=LEASE,
            cluster=CLUSTER,
            images=ImageParts(LineHostImages(self.line), self._no_images, SELDOM),
            expiry=ExpiryParts(LineExpiry(self.line), self.dialer, SELDOM, SELDOM),
            look_seconds=RECONCILE,
            capacity=lambda: Capacity(machine.memory, 4.0, machine.memory, 4.0),
            new_secret=lambda: Secret(f"{machine.name} {self.clock.seconds()} {next(secrets)}"),
            living=lambda: (self.instance,),
        )

    @property
    def alive(self) -> bool:
        return not self._killed and not (self.ended is not None and self.ended.called)

    @property
    def runs(self) -> bool:
        """Alive and not stopped."""
        return self.alive and not self.stopped

    def receive(self, event: Callable[[], object]) -> None:
        """Taken up at once, or when the process goes on, or never."""
        if self.runs:
            event()
        elif self.alive:
            self._inbox.append(event)

    def go_on(self, timers_first: bool) -> None:
        """SIGCONT. It was stopped before its look at the timers, or before that at its sockets."""
        self.stopped = False
        self.clock.jump(self.machine.uptime())
        if timers_first:
            self.clock.advance(0)
        while self._inbox and self.alive:
            self._inbox.popleft()()
        if self.alive:
            self.clock.advance(0)

    def kill(self) -> None:
        """SIGKILL, or the end of its machine: nothing of it is heard of again."""
        self._killed = True
        self._inbox.clear()
        # Not emptied: what is collected as garbage still cancels its timers.
        self.clock.calls = []

    def leave(self) -> None:
        """SIGTERM: an orderly stop."""
        if self.ended is None:
            self.ended = self.node.stopService()
