# -*- test-case-name: tests.unit.test_agent_homedisk -*-
"""
The user's disk of a virtual machine: formatted when it is new, and mounted where homes are.

What is on it is somebody's work. It is formatted only where there is nothing at all: no sign of a file system, of
partitions or of anything else that C{wipefs} knows, and a first MiB of zeros. Everything doubtful is left as it is, and
said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path

from attrs import field, frozen
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import Interface, implementer

from qvd.agent.account import Account
from qvd.agent.processes import IProcessRunner
from qvd.agent.provisioning import IProvisioner
from qvd.model.errors import Unavailable

FILE_SYSTEM = "ext4"
LABEL = "qvd-home"
FIRST = 1 << 20
"""Bytes at the beginning that are zeros on a disk that is new."""
FORMAT_SECONDS = 240.0
MOUNT_SECONDS = 60.0
WIPEFS = "/usr/sbin/wipefs"
MKFS = "/usr/sbin/mkfs.ext4"
MOUNT = "/usr/bin/mount"


class Task(Enum):
    """What is to be done with a disk."""

    NOTHING = auto()
    MOUNT = auto()
    FORMAT = auto()


@frozen
class DiskFacts:
    """What a disk shows.

    @ivar present: it is there.
    @ivar mounted: something is mounted where it belongs.
    @ivar signatures: what C{wipefs} finds.
    @ivar zeros: its first MiB is empty.
    """

    present: bool
    mounted: bool
    signatures: tuple[str, ...]
    zeros: bool


def decide(device: str, facts: DiskFacts, required: bool = False) -> Task:
    """@param required: what is written while it is not there would be lost.
    @raise Unavailable: it is neither new nor a disk of homes, or is missing; a sentence.
    """
    if required and not (facts.mounted or facts.present):
        raise Unavailable(f"The user disk {device} is not there: what you work on now would be lost")
    if facts.mounted or not facts.present:
        return Task.NOTHING
    if facts.signatures == (FILE_SYSTEM,):
        return Task.MOUNT
    if facts.signatures:
        found = ", ".join(facts.signatures)
        raise Unavailable(f"The user disk {device} holds {found} where {FILE_SYSTEM} was expected; it was not touched")
    if not facts.zeros:
        raise Unavailable(f"The user disk {device} holds data of an unknown kind; it was not touched")
    return Task.FORMAT


class IDiskProbe(Interface):
    """Looks at a disk."""

    async def look(device: str, place: str) -> DiskFacts:
        """@raise Unavailable: it cannot be read."""


def format_words(device: str) -> Sequence[str]:
    """Without C{-F}: what is in use is refused."""
    return [MKFS, "-q", "-L", LABEL, "-m", "0", "-E", "lazy_itable_init=1", device]


def mount_words(device: str, place: str) -> Sequence[str]:
    return [MOUNT, "-t", FILE_SYSTEM, "-o", "nosuid,nodev", device, place]


@frozen
class HomeDisk:
    """One disk, and where it belongs. To be made only in a virtual machine, where its driver's marker was found.

    @ivar required: see L{decide}.
    """

    log = Logger()

    device: str
    place: str
    probe: IDiskProbe
    runner: IProcessRunner
    required: bool = False
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    async def mount(self) -> None:
        """Have it mounted, unless it is.

        @raise Unavailable: it cannot be; a sentence for the user.
        """
        await self._lock.acquire()
        try:
            task = decide(self.device, await self.probe.look(self.device, self.place), self.required)
            if task is Task.FORMAT:
                self.log.info("the user disk {device} is empty: it is formatted", device=self.device)
                await self.runner.run(format_words(self.device), FORMAT_SECONDS)
            if task is not Task.NOTHING:
                await self.runner.run(mount_words(self.device, self.place), MOUNT_SECONDS)
                self.log.info("the user disk {device} is mounted at {place}", device=self.device, place=self.place)
        finally:
            self._lock.release()


@implementer(IProvisioner)
@frozen
class HomeFirst:
    """No account is made before its home can be in its place."""

    disk: HomeDisk
    then: IProvisioner

    async def provision(self, parameters: Mapping[str, str]) -> Account:
        await self.disk.mount()
        return await self.then.provision(parameters)


def starts_with_zeros(device: str) -> bool:
    with open(device, "rb") as file:
        return not file.read(FIRST).strip(b"\0")


def is_there(device: str) -> bool:
    return Path(device).is_block_device()


def is_mounted(place: str) -> bool:
    return os.path.ismount(place)
