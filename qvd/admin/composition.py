# -*- test-case-name: tests.admin.test_server -*-
"""All objects of one administration daemon, wired together, over what its machine gives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.admin import configured
from qvd.admin.access import AccessLog
from qvd.admin.api import all_endpoints, all_jobs
from qvd.admin.daemon import Daemon, Part
from qvd.admin.dispatch import Dispatcher
from qvd.admin.events.feed import Feed
from qvd.admin.imageoutcome import sweep
from qvd.admin.imagework import ImageWork
from qvd.admin.jobs.runner import JobRunner
from qvd.admin.login.gate import SessionGate
from qvd.admin.login.principals import Absent
from qvd.admin.login.throttle import RequestThrottle
from qvd.admin.numbers import CallNumbers, FarmGauges
from qvd.admin.oldrows import OldRows
from qvd.admin.probes import Probes
from qvd.admin.replies import KeptReplies
from qvd.admin.services import LoginPorts, Services
from qvd.admin.settings import LoginSettings
from qvd.admin.site import BASE, make_app
from qvd.admin.streaming import ApiSite, streamed_by
from qvd.admin.underway import Underway
from qvd.auth.local import Argon2Hasher
from qvd.db.attempts import Attempts
from qvd.db.changes import Audit, Changes
from qvd.db.farm import Farm
from qvd.db.hostorders import HostOrders
from qvd.db.imagetags import ImageTags
from qvd.db.jobs import Jobs
from qvd.db.logins import Logins
from qvd.db.migrate import check_compatible, schema_version
from qvd.db.notify import Bells
from qvd.db.orders import Orders
from qvd.db.outbox import Outbox
from qvd.db.parameters import database_parameters
from qvd.db.pool import Pool
from qvd.db.records import Records
from qvd.db.replies import Replies
from qvd.db.roles import Authority, Roles
from qvd.db.secondfactors import SecondFactors
from qvd.db.statistics import Statistics
from qvd.doctor.findings import About
from qvd.doctor.service import Doctor
from qvd.hkd.notify import Pulse
from qvd.hkd.serving import Listener, Steps
from qvd.model.placement import Weights
from qvd.model.settings import Settings
from qvd.panel.screens import SCREENS
from qvd.panel.site import Panel
from qvd.protocols.adapters.tls import TLSListenerFactory, listen_tls, make_server_context
from qvd.telemetry.numbers import ProcessNumbers

HASH_WORKERS = 2
SWEEP_SECONDS = 3600.0
"""Between looks at uploads that nothing came for."""


@frozen
class Machine:
    """What the machine gives.

    @ivar ready: called once, when callers are served.
    @ivar failed: called when the daemon cannot go on: its process must end.
    @ivar pulse: tells the service manager that the daemon is well.
    @ivar observer: writes the log; L{None}: twistd's own.
    """

    reactor: Any
    random: Random
    ready: Callable[[], object]
    failed: Callable[[], object]
    pulse: Pulse | None = None
    observer: Any = None


class Composition:
    """The daemon and its parts.

    @param services: changes what the operations work with; for tests.
    @ivar daemon: the service to start and stop.
    @ivar listener: the port.
    """

    log = Logger()

    def __init__(
        self, settings: Settings, machine: Machine, services: Callable[[Services], Services] = lambda same: same
    ) -> None:
        known, reactor = schema_version(), machine.reactor
        self.settings = settings
        self.machine = machine
        self.pool = Pool(
            reactor,
            database_parameters(settings),
            size=settings.number("database.pool.size"),
            deadline=settings.seconds("database.timeout"),
            rng=machine.random,
            application="qvd administration",
        )
        self.hasher = Argon2Hasher(reactor, workers=HASH_WORKERS)
        self.numbers = ProcessNumbers(reactor, self.pool.load)
        self.farm = FarmGauges(reactor, Farm(self.pool), self.numbers.registry)
        self.records = Records(self.pool)
        self.services = services(self._services())
        self.feed = Feed(reactor, Outbox(self.pool), self.records, self.gate.recheck)
        self.services.feed = self.feed
        self.bells = Bells(reactor, database_parameters(settings), machine.random, application="qvd administration")
        holder = f"{socket.gethostname()} {os.getpid()}"
        kinds = all_jobs(images=self.services.places is not None)
        self.jobs = JobRunner(self.services, kinds, reactor, holder, self.bells)
        self.numbers.watch("qvd_jobs_waiting", "Jobs that nobody runs yet", lambda: self.jobs.waiting)
        self.numbers.watch("qvd_jobs_running", "Jobs that this service runs", lambda: self.jobs.running)
        self.sweeps = LoopingCall(lambda: Deferred.fromCoroutine(sweep(self.services)).addErrback(self._unswept))
        self.sweeps.clock = reactor
        limits = configured.tls_limits(settings)
        self.underway = Underway(limits.connections, limits.connections_per_address)
        self.context = make_server_context(settings.text("admin.tls.cert"), settings.text("admin.tls.key"))
        self.site = self._site()
        self.callers = TLSListenerFactory(self.context, self.site, limits)
        self.listener = Listener(self._listen, "administrators are served")
        self.daemon = Daemon(
            reactor,
            pool=self.pool,
            parts=self._parts(),
            check=lambda: check_compatible(self.pool, known),
            ready=machine.ready,
            failed=machine.failed,
            stop_seconds=settings.seconds("admin.stop.timeout"),
            observer=machine.observer,
        )

    def _services(self) -> Services:
        """What the operations work with."""
        audit = Audit()
        authority, policy = Authority(self.pool), LoginSettings(self.pool)
        logins = Logins(self.pool)
        self.gate = SessionGate(logins, authority, policy)
        self.doctor = Doctor(self.machine.reactor, About.ADMIN, Path(self.settings.source))
        return Services(
            database=self.pool,
            records=self.records,
            roles=Roles(self.pool),
            statistics=Statistics(self.pool),
            changes=Changes(self.pool, audit),
            audit=audit,
            hasher=self.hasher,
            orders=Orders(self.pool, Weights(), self.machine.random.random),
            host_orders=HostOrders(self.pool),
            principals=Absent(self.pool, authority, policy),
            jobs=Jobs(self.pool),
            login=LoginPorts(
                policy=policy,
                logins=logins,
                second_factors=SecondFactors(self.pool),
                attempts=Attempts(self.pool),
                authority=authority,
            ),
            gate=self.gate,
            throttle=RequestThrottle(self.machine.reactor),
            replies=KeptReplies(Replies(self.pool)),
            reactor=self.machine.reactor,
            places=configured.image_places(self.settings),
            image_tags=ImageTags(),
            image_work=ImageWork(self.machine.reactor),
            doctor=self.doctor,
        )

    def _parts(self) -> Sequence[Part]:
        """In the order of their start: whoever is served comes last, and is the first to go."""
        pulse = self.machine.pulse
        parts: list[Part] = [] if pulse is None else [Steps(pulse.start, pulse.stop)]
        parts += [
            self.numbers.lag,
            Steps(self.hasher.start, self._stop_hasher),
            Steps(self.bells.start, lambda: Deferred.fromCoroutine(self.bells.stop())),
            Steps(self._start_images, self._stop_images),
            Steps(lambda: None, self.doctor.stop),
            Steps(self.jobs.start, lambda: Deferred.fromCoroutine(self.jobs.stop())),
            OldRows(self.services),
            Steps(self.feed.startService, self.feed.stopService),
            Steps(lambda: None, self.callers.close_all),
            self.underway,
            self.listener,
        ]
        return parts

    def _stop_hasher(self) -> Any:
        self.hasher.stop()
        return deferToThread(self.hasher.join)

    def _start_images(self) -> None:
        """Uploads that nobody goes on with are given up from time to time."""
        self.services.image_work.start()
        if self.services.places is not None:
            self.sweeps.start(SWEEP_SECONDS, now=False)

    def _stop_images(self) -> Any:
        if self.sweeps.running:
            self.sweeps.stop()
        return Deferred.fromCoroutine(self.services.image_work.stop())

    def _unswept(self, failure: Failure) -> None:
        self.log.error("unfinished uploads are not looked at: {error}", error=failure.getErrorMessage())

    def _site(self) -> ApiSite:
        calls, access = CallNumbers(self.numbers.registry), AccessLog()
        endpoints = all_endpoints()
        dispatcher = Dispatcher(self.services)
        answered = [calls.answered, access.answered]
        app = make_app(endpoints, dispatcher, answered, self.underway)
        Panel(endpoints, dispatcher, SCREENS, self.underway, answered).add_to(app)
        Probes(self._refusal, self._exposition, configured.networks(self.settings, "admin.metrics.networks")).add_to(
            app
        )
        return ApiSite(
            app.resource(),
            streamed_by(endpoints, BASE),
            timeout=self.settings.seconds("admin.timeout.idle"),
            largest_body=self.settings.number("admin.limit.body"),
            whole_seconds=self.settings.seconds("admin.timeout.request"),
            reactor=self.machine.reactor,
        )

    def _refusal(self) -> str | None:
        if not self.daemon.serving:
            return "The administration is starting or stopping"
        return None if self.pool.available else "The database does not answer"

    async def _exposition(self) -> bytes:
        await self.farm.refresh()
        return self.numbers.exposition()

    def _listen(self, inherited: int | None) -> Any:
        address, port = self.settings.text("admin.address"), self.settings.number("admin.port")
        return listen_tls(self.machine.reactor, address, port, self.callers, inherited=inherited)
