# -*- test-case-name: tests.unit.test_hkd_tenure -*-
"""One epoch of this node: from registration to the loss of the lease, or to the stop of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.hkd.cluster import Cluster, ClusterTimes
from qvd.hkd.expiry import ExpiryParts, ExpiryWatch
from qvd.hkd.fleet import Fleet
from qvd.hkd.garbagewatch import GarbageParts, GarbageWatch
from qvd.hkd.heartbeat import Heartbeat, LeaseTimes
from qvd.hkd.images import ImageParts, ImageWatch
from qvd.hkd.messages import MessageParts, MessageWatch
from qvd.hkd.periodic import Periodic
from qvd.hkd.runnerports import Ports
from qvd.hkd.sessionwatch import SessionWatch
from qvd.interfaces import IBells, IDeadline, IHosts, INodeStatus, ISessionKiller, ISessions, IVMs
from qvd.model.errors import QVDError
from qvd.model.records import Capacity, HostState, HostStatus, Lease
from qvd.model.secret import Secret
from qvd.protocols.channels import host_changed

BOOT_SECONDS = 10.0
"""For the boots under way when another process is to go on."""
RESTARTED = "The node was restarted"


@frozen
class NodeName:
    """How this node is registered."""

    name: str
    address: str


@frozen
class TenureParts:
    """What each epoch is made of; lives as long as the daemon.

    @ivar living: the processes of this node that serve sessions, this one among them.
    @ivar garbage: L{None}: this node collects none by itself.
    @ivar messages: L{None}: nobody is sent any.
    """

    clock: IReactorTime
    node: NodeName
    hosts: IHosts
    vms: IVMs
    deadline: IDeadline
    sessions: ISessions
    killer: ISessionKiller
    bells: IBells
    ports: Ports
    times: LeaseTimes
    cluster: ClusterTimes
    images: ImageParts
    expiry: ExpiryParts
    look_seconds: float
    capacity: Callable[[], Capacity]
    new_secret: Callable[[], Secret]
    living: Callable[[], Collection[str]] = lambda: ()
    garbage: GarbageParts | None = None
    messages: MessageParts | None = None


class Tenure:
    """Made by L{begin}.

    @param inherits: this node has just been at work, in this process or in another one that lets go of it for this
        one. Other nodes and clients need not notice.
    @ivar status: what the L7R asks about this node.
    @ivar over: fires with the reason when the lease is lost.
    @ivar rests: it was let go of, with the lease still there.
    """

    log = Logger()

    def __init__(self, parts: TenureParts, inherits: bool = False) -> None:
        self._parts = parts
        self._inherits = inherits
        self.rests = False
        self._leaves = False
        self.over: Deferred[str] = Deferred()
        self.status: INodeStatus
        self.fleet: Fleet

    async def begin(self) -> None:
        """Register, recover what is there, and take up orders.

        @raise QVDError: not registered, or the database is away: nothing is running then.
        """
        parts = self._parts
        sent_at = parts.clock.seconds()
        state = HostState.RUNNING if self._inherits else HostState.STARTING
        self._lease = await parts.hosts.register(
            parts.node.name, parts.node.address, parts.times.lease, parts.ports.driver.name, state
        )
        # Before anything is taken over: what runs, runs on this lease from now on.
        parts.deadline.extend(self._lease, parts.times.deadline(sent_at))
        ports = evolve(parts.ports, permit=lambda: self.status.lease(), node=parts.node.name)
        self.fleet = Fleet(parts.clock, self._lease, ports, parts.bells, parts.look_seconds, parts.new_secret)
        await self.fleet.judge()
        await self._end_strays()
        self._images = ImageWatch(parts.clock, self._lease, parts.bells, parts.images)
        if self._inherits:
            # At once, so that nobody is told that the node is only starting. Until it has looked at its images, none is
            # held to lack there.
            self._start(sent_at, await parts.hosts.renew(self._lease, parts.times.lease, parts.capacity()))
        else:
            await self._images.look()
            await parts.hosts.set_state(self._lease, HostState.RUNNING)
            self._start(sent_at, None)

    async def _end_strays(self) -> None:
        """End what a daemon left open that is no more, such as one that was upgraded and has died."""
        parts = self._parts
        ended = await parts.hosts.end_stale_sessions(self._lease, RESTARTED, parts.living())
        if ended:
            self.log.info("{count} sessions of a former daemon ended", count=ended)

    def look_for_strays(self) -> None:
        """Do not wait for the next look."""
        self._strays.now()

    def _start(self, registered_at: float, status: HostStatus | None) -> None:
        """All that may fail is done: from here on things run, and C{abandon} or C{close} stops them."""
        parts = self._parts
        self._heartbeat = self.status = Heartbeat(
            parts.clock,
            parts.hosts,
            parts.deadline,
            self._lease,
            parts.times,
            parts.capacity,
            self._lost,
            self._renewed,
        )
        self._watch = session_watch(parts, self._lease)
        self._strays = Periodic(parts.clock, parts.look_seconds, self._end_strays, "looking for sessions left open")
        self._cluster = Cluster(parts.clock, self._lease, parts.hosts, parts.vms, parts.cluster)
        self._expiry = ExpiryWatch(parts.clock, self._lease, parts.bells, parts.expiry)
        self._garbage = None if parts.garbage is None else GarbageWatch(parts.clock, parts.garbage)
        self._messages = (
            None if parts.messages is None else MessageWatch(parts.clock, self._lease, parts.bells, parts.messages)
        )
        self._heartbeat.start(registered_at, status)
        self._end_bell = parts.bells.listen(host_changed(self._lease.host_id), lambda _: self._heartbeat.now())
        self.fleet.start()
        self._watch.start()
        self._strays.start()
        self._cluster.start()
        self._images.start()
        self._expiry.start()
        if self._garbage is not None:
            self._garbage.start()
        if self._messages is not None:
            self._messages.start()

    async def _stop_looks(self) -> None:
        end, self._end_bell = self._end_bell, lambda: None
        end()
        if self._garbage is not None:
            await self._garbage.stop()
        if self._messages is not None:
            await self._messages.stop()
        for looks in (self._expiry, self._images, self._cluster, self._strays, self._watch):
            await looks.stop()

    async def _renewed(self) -> None:
        await self.fleet.flush_seen()
        if self._heartbeat.starting() and not self._leaves:
            # Said before the first renewal, and forgotten in a fail-over: nobody else would ever say it again.
            await self._parts.hosts.set_state(self._lease, HostState.RUNNING)
            self._heartbeat.now()
        if self._heartbeat.draining():
            told = await self._parts.hosts.drain(self._lease)
            if told:
                self.log.info("the node is being drained: {count} VMs are to stop or to start elsewhere", count=told)

    def _lost(self, reason: str) -> None:
        self.fleet.lose(reason)
        # It would not hear of a newer client any more, and whoever declares it lost says that they have ended.
        self._parts.killer.close_all(f"This node has lost its place in the farm: {reason}")
        if not self.over.called:
            self.over.callback(reason)

    async def abandon(self) -> None:
        """After the loss: wait until every VM of this epoch is gone.

        One whose processes do not end keeps the node out for so long only as an orderly end may take. The next epoch
        finds it and goes on trying, its home stays locked, and the driver starts it no second time.
        """
        await self._stop_looks()
        await self.fleet.stop_orders()
        gone = Deferred.fromCoroutine(self.fleet.idle())
        gone.addTimeout(self._parts.ports.deadlines.end, self._parts.clock)
        try:
            await gone
        except TimeoutError:
            self.log.error("VMs {vms} do not end; going on without them", vms=list(self.fleet.running))
        await self.fleet.stop()
        await self._heartbeat.stop()

    @property
    def until(self) -> float:
        """When the lease may not be relied on any more, unless it is renewed before."""
        return self._heartbeat.until

    async def let_go(self) -> None:
        """Leave all as it is, for another process to go on with. The fence stands until L{end}: when it falls before
        that, the sessions end, and the watchdog sees to the VMs."""
        await self.fleet.quiet(BOOT_SECONDS)
        await self._stop_looks()
        await self.fleet.stop()
        await self._heartbeat.rest()
        self.rests = not self.over.called

    async def end(self) -> None:
        """The lease is somebody else's by now."""
        await self._heartbeat.stop()

    async def close(self, stop_vms: bool) -> None:
        """Leave in order. With C{stop_vms} the VMs are stopped first; else they wait for the next daemon."""
        parts = self._parts
        self._leaves = True
        await self._say(HostState.STOPPING)
        await self._stop_looks()
        await self.fleet.stop_orders()
        if stop_vms:
            self.fleet.stop_all(f"The node {parts.node.name} was stopped, and its desktops with it")
            await self.fleet.idle()
        await self.fleet.stop()
        await self._heartbeat.stop()
        await self._say(HostState.STOPPED)

    async def _say(self, state: HostState) -> None:
        try:
            await self._parts.hosts.set_state(self._lease, state)
        except QVDError as error:
            self.log.warn("host state {state} not written: {reason}", state=state.value, reason=error.text)


def session_watch(parts: TenureParts, lease: Lease) -> SessionWatch:
    """Over the sessions that this process serves, whoever has the lease."""
    return SessionWatch(parts.clock, lease.host_id, parts.sessions, parts.killer, parts.bells, parts.look_seconds)
