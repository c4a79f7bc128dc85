# -*- test-case-name: tests.unit.test_agent_homedisk -*-
"""
The disk of a virtual machine's homes. An empty one is formatted, and nothing else ever is: what has a file system of
another kind, or anything at all written to it, is somebody's data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from qvd.agent.account import Account
from qvd.agent.processes import IProcessRunner
from qvd.agent.provisioning import IProvisioner
from qvd.model.errors import Unavailable

PART = 1 << 20
"""Bytes that are looked at, at the beginning and at the end: all kinds of labels and partition tables lie there."""
LEAST = 4 * PART
MAGIC = slice(1080, 1082)
"""Of ext2, ext3 and ext4: 0xEF53, little endian. Source: C{Documentation/filesystems/ext4} of Linux, super block."""
READ_SECONDS, FORMAT_SECONDS, MOUNT_SECONDS = 30.0, 120.0, 60.0


class Content(Enum):
    """What is on a disk."""

    NOTHING = "nothing"
    HOMES = "homes"
    OTHER = "other"


def judge(beginning: bytes, end: bytes) -> Content:
    """@param beginning: the first L{PART} bytes of a disk; C{end}: the last ones."""
    if beginning[MAGIC] == b"\x53\xef":
        return Content.HOMES
    return Content.OTHER if any(beginning) or any(end) else Content.NOTHING


def look(device: str) -> Content:
    """Blocks.

    @raise OSError: it cannot be read.
    """
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size < LEAST:
            return Content.OTHER
        return judge(os.pread(fd, PART, 0), os.pread(fd, PART, size - PART))
    finally:
        os.close(fd)


def is_mounted(folder: str) -> bool:
    """Whether something is mounted there."""
    return os.path.ismount(folder)


class IDiskReactor(IReactorThreads, IReactorTime):
    """What it takes of a reactor."""


@implementer(IProvisioner)
@frozen
class HomeDisk:
    """Has the disk mounted before an account is looked for, whose home is on it.

    @ivar device: path of the disk.
    @ivar folder: where homes are.
    """

    log = Logger()

    reactor: IDiskReactor
    runner: IProcessRunner
    device: str
    folder: str
    then: IProvisioner

    async def provision(self, parameters: Mapping[str, str]) -> Account:
        if not is_mounted(self.folder):
            await self._mount()
        return await self.then.provision(parameters)

    async def _mount(self) -> None:
        match await self._content():
            case Content.NOTHING:
                self.log.info("the disk {device} is empty: formatting it", device=self.device)
                await self.runner.run(["/sbin/mkfs.ext4", "-q", "-L", "qvd-home", self.device], FORMAT_SECONDS)
            case Content.OTHER:
                raise Unavailable(
                    f"The disk for homes, {self.device}, has something on it that is no file system for homes;"
                    " it is left alone. Ask your administrator"
                )
            case Content.HOMES:
                pass
        await self.runner.run(["/bin/mount", "-o", "nosuid,nodev", self.device, self.folder], MOUNT_SECONDS)

    async def _content(self) -> Content:
        looking: Deferred[Content] = deferToThreadPool(self.reactor, self.reactor.getThreadPool(), look, self.device)
        try:
            return await looking.addTimeout(READ_SECONDS, self.reactor)
        except TimeoutError:
            raise Unavailable(f"The disk for homes, {self.device}, does not answer") from None
        except OSError as error:
            raise Unavailable(f"The disk for homes, {self.device}, cannot be read: {error.strerror}") from error
