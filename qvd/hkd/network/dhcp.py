# -*- test-case-name: tests.unit.test_network_dhcp,tests.machines.test_network_dhcp -*-
"""
DHCP for this node's virtual machines, by a C{dnsmasq} of our own.

There is one for a bridge. The daemon that runs it holds a lock in the run folder, and another one on that folder, such
as the successor in an upgrade, waits for it. The program itself would not keep a lock that it inherits: it closes all
that it does not know. So it dies with the daemon, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.files.folders import make_folders
from qvd.hkd.network.dnsmasq import PROGRAM, SETPRIV, Dnsmasq, command, hosts_text
from qvd.interfaces import IDhcp
from qvd.model.errors import PermanentError
from qvd.model.ids import VMId
from qvd.model.network import AddressPlan
from qvd.model.records import Nic

COALESCE = 0.1
"""Seconds from a change to the file that has it, and all changes since."""
REWRITE = 5.0
"""Seconds until a file that could not be written is tried again."""
LOOK = 0.5
"""Seconds between two looks whether the lock is free."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before it is started again."""
MOST_FAILURES = 6
"""In a row, that make the pause longer."""
STEADY = 60.0
"""Seconds after which a run counts as a good one."""
FAREWELLS = (("TERM", 3.0), ("KILL", 3.0))
"""How it is ended, and seconds that it has for it."""


class IDhcpReactor(IReactorProcess, IReactorTime):
    """What it takes of a reactor."""


@implementer(IDhcp)
class Dhcp:
    """Keeps it running, and tells it who gets which address.

    @param bridge: the only interface where it answers; this node's address must be on it.
    @param run: the run folder.
    @param gateway: what VMs are told; L{None}: they have no way out.
    """

    log = Logger()

    def __init__(self, reactor: IDhcpReactor, bridge: str, run: Path, plan: AddressPlan, gateway: str | None) -> None:
        self._reactor = reactor
        self._bridge = bridge
        self._hosts_file = run / f"dhcp-{bridge}.hosts"
        self._lock_file = run / f"dhcp-{bridge}.lock"
        self._words = command(bridge, self._hosts_file, plan, gateway)
        self._text: str | None = None
        self._macs: dict[str, str] = {}
        self._leased: dict[str, str] = {}
        self._lock: int | None = None
        self._child: Dnsmasq | None = None
        self._wanted = False
        self._began = 0.0
        self._failures = 0
        self._launching: IDelayedCall | None = None
        self._writing: IDelayedCall | None = None
        self._farewell: Deferred[None] | None = None

    async def start(self) -> None:
        """Run it from now on, or as soon as the lock is free. What an earlier daemon wrote for it holds until
        L{set_hosts}.

        @raise PermanentError: it cannot work here.
        """
        for program in (PROGRAM, SETPRIV):
            if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
                raise PermanentError(f"{program} is missing, which gives VMs their addresses: install it")
        make_folders(self._hosts_file.parent, 0o755)
        check_open(self._hosts_file.parent)
        self._wanted = True
        self._launch()

    async def stop(self) -> None:
        """End it, and let go of the lock. It can be started again."""
        self._wanted = False
        for call in (self._launching, self._writing):
            if call is not None:
                call.cancel()
        self._launching = self._writing = None
        for signal, seconds in FAREWELLS:
            if self._child is not None:
                await self._say_goodbye(self._child, signal, seconds)
        if self._child is not None:
            self.log.error("dnsmasq on {bridge} does not end", bridge=self._bridge)
        self._release()

    def set_hosts(self, nics: Mapping[VMId, Nic]) -> None:
        """Who gets an address: all VMs of this node, each time."""
        self._text = hosts_text(nics.values())
        self._macs = {nic.address: nic.mac for nic in nics.values()}
        if self._child is not None and self._writing is None:
            self._writing = self._reactor.callLater(COALESCE, self._update)

    def _launch(self) -> None:
        self._launching = None
        child = Dnsmasq(self._ended)
        try:
            if not self._take_lock():
                self._launching = self._reactor.callLater(LOOK, self._launch)
                return
            self._write()
            child.spawn(self._reactor, self._words)
        except OSError as error:
            self._try_later(error.strerror or str(error))
            return
        self._child, self._began, self._leased = child, self._reactor.seconds(), dict(self._macs)

    def _take_lock(self) -> bool:
        """@return: whether we have it."""
        if self._lock is None:
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                self._lock = lock
        return self._lock is not None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _update(self) -> None:
        """What L{set_hosts} said goes to the program."""
        self._writing = None
        try:
            changed = self._write()
        except OSError as error:
            self.log.error("{path} cannot be written: {reason}", path=str(self._hosts_file), reason=error.strerror)
            self._writing = self._reactor.callLater(REWRITE, self._update)
            return
        if changed and self._child is not None:
            self._tell(self._child)

    def _write(self) -> bool:
        """In one step, and only what is new. It is tiny, and need not survive the machine.

        @return: whether it was new.
        """
        text = (self._text or "").encode("ascii")
        if self._hosts_file.exists() and (self._text is None or self._hosts_file.read_bytes() == text):
            return False
        temporary = self._hosts_file.with_name(self._hosts_file.name + ".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(temporary, self._hosts_file)
        return True

    def _tell(self, child: Dnsmasq) -> None:
        """Have it read the file. An address that it gave to somebody else it gives to nobody: then it begins anew."""
        anew = any(self._leased.get(address, mac) != mac for address, mac in self._macs.items())
        self._leased |= self._macs
        if anew:
            child.end()
        else:
            child.read_again()

    def _ended(self, child: Dnsmasq, reason: str) -> None:
        self._child = None
        if self._farewell is not None:
            self._farewell.callback(None)
        elif not self._wanted:
            return
        elif child.unwanted:
            self._launch()
        else:
            if self._reactor.seconds() - self._began >= STEADY:
                self._failures = 0
            self._try_later(f"{reason} {child.said.decode('utf-8', 'replace')}".strip())

    def _try_later(self, reason: str) -> None:
        pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2**self._failures)
        self._failures = min(self._failures + 1, MOST_FAILURES)
        self.log.error(
            "dnsmasq on {bridge} does not run, which gives VMs their addresses; again in {pause:g} s: {reason}",
            bridge=self._bridge,
            pause=pause,
            reason=reason,
        )
        self._launching = self._reactor.callLater(pause, self._launch)

    async def _say_goodbye(self, child: Dnsmasq, signal: str, seconds: float) -> None:
        self._farewell = Deferred()
        self._farewell.addTimeout(seconds, self._reactor)
        child.signal(signal)
        try:
            await self._farewell
        except TimeoutError:
            self.log.warn("dnsmasq on {bridge} has not ended at {signal}", bridge=self._bridge, signal=signal)
        finally:
            self._farewell = None


def check_open(folder: Path) -> None:
    """@raise PermanentError: the program, which is not root, cannot read a file there."""
    for path in (folder, *folder.resolve().parents):
        if path.stat().st_mode & 0o001 == 0:
            raise PermanentError(
                f"{path} is closed to other users, so dnsmasq cannot read which VM gets which address: chmod o+x {path}"
            )
