# -*- test-case-name: tests.integration.test_node -*-
"""C{twistd qvd-node}: the composition root of a server node."""

from __future__ import annotations

import os
import random
import secrets
import tomllib
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.python import usage
from twisted.web.server import Site
from zope.interface import implementer

from qvd.admin.status import StatusSite
from qvd.auth.local import Argon2Hasher, LocalAuthenticator
from qvd.auth.token import TokenAuthenticator
from qvd.db.administrators import Administrators
from qvd.db.hosts import Hosts
from qvd.db.migrate import check_compatible
from qvd.db.notify import Bells
from qvd.db.ownership import Ownership
from qvd.db.pool import Pool
from qvd.db.sessions import Sessions
from qvd.db.users import Users
from qvd.db.vms import VMs
from qvd.hkd.capacity import measure
from qvd.hkd.cluster import ClusterTimes
from qvd.hkd.heartbeat import LeaseTimes
from qvd.hkd.hypervisor import sandbox_signals
from qvd.hkd.hypervisor.guestpython import host_python
from qvd.hkd.hypervisor.sandbox import SandboxDriver, SandboxLayout
from qvd.hkd.node import Node, NodeTimes
from qvd.hkd.notify import notify
from qvd.hkd.runner import Deadlines, Ports
from qvd.hkd.serving import Listener, Steps
from qvd.hkd.tenure import NodeName, TenureParts
from qvd.hkd.watch import WatchTimes
from qvd.hkd.watchdog import LEASE, Watchdog
from qvd.interfaces import IDriver
from qvd.l7r.connect import Connector
from qvd.l7r.conversation import Conversation, Services
from qvd.l7r.desktop import Desktops, DesktopTimes
from qvd.l7r.gate import Authenticators
from qvd.l7r.ledger import Ledger
from qvd.l7r.nx import NXRoad
from qvd.l7r.waiting import VMNews
from qvd.model.errors import QVDError, SettingsError
from qvd.model.placement import Weights
from qvd.model.secret import Secret
from qvd.model.settings import Settings
from qvd.model.settings_node import parse_node
from qvd.protocols.adapters.heads import HeadLimits, HeadServer
from qvd.protocols.adapters.rpc import GuestDialer
from qvd.protocols.adapters.steadyclock import count_on_uptime
from qvd.protocols.adapters.tls import TLSLimits, TLSListenerFactory, listen_tls, make_server_context

BOOT_PING_SECONDS = 0.1
HASH_WORKERS = 2
SIGNALS = {"sandbox": Path(sandbox_signals.__file__).resolve()}
"""By driver: the file that tells the watchdog how its VMs are ended."""
FAILED = 1
"""Exit status of a node that could not go on."""

reactor: Any = installed_reactor


class Options(usage.Options):
    """Command line of C{twistd qvd-node}."""

    optParameters = [["config", "c", "/etc/qvd/node.conf", "settings of this node"]]


def read_settings(path: Path) -> Settings:
    """@raise SettingsError: it cannot be read, or says something wrong."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return parse_node(document, str(path))


def database_parameters(settings: Settings) -> dict[str, object]:
    """What libpq needs to know."""
    parameters: dict[str, object] = {
        "host": settings.text("database.host"),
        "port": settings.number("database.port"),
        "dbname": settings.text("database.name"),
        "user": settings.text("database.user"),
    }
    password = settings.secret("database.password").reveal()
    if password:
        parameters["password"] = password
    return parameters


def run_folder(settings: Settings) -> Path:
    """Absolute: programs that we start work in another folder."""
    return Path(settings.text("path.run")).absolute()


def make_driver(settings: Settings) -> IDriver:
    """@raise SettingsError: there is no such driver."""
    name = settings.text("vm.hypervisor")
    if name != "sandbox":
        raise SettingsError(f"{settings.source}: vm.hypervisor: there is no driver {name!r}; there is: sandbox")
    program = settings.text("vm.sandbox.x_session")
    run = run_folder(settings)
    layout = SandboxLayout(
        run=run,
        images=Path(settings.text("path.storage.images")),
        homes=Path(settings.text("path.storage.homes")),
        overlays=Path(settings.text("path.storage.overlays")),
        uid_base=settings.number("vm.sandbox.uid_base"),
        host_files=settings.flag("vm.sandbox.host_files"),
        x_session=Path(program) if program else None,
        python=host_python(),
        lease=run / LEASE,
    )
    return SandboxDriver(reactor, layout)


def weights_of(settings: Settings) -> Weights:
    """What counts in a placement."""
    names = ("ram", "cpu", "random")
    return Weights(*(settings.get(f"l7r.loadbalancer.plugin.default.weight.{name}", float) for name in names))


class ConversationFactory(Factory):
    """A conversation for each client."""

    noisy = False

    def __init__(self, services: Services, limits: HeadLimits) -> None:
        self._services = services
        self._limits = limits

    def buildProtocol(self, addr: object) -> HeadServer:
        return HeadServer(reactor, self._limits, lambda wire: Conversation(self._services, wire).run())


class Composition:
    """All objects of one node, wired together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        parameters = database_parameters(settings)
        rng = random.Random(secrets.randbits(64))
        self.deadlines = Deadlines(
            start=settings.seconds("hkd.timeout.start"),
            shutdown=settings.seconds("hkd.timeout.shutdown"),
            kill=settings.seconds("hkd.timeout.kill"),
        )
        self.pool = Pool(
            reactor,
            parameters,
            size=settings.number("database.pool.size"),
            deadline=settings.seconds("database.timeout"),
            rng=rng,
        )
        self.bells = Bells(reactor, parameters, rng=rng)
        self.sessions = Sessions(self.pool)
        self.vms = VMs(self.pool, weights_of(settings), rng.random)
        self.users = Users(self.pool)
        self.hasher = Argon2Hasher(reactor, workers=HASH_WORKERS)
        self.dialer = GuestDialer(reactor)
        self.ledger = Ledger(reactor, self.sessions)
        self.context = make_server_context(settings.text("l7r.tls.cert"), settings.text("l7r.tls.key"))
        self.news = VMNews(reactor, self.bells)
        self.driver = make_driver(settings)
        self.watchdog = Watchdog(
            reactor, run_folder(settings), SIGNALS[self.driver.name], wait=settings.flag("hkd.stop.vms")
        )
        self.node = Node(
            reactor,
            below=(
                Steps(lambda: None, lambda: Deferred.fromCoroutine(self.watchdog.release())),
                self.pool,
                Steps(self.bells.start, lambda: Deferred.fromCoroutine(self.bells.stop())),
                Steps(self.hasher.start, self._stop_hasher),
            ),
            parts=self._tenure_parts(),
            above=self._above(),
            times=self._node_times(),
            check=lambda: check_compatible(self.pool),
            ready=self._say_ready,
            failed=end_in_failure,
        )
        self.services = self._services()
        self.clients = self._client_factory()

    def _say_ready(self) -> None:
        notify(os.environ, "READY=1")

    def _stop_hasher(self) -> Any:
        self.hasher.stop()
        return deferToThread(self.hasher.join)

    def _node_times(self) -> NodeTimes:
        stop_vms = self.settings.flag("hkd.stop.vms")
        ending = self.deadlines.end if stop_vms else 0.0
        return NodeTimes(self.settings.seconds("hkd.stop.timeout") + ending, stop_vms)

    def _tenure_parts(self) -> TenureParts:
        settings = self.settings
        return TenureParts(
            clock=reactor,
            node=NodeName(settings.text("nodename"), settings.text("node.address")),
            hosts=Hosts(self.pool),
            vms=self.vms,
            deadline=self.watchdog,
            sessions=self.sessions,
            killer=self.ledger,
            bells=self.bells,
            ports=Ports(
                clock=reactor,
                driver=self.driver,
                ownership=Ownership(self.pool),
                dialer=self.dialer,
                deadlines=self.deadlines,
                watch=WatchTimes(
                    boot=BOOT_PING_SECONDS,
                    interval=settings.seconds("hkd.watch.interval"),
                    failures=settings.number("hkd.watch.failures"),
                ),
                forget=lambda _: None,
                seen=lambda _: None,
            ),
            times=LeaseTimes(settings.seconds("hkd.lease"), settings.seconds("hkd.heartbeat")),
            cluster=ClusterTimes(
                interval=settings.seconds("hkd.cluster.interval"),
                margin=settings.seconds("hkd.cluster.margin"),
                lease=settings.seconds("hkd.lease"),
            ),
            look_seconds=settings.seconds("hkd.reconcile"),
            capacity=measure,
            new_secret=lambda: Secret(secrets.token_urlsafe(32)),
        )

    def _services(self) -> Services:
        settings = self.settings
        desktops = Desktops(
            clock=reactor,
            vms=self.vms,
            sessions=self.sessions,
            dialer=self.dialer,
            news=self.news,
            times=DesktopTimes(
                start=settings.seconds("hkd.timeout.start"),
                stop=self.deadlines.end,
                x_start=settings.seconds("l7r.timeout.x_start"),
                provisioning=settings.seconds("l7r.timeout.provisioning"),
                takeover=settings.seconds("l7r.timeout.takeover"),
            ),
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
                road=NXRoad(reactor),
                node_address=settings.text("node.address"),
            ),
        )

    def _above(self) -> tuple[Any, ...]:
        parts: list[Any] = [
            Steps(lambda: None, self.news.stop),
            Steps(lambda: None, lambda: Deferred.fromCoroutine(self._end_sessions())),
            Listener(self._listen_l7r, "clients are served"),
        ]
        if self.settings.number("admin.port"):
            parts.append(Listener(self._listen_admin, "the administration port is open"))
        return tuple(parts)

    async def _end_sessions(self) -> None:
        self.ledger.close_all("The node is being stopped")
        self.clients.close_all()
        await self.ledger.settled(self.settings.seconds("hkd.stop.timeout") / 3)

    def _listen_l7r(self) -> Any:
        settings = self.settings
        return listen_tls(reactor, settings.text("l7r.address"), settings.number("l7r.port"), self.clients)

    def _client_factory(self) -> TLSListenerFactory:
        settings = self.settings
        limits = HeadLimits(
            head_bytes=settings.number("l7r.limit.head"),
            head_seconds=settings.seconds("l7r.timeout.head"),
            first_seconds=settings.seconds("l7r.timeout.first"),
            idle_seconds=settings.seconds("l7r.timeout.idle"),
        )
        connections = TLSLimits(
            handshake_seconds=settings.seconds("l7r.timeout.handshake"),
            connections=settings.number("l7r.limit.connections"),
            connections_per_address=settings.number("l7r.limit.connections_per_address"),
        )
        return TLSListenerFactory(self.context, ConversationFactory(self.services, limits), connections)

    def _listen_admin(self) -> Any:
        site: Any = Site(  # type: ignore[no-untyped-call]
            StatusSite(self.node, Administrators(self.pool), self.hasher).router.resource(),
            parsePOSTFormSubmission=False,
        )
        port, address = self.settings.number("admin.port"), self.settings.text("admin.address")
        return reactor.listenSSL(port, site, ContextHolder(self.context), interface=address)


def end_in_failure() -> None:
    """Stop in order, with an exit status that tells the service manager."""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, FAILED)
    reactor.callWhenRunning(reactor.stop)


@implementer(IOpenSSLContextFactory)
class ContextHolder:
    """A TLS context as Twisted's own listener wants it."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def getContext(self) -> Any:
        return self._context


def makeService(options: Options) -> IService:
    """Called by twistd.

    @raise SystemExit: the settings are wrong; the sentence names file and key.
    """
    count_on_uptime(reactor)
    try:
        return Composition(read_settings(Path(options["config"]))).node
    except QVDError as error:
        raise SystemExit(f"qvd-node: {error.text}") from None
