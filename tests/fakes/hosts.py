"""This node's row, in memory, and the other nodes as far as it judges them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from zope.interface import implementer

from qvd.interfaces import IHosts
from qvd.model.errors import NotFound, OwnershipLost
from qvd.model.ids import Epoch, HostId
from qvd.model.records import Capacity, Drain, HostState, HostStatus, Lease, LostNode, ServerClock
from tests.fakes.conduct import Conduct

LOST = "The lease of this node is over"


@implementer(IHosts)
class FakeHosts:
    """L{IHosts} with one host.

    @ivar drain_mode: what becomes of its VMs; L{drain} answers C{to_drain} once.
    @ivar states: all states that were set, in order.
    @ivar living: the processes whose sessions were spared the last time.
    @ivar server: the run of the database's server; C{time} is its clock.
    @ivar overdue: other nodes whose lease is over; whoever is entitled to declares them lost, once.
    """

    def __init__(self, name: str = "n1", conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.name = name
        self.host_id = HostId(7)
        self.epoch = Epoch(0)
        self.state = HostState.STOPPED
        self.blocked = False
        self.hypervisor: str | None = None
        self.drain_mode: Drain | None = None
        self.to_drain = 0
        self.stale = 0
        self.living: Collection[str] = ()
        self.states: list[HostState] = []
        self.server = "first run"
        self.time: Callable[[], float] = lambda: 0.0
        self.overdue: list[LostNode] = []

    async def register(
        self,
        name: str,
        address: str,
        lease_seconds: float,
        hypervisor: str | None = None,
        state: HostState = HostState.STARTING,
    ) -> Lease:
        await self.conduct.before("register", name, address, lease_seconds)
        if name != self.name:
            raise NotFound(f"No host is called {name!r}")
        self.epoch = Epoch(self.epoch + 1)
        self.hypervisor = hypervisor
        self._become(state)
        await self.conduct.after("register")
        return Lease(self.host_id, self.epoch)

    async def renew(self, lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        await self.conduct.before("renew", lease, lease_seconds, capacity)
        self._guard(lease)
        await self.conduct.after("renew")
        return HostStatus(self.state, self.blocked, self.drain_mode)

    async def set_state(self, lease: Lease, state: HostState) -> None:
        await self.conduct.before("set_state", state)
        self._guard(lease)
        self._become(state)
        await self.conduct.after("set_state")

    async def drain(self, lease: Lease) -> int:
        await self.conduct.before("drain", lease)
        told, self.to_drain = (self.to_drain, 0) if self.drain_mode is not None else (0, self.to_drain)
        await self.conduct.after("drain")
        return told

    async def end_stale_sessions(self, lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        await self.conduct.before("end_stale_sessions", reason)
        self.living = living
        ended, self.stale = self.stale, 0
        return ended

    async def read_clock(self) -> ServerClock:
        await self.conduct.before("read_clock")
        clock = ServerClock(self.server, self.time())
        await self.conduct.after("read_clock")
        return clock

    async def declare_lost(
        self, lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        await self.conduct.before("declare_lost", lease, margin_seconds, clock, steady_seconds)
        entitled = lease.epoch == self.epoch and self.state is not HostState.LOST and clock.server == self.server
        lost: Sequence[LostNode] = []
        if entitled:
            lost, self.overdue = self.overdue, []
        await self.conduct.after("declare_lost")
        return lost

    def be_lost(self) -> None:
        """Another node has found this one silent."""
        self._become(HostState.LOST)

    def _become(self, state: HostState) -> None:
        self.state = state
        self.states.append(state)

    def _guard(self, lease: Lease) -> None:
        if lease.epoch != self.epoch or self.state is HostState.LOST:
            raise OwnershipLost(LOST)
