# -*- test-case-name: tests.admin.test_server -*-
"""C{twistd qvd-admin}: the administration API on a real machine."""

from __future__ import annotations

import os
import random
import secrets
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor as installed_reactor
from twisted.python import usage

from qvd.admin import configured
from qvd.admin.composition import Composition, Machine
from qvd.hkd.notify import Pulse, notify, pulse_seconds
from qvd.model.errors import QVDError
from qvd.model.settings import Settings
from qvd.protocols.adapters.steadyclock import count_on_uptime
from qvd.telemetry.lines import json_observer

FAILED, MISCONFIGURED = 1, 78
"""Exit statuses: it could not go on; starting it again does not help (C{EX_CONFIG} of C{sysexits.h})."""

reactor: Any = installed_reactor


class Options(usage.Options):
    """Command line of C{twistd qvd-admin}."""

    optParameters = [["config", "c", "/etc/qvd/admin.conf", "settings of the administration"]]


def make_machine(settings: Settings) -> Machine:
    """This machine."""
    return Machine(
        reactor=reactor,
        random=random.Random(secrets.randbits(64)),
        ready=lambda: notify(os.environ, "READY=1"),
        failed=end_in_failure,
        pulse=Pulse(reactor, pulse_seconds(os.environ), lambda message: notify(os.environ, message)),
        observer=json_observer(sys.stdout) if settings.text("log.format") == "json" else None,
    )


def end_in_failure() -> None:
    """Stop in order, with an exit status that tells the service manager."""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, FAILED)
    reactor.callWhenRunning(reactor.stop)


def makeService(options: Options) -> IService:
    """Called by twistd.

    @raise SystemExit: the settings are wrong; the sentence names file and key.
    """
    count_on_uptime(reactor)
    try:
        settings = configured.read_settings(Path(options["config"]))
        return Composition(settings, make_machine(settings)).daemon
    except QVDError as error:
        sys.stderr.write(f"qvd-admin: {error.text}\n")
        raise SystemExit(MISCONFIGURED) from None
