# -*- test-case-name: tests.unit.test_agent_tap -*-
"""C{twistd qvd-vma}: the agent inside a VM."""

from __future__ import annotations

import os
import pwd
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor as the_reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from qvd.agent.account import system_environment
from qvd.agent.channel import NodeOrders, ask_marker
from qvd.agent.diskprobe import DiskProbe
from qvd.agent.folders import Folders, open_folders
from qvd.agent.homedisk import HomeDisk, HomeFirst
from qvd.agent.hooks import Hooks
from qvd.agent.logfile import BoundedLog
from qvd.agent.marker import KVM, GuestMarker, parse_marker, read_marker
from qvd.agent.messages import Messages
from qvd.agent.orders import Orders
from qvd.agent.power import Power
from qvd.agent.processes import ProcessRunner
from qvd.agent.provisioning import IProvisioner, OwnAccount, RootProvisioner
from qvd.agent.service import AgentService
from qvd.agent.sessionfiles import SessionFiles
from qvd.agent.xprograms import XPrograms
from qvd.agent.xserver import XServer, XTimes
from qvd.model.errors import SettingsError
from qvd.model.settings import Settings, parse
from qvd.model.settings_vma import VMA_KEYS
from qvd.protocols.adapters.rpc import RPCServerFactory
from qvd.protocols.adapters.steadyclock import count_on_uptime

CONFIG = "/etc/qvd/vma.conf"
CALL_SECONDS = 75.0
"""Longer than a hook may take."""


class Options(UsageOptions):
    """Reads the configuration and the driver's marker: without the latter there is no agent.

    @ivar channel: the port through which the marker came; L{None}: it was a file.
    """

    synopsis = "[--config FILE]"
    longdesc = "Agent inside a QVD virtual machine. It runs only where a driver says that it is one."
    optParameters = [["config", "c", None, f"Configuration file [default: {CONFIG}, where it exists]"]]

    settings: Settings
    marker: GuestMarker
    folders: Folders
    channel: str | None

    def postOptions(self) -> None:
        try:
            self.settings = read_settings(self["config"])
            self.channel = channel_of(self.settings)
            self.marker = find_marker(self.settings, self.channel)
            self.folders = open_folders(self.settings.text("path.run"), self.settings.text("path.log"))
        except SettingsError as error:
            raise UsageError(error.text) from None


def channel_of(settings: Settings) -> str | None:
    """The port to the node, where there is one and no file from the driver."""
    path = settings.text("vma.channel")
    return path if os.path.exists(path) and not os.path.exists(settings.text("vma.guest_file")) else None


def find_marker(settings: Settings, channel: str | None) -> GuestMarker:
    """@raise SettingsError: there is none, or it is wrong."""
    port, display = settings.number("internal.vm.port.vma"), settings.number("internal.nxagent.display")
    if channel is None:
        return read_marker(settings.text("vma.guest_file"), port, display)
    return parse_marker(ask_marker(channel), channel, port, display)


def read_settings(path: str | None) -> Settings:
    """The file's settings; defaults where none is named and the usual one is not there.

    @raise SettingsError: it cannot be read, or is wrong.
    """
    source = path or CONFIG
    try:
        text = Path(source).read_text("utf-8")
    except FileNotFoundError:
        if path is None:
            return parse({}, VMA_KEYS, source)
        raise SettingsError(f"{source}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source}: {error}") from None
    return parse(table, VMA_KEYS, source)


def makeService(options: Options) -> IService:
    reactor: Any = the_reactor
    # A guest's time of day is often set a while after its boot.
    count_on_uptime(reactor)
    settings, marker, folders = options.settings, options.marker, options.folders
    environment = system_environment(settings.text("vma.default.lang"))
    runner = ProcessRunner(reactor, open_log(folders, "qvd-hooks.log"), environment)
    output = open_log(folders, "qvd-nxagent.log")
    x_server = XServer(reactor, XTimes.of(settings), partial(XPrograms, reactor, marker.display, output))
    hooks = Hooks(runner, settings, lambda: x_server.state)
    files = SessionFiles(settings, marker, folders)
    orders = Orders(reactor, x_server, files, choose_provisioner(reactor, marker, settings, runner, hooks), hooks)
    power = Power(reactor, settings, x_server, hooks, runner, reactor.stop if marker.sandboxed else None)
    messages = Messages(reactor, x_server, runner, settings)
    methods = {**orders.methods(), **power.methods(), **messages.methods()}
    factory = RPCServerFactory(reactor, marker.secret, methods, CALL_SECONDS)
    listener = NodeOrders(reactor, options.channel, power.poweroff) if options.channel else None
    return AgentService(reactor, marker, factory, x_server, hooks, runner, listener)


def open_log(folders: Folders, name: str) -> BoundedLog:
    return BoundedLog(None if folders.log is None else folders.log / name)


def choose_provisioner(
    reactor: Any, marker: GuestMarker, settings: Settings, runner: ProcessRunner, hooks: Hooks
) -> IProvisioner:
    """Only root, outside a sandbox, makes accounts; and only in a virtual machine it has a disk for them."""
    uid = os.getuid()
    if uid == 0 and not marker.sandboxed:
        accounts = RootProvisioner(settings, runner, hooks)
        device = settings.text("vma.user.home.drive")
        if marker.driver != KVM or not device:
            return accounts
        probe = DiskProbe(reactor, lambda look: deferToThreadPool(reactor, reactor.getThreadPool(), look))
        place, required = settings.text("vma.user.home.path"), marker.home_disk is not None
        return HomeFirst(HomeDisk(device, place, probe, runner, required), accounts)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        sys.exit(f"The agent's own account, user id {uid}, does not exist in this VM")
    return OwnAccount(entry, marker.home)
