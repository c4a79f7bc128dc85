# -*- test-case-name: tests.unit.test_hkd_cluster -*-
"""
Takes their VMs and sessions away from nodes whose lease is over, and finds other nodes for the orders they had.

Every node does this, and needs nobody for it: of several that come at the same moment the database lets one. See
C{docs/decisions/0007-lost-nodes.md} for when a node is not entitled to judge others.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.hkd.periodic import Periodic
from qvd.interfaces import IHosts, IVMs
from qvd.model.errors import DatabaseUnavailable, QVDError
from qvd.model.host import Steadiness, watch
from qvd.model.ids import VMId
from qvd.model.records import Lease

AGAIN = "the node that was to start it is lost or being drained, or it is being restarted"


@frozen
class ClusterTimes:
    """Seconds.

    @ivar interval: between two looks at the other nodes.
    @ivar margin: between the end of a lease and the loss of the node.
    @ivar lease: how long the database must have answered this node before it judges others.
    """

    interval: float
    margin: float
    lease: float


class Cluster:
    """Looks at the other nodes during one epoch of this one."""

    log = Logger()

    def __init__(self, clock: IReactorTime, lease: Lease, hosts: IHosts, vms: IVMs, times: ClusterTimes) -> None:
        self._clock = clock
        self._lease = lease
        self._hosts = hosts
        self._vms = vms
        self._times = times
        self._steady: Steadiness | None = None
        self._looks = Periodic(clock, times.interval, self._look, "looking for lost nodes")

    def start(self) -> None:
        self._looks.start()

    async def stop(self) -> None:
        """Returns when the present look is over."""
        await self._looks.stop()

    async def _look(self) -> None:
        try:
            # In this order: a client that waits is told of the loss and finds the other node itself; the orders that
            # nobody waits for come at the next look.
            await self._place_again()
            await self._declare_lost()
        except QVDError:
            self._steady = None
            raise

    async def _declare_lost(self) -> None:
        asked_at = self._clock.seconds()
        clock = await self._hosts.read_clock()
        answered_at = self._clock.seconds()
        # Half of the margin is left for answers that take their time.
        self._steady = watch(self._steady, clock, asked_at, answered_at, self._times.margin / 2)
        steady = self._steady.seconds(answered_at)
        if steady < self._times.lease:
            return
        for lost in await self._hosts.declare_lost(self._lease, self._times.margin, clock, steady):
            self.log.warn(
                "node {name} is lost: {vms} VMs and {sessions} sessions are taken away from it",
                name=lost.name,
                vms=lost.vms,
                sessions=lost.sessions,
            )

    async def _place_again(self) -> None:
        for vm_id in await self._vms.unplaced():
            await self._try(vm_id)

    async def _try(self, vm_id: VMId) -> None:
        """One that cannot be placed must hold up neither those behind it nor the loss of a node, again and again."""
        try:
            if await self._vms.place_again(vm_id, AGAIN):
                self.log.info("VM {vm_id}: its order has another node", vm_id=vm_id)
        except (DatabaseUnavailable, CancelledError):
            raise
        except QVDError as error:
            self.log.warn("VM {vm_id}: its order is not placed again: {reason}", vm_id=vm_id, reason=error.text)
        except Exception:  # noqa: BLE001 - whatever it is, the next look tries again
            self.log.failure("VM {vm_id}: its order is not placed again", vm_id=vm_id)
