# -*- test-case-name: tests.integration.test_node -*-
"""All objects of one node, wired together, over what its machine gives."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.server import Site
from zope.interface import implementer

from qvd.auth.local import Argon2Hasher, LocalAuthenticator
from qvd.auth.token import TokenAuthenticator
from qvd.db.connection import Meter
from qvd.db.expiry import Expiry
from qvd.db.garbage import Garbage
from qvd.db.hosts import Hosts
from qvd.db.images import HostImages
from qvd.db.messages import Messages
from qvd.db.migrate import check_compatible, schema_version
from qvd.db.network import AddressPlans
from qvd.db.notify import Bells
from qvd.db.ownership import Ownership
from qvd.db.parameters import database_parameters
from qvd.db.pool import Pool
from qvd.db.sessions import Sessions
from qvd.db.users import Users
from qvd.db.vms import VMs
from qvd.hkd import configured, identity
from qvd.hkd.collector import Collector
from qvd.hkd.expiry import ExpiryParts
from qvd.hkd.files.threads import in_daemon_thread
from qvd.hkd.garbagewatch import GarbageParts
from qvd.hkd.images import ImageFolder, ImageParts, Lister
from qvd.hkd.messages import MessageParts
from qvd.hkd.network.service import VMNetwork
from qvd.hkd.node import Node, Upgrade
from qvd.hkd.notify import Pulse
from qvd.hkd.retired import Clients, Retired
from qvd.hkd.roster import Roster
from qvd.hkd.runnerports import Ports
from qvd.hkd.serving import Listener, Steps
from qvd.hkd.slots import Slots
from qvd.hkd.status import StatusSite
from qvd.hkd.succession import ControlPart, Place, Succession
from qvd.hkd.tenure import TenureParts, session_watch
from qvd.interfaces import IDeadline, IDriver, IGuestDialer, IStorage
from qvd.l7r.connect import Connector
from qvd.l7r.conversation import Conversation, Services
from qvd.l7r.desktop import Desktops
from qvd.l7r.gate import Authenticators
from qvd.l7r.ledger import Ledger
from qvd.l7r.nx import NXRoad
from qvd.l7r.waiting import VMNews
from qvd.model.records import Capacity
from qvd.model.secret import Secret
from qvd.model.settings import Settings
from qvd.protocols.adapters.heads import HeadLimits, HeadServer
from qvd.protocols.adapters.listening import listen_shared
from qvd.protocols.adapters.tls import TLSListenerFactory, listen_tls, make_server_context
from qvd.protocols.handover import Serving
from qvd.telemetry.numbers import ProcessNumbers, networks_of

HASH_WORKERS = 2


@frozen
class Machine:
    """What the machine gives to its node. A simulation gives something else.

    @ivar deadline: sees to the end of the VMs whatever becomes of the daemon.
    @ivar capacity: what there is for VMs just now.
    @ivar ready: called once, when clients are served.
    @ivar failed: called when the node cannot go on: its process must end.
    @ivar pulse: tells the service manager that the daemon is well, until another process goes on.
    @ivar images: names the disk images that are there; L{None}: what lies in C{path.storage.images}.
    @ivar run: where the processes of this node find each other; L{None}: one is all there will be.
    @ivar finished: called when another process goes on and no client is left here: this process must end.
    @ivar road: the way to nxagent, where it is not a socket.
    @ivar make_pool: makes the connections to the database.
    @ivar meter: counts what is asked of the database.
    @ivar storage: where garbage may lie; L{None}: nowhere.
    @ivar network: of its VMs; L{None}: they have none of their own.
    """

    reactor: Any
    driver: IDriver
    deadline: IDeadline
    dialer: IGuestDialer
    capacity: Callable[[], Capacity]
    random: Random
    ready: Callable[[], object]
    failed: Callable[[], object]
    pulse: Pulse | None = None
    images: Lister | None = None
    run: Path | None = None
    finished: Callable[[], object] = lambda: None
    road: NXRoad | None = None
    make_pool: Callable[..., Pool] = Pool
    meter: Meter = field(factory=Meter)
    storage: IStorage | None = None
    network: VMNetwork | None = None


class ConversationFactory(Factory):
    """A conversation for each client."""

    noisy = False

    def __init__(self, reactor: Any, services: Services, limits: HeadLimits) -> None:
        self._reactor = reactor
        self._services = services
        self._limits = limits

    def buildProtocol(self, addr: object) -> HeadServer:
        return HeadServer(self._reactor, self._limits, lambda wire: Conversation(self._services, wire).run())


class Composition:
    """All objects of one node.

    @ivar node: the service to start and stop.
    """

    def __init__(self, settings: Settings, machine: Machine) -> None:
        known = schema_version()
        self.settings = settings
        self.machine = machine
        reactor = machine.reactor
        parameters = database_parameters(settings)
        self.pool = machine.make_pool(
            reactor,
            parameters,
            size=settings.number("database.pool.size"),
            deadline=settings.seconds("database.timeout"),
            rng=machine.random,
            meter=machine.meter,
        )
        self.bells = Bells(reactor, parameters, rng=machine.random, meter=machine.meter)
        self.instance = str(uuid4())
        self.sessions = Sessions(self.pool, self.instance)
        self.vms = VMs(self.pool, configured.weights_of(settings), machine.random.random)
        self.users = Users(self.pool)
        self.hasher = Argon2Hasher(reactor, workers=HASH_WORKERS)
        self.ledger = Ledger(reactor, self.sessions)
        self.context = make_server_context(settings.text("l7r.tls.cert"), settings.text("l7r.tls.key"))
        self.news = VMNews(reactor, self.bells)
        self.numbers = ProcessNumbers(reactor, self.pool.load)
        self.roster = None if machine.run is None else Roster(machine.run, self.instance)
        key = "admin.metrics.networks"
        self.networks = networks_of(settings.text(key), f"{settings.source}: {key}")
        self.l7r = Listener(self._listen_l7r, "clients are served")
        self.admin = Listener(self._listen_admin, "health and numbers are told")
        self.succession = self._succession()
        self.parts = self._tenure_parts()
        self.node = Node(
            reactor,
            below=(
                *self._pulse(),
                Steps(lambda: None, lambda: Deferred.fromCoroutine(machine.deadline.release())),
                Steps(self._enter, self._leave),
                self.pool,
                Steps(self.bells.start, lambda: Deferred.fromCoroutine(self.bells.stop())),
                Steps(self.hasher.start, self._stop_hasher),
                self.numbers.lag,
                Steps(self._start_network, self._stop_network),
            ),
            parts=self.parts,
            above=self._above(),
            times=configured.node_times(settings),
            check=lambda: check_compatible(self.pool, known),
            ready=machine.ready,
            failed=machine.failed,
            upgrade=None if self.succession is None else Upgrade(self.succession, self._retired, machine.finished),
        )
        if self.succession is not None:
            self.succession.holder = self.node
        self.services = self._services()
        self.clients = TLSListenerFactory(
            self.context,
            ConversationFactory(reactor, self.services, configured.head_limits(settings)),
            configured.tls_limits(settings),
        )
        self.numbers.watch("qvd_node_sessions", "Sessions of this process", lambda: len(self.ledger.confirmed()))
        self.numbers.watch("qvd_node_clients", "Connections of clients", lambda: self.clients.count)
        self.numbers.watch("qvd_node_ready", "1: clients are served", lambda: self.node.refusal() is None)

    def _succession(self) -> Succession | None:
        if self.machine.run is None:
            return None
        listeners = {"l7r": self.l7r}
        if self.settings.number("admin.port"):
            listeners["admin"] = self.admin
        farewell = self.settings.seconds("hkd.stop.timeout") / 3
        name = configured.node_name(self.settings).name
        place = Place(self.machine.reactor, self.machine.run, self.instance, name)
        return Succession(place, listeners, farewell, others=lambda: len(self._living()) > 1)

    def _retired(self, told: Serving) -> Retired:
        assert self.succession is not None
        if self.machine.pulse is not None:
            # Whoever serves now speaks for the node: this process must not hide that the other one is stuck.
            self.machine.pulse.stop()
        return Retired(
            self.machine.reactor,
            self.instance,
            self.succession.place.dial,
            session_watch(self.parts, told.lease),
            Clients(lambda: self.clients.count > 0 or self.ledger.busy, self._end_clients),
            told,
            self.settings.seconds("hkd.upgrade.drain"),
        )

    def _pulse(self) -> Collection[Steps]:
        pulse = self.machine.pulse
        return () if pulse is None else (Steps(pulse.start, pulse.stop),)

    def _end_clients(self, reason: str) -> None:
        self.ledger.close_all(reason)
        self.clients.close_all()

    def _enter(self) -> None:
        if self.roster is not None:
            self.roster.enter()

    def _leave(self) -> None:
        if self.roster is not None:
            self.roster.leave()

    def _living(self) -> Collection[str]:
        return [self.instance] if self.roster is None else self.roster.living()

    def _start_network(self) -> Deferred[None] | None:
        network = self.machine.network
        return None if network is None else Deferred.fromCoroutine(network.start(AddressPlans(self.pool)))

    def _stop_network(self) -> Deferred[None] | None:
        network, alone = self.machine.network, len(self._living()) <= 1
        return None if network is None else Deferred.fromCoroutine(network.stop(remove=alone))

    def _stop_hasher(self) -> Any:
        self.hasher.stop()
        return deferToThread(self.hasher.join)

    def _tenure_parts(self) -> TenureParts:
        settings, machine = self.settings, self.machine
        return TenureParts(
            clock=machine.reactor,
            node=configured.node_name(settings),
            hosts=Hosts(self.pool, lambda: identity.read(configured.identity_file(settings))),
            vms=self.vms,
            deadline=machine.deadline,
            sessions=self.sessions,
            killer=self.ledger,
            bells=self.bells,
            ports=Ports(
                clock=machine.reactor,
                driver=machine.driver,
                ownership=Ownership(self.pool, None if machine.network is None else machine.network.gateway),
                dialer=machine.dialer,
                deadlines=configured.deadlines_of(settings),
                watch=configured.watch_times(settings),
                forget=lambda _: None,
                seen=lambda _: None,
                slots=Slots(configured.slot_sizes(settings)),
            ),
            times=configured.lease_times(settings),
            cluster=configured.cluster_times(settings),
            images=self._image_parts(),
            expiry=ExpiryParts(
                expiry=Expiry(self.pool),
                dialer=machine.dialer,
                look=settings.seconds("hkd.reconcile"),
                warning=settings.seconds("hkd.expire.warning"),
            ),
            look_seconds=settings.seconds("hkd.reconcile"),
            capacity=machine.capacity,
            new_secret=lambda: Secret(secrets.token_urlsafe(32)),
            living=self._living,
            garbage=self._garbage_parts(),
            messages=MessageParts(Messages(self.pool), machine.dialer, settings.seconds("hkd.reconcile")),
        )

    def _garbage_parts(self) -> GarbageParts | None:
        seconds, storage = self.settings.seconds("hkd.garbage.interval"), self.machine.storage
        if not seconds or storage is None:
            return None
        collector = Collector(Garbage(self.pool), storage, f"node {configured.node_name(self.settings).name}")
        terms = configured.garbage_terms(self.settings)
        return GarbageParts(lambda: collector.collect(terms), seconds)

    def _image_parts(self) -> ImageParts:
        settings, reactor = self.settings, self.machine.reactor
        folder = ImageFolder(
            reactor,
            configured.image_folder(settings),
            lambda work: in_daemon_thread(reactor, work),
            configured.image_patience(settings),
        )
        names = self.machine.images or folder.list
        return ImageParts(HostImages(self.pool), names, settings.seconds("hkd.images.interval"))

    def _services(self) -> Services:
        settings = self.settings
        desktops = Desktops(
            clock=self.machine.reactor,
            vms=self.vms,
            sessions=self.sessions,
            dialer=self.machine.dialer,
            news=self.news,
            times=configured.desktop_times(settings),
        )
        return Services(
            status=self.node,
            authenticators=Authenticators(
                users=self.users,
                password=LocalAuthenticator(self.users, self.hasher),
                token=TokenAuthenticator(self.users),
                separators=settings.text("l7r.auth.separators"),
                default_tenant=settings.text("l7r.auth.tenant"),
            ),
            desktops=desktops,
            connector=Connector(
                status=self.node,
                sessions=self.sessions,
                desktops=desktops,
                ledger=self.ledger,
                road=self.machine.road or NXRoad(self.machine.reactor),
                node_address=settings.text("node.address"),
            ),
        )

    def _above(self) -> tuple[Any, ...]:
        parts: list[Any] = [
            Steps(lambda: None, self.news.stop),
            Steps(lambda: None, lambda: Deferred.fromCoroutine(self._end_sessions())),
            self.l7r,
        ]
        if self.settings.number("admin.port"):
            parts.append(self.admin)
        if self.succession is not None:
            parts.append(ControlPart(self.succession))
        return tuple(parts)

    async def _end_sessions(self) -> None:
        self._end_clients("The node is being stopped")
        await self.ledger.settled(self.settings.seconds("hkd.stop.timeout") / 3)

    def _listen_l7r(self, inherited: int | None) -> Any:
        address, port = self.settings.text("l7r.address"), self.settings.number("l7r.port")
        return listen_tls(self.machine.reactor, address, port, self.clients, inherited=inherited)

    def _listen_admin(self, inherited: int | None) -> Any:
        site: Any = Site(  # type: ignore[no-untyped-call]
            StatusSite(self.node, self.numbers.exposition, self.networks).router.resource(),
            parsePOSTFormSubmission=False,
        )
        secured = TLSMemoryBIOFactory(ContextHolder(self.context), False, site)
        address = self.settings.text("admin.address")
        return listen_shared(self.machine.reactor, address, self.settings.number("admin.port"), secured, inherited)


@implementer(IOpenSSLContextFactory)
class ContextHolder:
    """A TLS context as Twisted's own listener wants it."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def getContext(self) -> Any:
        return self._context
