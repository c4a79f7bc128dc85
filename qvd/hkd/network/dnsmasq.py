# -*- test-case-name: tests.unit.test_network_dhcp,tests.machines.test_network_dhcp -*-
"""The C{dnsmasq} program: how it is started, what it reads, and one run of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.model.network import AddressPlan
from qvd.model.records import Nic

PROGRAM = "dnsmasq"
SETPRIV = "/usr/bin/setpriv"
USER, GROUP = "dnsmasq", "nogroup"
"""Of Debian's package."""
CAPABILITIES = "-all,+net_admin,+net_raw,+net_bind_service"
"""To bind its port to the bridge, and to tell the kernel the MAC of a VM that has no address yet."""
ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'
"""For C{sh}: run a program if its parent is still the one it was started by."""
LEASE_TIME = "12h"
TAIL = 2048
"""Bytes of what it said last that are kept."""


def hosts_text(nics: Iterable[Nic]) -> str:
    """The file of who gets which address."""
    return "".join(sorted(f"{nic.mac},{nic.address}\n" for nic in nics))


def command(bridge: str, hosts: Path, plan: AddressPlan, gateway: str | None) -> list[str]:
    """Its words: it stays in the foreground, and gives only addresses that are in the file.

    It keeps no file of leases: what is in C{hosts} holds, whatever it gave before.
    """
    network = plan.network
    return [
        PROGRAM,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--port=0",
        f"--interface={bridge}",
        "--except-interface=lo",
        "--bind-interfaces",
        f"--dhcp-range={network.network_address},static,{network.netmask},{LEASE_TIME}",
        f"--dhcp-hostsfile={hosts}",
        f"--dhcp-lease-max={plan.capacity}",
        "--leasefile-ro",
        "--dhcp-authoritative",
        "--no-ping",
        # Without a value an option is not sent; unasked, the router would be this node.
        option("router", gateway),
        option("dns-server", plan.dns),
        "--log-facility=-",
        "--quiet-dhcp",
    ]


def option(name: str, value: object | None) -> str:
    return f"--dhcp-option=option:{name}" if value is None else f"--dhcp-option=option:{name},{value}"


def guarded(words: Iterable[str], parent: int) -> list[str]:
    """The same program without root's rights, and never without its parent: not even when that is killed."""
    return [
        SETPRIV,
        f"--reuid={USER}",
        f"--regid={GROUP}",
        "--clear-groups",
        "--no-new-privs",
        *(f"--{kind}={CAPABILITIES}" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
        "--pdeathsig=KILL",
        "--",
        # The parent may have died just before its death was asked for.
        *("sh", "-c", ORPHANED, str(parent)),
        *words,
    ]


class Dnsmasq(ProcessProtocol):
    """One run of it.

    @ivar said: the end of what it has said.
    @ivar unwanted: we ended it, so that another run takes its place.
    @param ended: called when it is gone, with the reason.
    """

    transport: IProcessTransport
    log = Logger()

    def __init__(self, ended: Callable[[Dnsmasq, str], None]) -> None:
        self.said = b""
        self.unwanted = False
        self._ended = ended
        self._must_read = False

    def spawn(self, reactor: IReactorProcess, words: Iterable[str]) -> None:
        """@raise OSError: there can be no process."""
        argv = guarded(words, os.getpid())
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            reactor.spawnProcess(self, SETPRIV, argv, environment, "/", childFDs={0: nothing, 1: nothing, 2: "r"})
        finally:
            os.close(nothing)

    def errReceived(self, data: bytes) -> None:
        self.said = (self.said + data)[-TAIL:]
        self.log.debug("dnsmasq: {said}", said=data.decode("utf-8", "replace"))
        if self._must_read:
            self.read_again()

    def read_again(self) -> None:
        """Have it read its file. Before its first words C{SIGHUP} might end it: then that waits for them."""
        self._must_read = not self.said
        if self.said:
            self.signal("HUP")

    def end(self) -> None:
        """It has nothing to put in order."""
        self.unwanted = True
        self.signal("KILL")

    def signal(self, name: str) -> None:
        """No effect on one that is gone."""
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def processEnded(self, reason: Failure) -> None:
        self._ended(self, reason.getErrorMessage())
