# -*- test-case-name: tests.integration.test_node -*-
"""C{twistd qvd-node}: a node on a real machine."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor as installed_reactor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from qvd.hkd import configured
from qvd.hkd.capacity import Meter
from qvd.hkd.composition import Composition, Machine
from qvd.hkd.drivers import IN_PROCESS, SIGNALS, make_driver, make_network
from qvd.hkd.notify import Pulse, notify, pulse_seconds
from qvd.hkd.watchdog import Watchdog
from qvd.interfaces import IDeadline, IDriver
from qvd.model.errors import QVDError
from qvd.model.settings import Settings
from qvd.protocols.adapters.rpc import GuestDialer
from qvd.protocols.adapters.steadyclock import count_on_uptime
from qvd.sim.listening import NothingOutlives

FAILED = 1
"""Exit status of a node that could not go on."""
MISCONFIGURED = 78
"""Exit status of a node that did not start: starting it again does not help. That is C{EX_CONFIG} of C{sysexits.h}."""

reactor: Any = installed_reactor


class Options(usage.Options):
    """Command line of C{twistd qvd-node}."""

    optParameters = [["config", "c", "/etc/qvd/node.conf", "settings of this node"]]


def make_deadline(settings: Settings, driver: IDriver) -> IDeadline:
    """Who ends the VMs when this process cannot."""
    if driver.name in IN_PROCESS:
        return NothingOutlives()
    return Watchdog(reactor, configured.run_folder(settings), SIGNALS[driver.name], wait=settings.flag("hkd.stop.vms"))


def make_machine(settings: Settings) -> Machine:
    """This machine."""
    network = make_network(settings, reactor)
    driver = make_driver(settings, reactor, network)
    return Machine(
        reactor=reactor,
        driver=driver,
        deadline=make_deadline(settings, driver),
        dialer=GuestDialer(reactor),
        capacity=Meter().measure,
        random=random.Random(secrets.randbits(64)),
        # Of a daemon that was upgraded: the service manager watches over the new process from now on.
        ready=lambda: notify(os.environ, f"READY=1\nMAINPID={os.getpid()}"),
        pulse=Pulse(reactor, pulse_seconds(os.environ), lambda message: notify(os.environ, message)),
        failed=end_in_failure,
        # VMs that live in this process cannot be handed over.
        run=None if driver.name in IN_PROCESS else configured.run_folder(settings),
        finished=lambda: reactor.callWhenRunning(reactor.stop),
        storage=None if driver.name in IN_PROCESS else configured.make_storage(settings, reactor),
        network=network,
    )


def end_in_failure() -> None:
    """Stop in order, with an exit status that tells the service manager."""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, FAILED)
    reactor.callWhenRunning(reactor.stop)


class SuccessorProcess(ProcessProtocol):
    """Hears of its end, which may be long after ours."""

    log = Logger()

    def processEnded(self, reason: Failure) -> None:
        self.log.info("the daemon started on SIGHUP has ended: {reason}", reason=reason.getErrorMessage())


def start_successor() -> None:
    """Start this program again, as it is on the disk by now. It asks this process for all that it has."""
    SuccessorProcess.log.info("SIGHUP: starting the new daemon")
    words = [sys.executable, *sys.orig_argv[1:]]
    reactor.spawnProcess(SuccessorProcess(), sys.executable, words, os.environ, childFDs={0: 0, 1: 1, 2: 2})


def upgrade_on_signal() -> None:
    """C{SIGHUP}, as C{systemctl reload} sends it, upgrades the daemon."""
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(start_successor))


def makeService(options: Options) -> IService:
    """Called by twistd.

    @raise SystemExit: the settings are wrong; the sentence names file and key.
    """
    count_on_uptime(reactor)
    upgrade_on_signal()
    try:
        settings = configured.read_settings(Path(options["config"]))
        return Composition(settings, make_machine(settings)).node
    except QVDError as error:
        sys.stderr.write(f"qvd-node: {error.text}\n")
        raise SystemExit(MISCONFIGURED) from None
