"""The user's disk: what is formatted, and above all what is not. Nothing is run, but on files of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from qvd.agent.account import Account
from qvd.agent.diskprobe import DiskProbe
from qvd.agent.homedisk import (
    FIRST,
    MKFS,
    MOUNT,
    WIPEFS,
    DiskFacts,
    HomeDisk,
    HomeFirst,
    IDiskProbe,
    Task,
    decide,
    format_words,
    mount_words,
)
from qvd.agent.provisioning import IProvisioner
from qvd.model.errors import Unavailable
from tests.conftest import require
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

NEW = DiskFacts(True, False, (), True)


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        (NEW, Task.FORMAT),
        (DiskFacts(True, False, ("ext4",), False), Task.MOUNT),
        (DiskFacts(True, False, ("ext4",), True), Task.MOUNT),
        (DiskFacts(False, False, (), False), Task.NOTHING),
        (DiskFacts(True, True, (), True), Task.NOTHING),
    ],
)
def test_what_is_done(facts: DiskFacts, task: Task) -> None:
    assert decide("/dev/vdb", facts) is task


def test_a_disk_that_the_driver_has_given_must_be_there() -> None:
    with pytest.raises(Unavailable, match="/dev/vdb is not there"):
        decide("/dev/vdb", DiskFacts(False, False, (), False), required=True)
    assert decide("/dev/vdb", NEW, required=True) is Task.FORMAT


@pytest.mark.parametrize(
    ("signatures", "zeros", "said"),
    [
        (("xfs",), False, "holds xfs where ext4 was expected; it was not touched"),
        (("xfs",), True, "holds xfs"),
        (("gpt", "PMBR"), False, "holds gpt, PMBR"),
        (("ext4", "xfs"), False, "holds ext4, xfs"),
        (("LVM2_member",), True, "holds LVM2_member"),
        ((), False, "holds data of an unknown kind; it was not touched"),
    ],
)
def test_what_is_refused(signatures: tuple[str, ...], zeros: bool, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        decide("/dev/vdb", DiskFacts(True, False, signatures, zeros))


@implementer(IDiskProbe)
class FakeProbe:
    """Sees what the test says; after a mount, that."""

    def __init__(self, facts: DiskFacts) -> None:
        self.facts = facts

    async def look(self, device: str, place: str) -> DiskFacts:
        return self.facts


@implementer(IProvisioner)
class FakeProvisioner:
    async def provision(self, parameters: object) -> Account:
        return Account("alice", 1001, 1001, "/home/alice", "/bin/sh", True)


class HomeTests(Case):
    def provision(self, facts: DiskFacts) -> Deferred[Account]:
        self.runner = FakeRunner()
        disk = HomeDisk("/dev/vdb", "/home", FakeProbe(facts), self.runner)
        return self.begin(HomeFirst(disk, FakeProvisioner()).provision({}))

    def test_a_new_disk_is_formatted_and_mounted_first(self) -> None:
        assert self.result(self.provision(NEW)).login == "alice"
        assert [argv[0] for argv in self.runner.ran] == [MKFS, MOUNT]
        assert self.runner.ran == [format_words("/dev/vdb"), mount_words("/dev/vdb", "/home")]

    def test_one_with_homes_is_only_mounted(self) -> None:
        self.result(self.provision(DiskFacts(True, False, ("ext4",), False)))
        assert self.runner.ran == [mount_words("/dev/vdb", "/home")]

    def test_nothing_is_done_twice(self) -> None:
        self.result(self.provision(DiskFacts(True, True, (), True)))
        assert self.runner.ran == []

    def test_no_account_is_made_without_it(self) -> None:
        refused: list[Failure] = []
        self.provision(DiskFacts(True, False, ("xfs",), False)).addErrback(refused.append)
        assert "it was not touched" in refused[0].getErrorMessage()
        assert self.runner.ran == []


class TestProbe:
    """What the system's own tools see, on files."""

    def look(self, disk: Path, place: str = "/nowhere") -> DiskFacts:
        require("wipefs", "mkfs.ext4")
        probe = DiskProbe(cast(Any, Clock()), execute, lambda device: Path(device).exists())
        found = Deferred.fromCoroutine(probe.look(str(disk), place))
        results: list[Any] = []
        found.addBoth(results.append)
        assert isinstance(results[0], DiskFacts), results
        return results[0]

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        path = tmp_path / "disk"
        with path.open("wb") as file:
            file.truncate(32 << 20)
        return path

    def test_a_new_one(self, disk: Path) -> None:
        assert self.look(disk) == NEW

    def test_one_that_we_formatted_is_mounted_ever_after(self, disk: Path) -> None:
        assert decide(str(disk), self.look(disk)) is Task.FORMAT
        words = format_words(str(disk))
        subprocess.run([shutil.which("mkfs.ext4") or "", *words[1:]], check=True, stdin=subprocess.DEVNULL)
        assert self.look(disk) == DiskFacts(True, False, ("ext4",), False)
        assert decide(str(disk), self.look(disk)) is Task.MOUNT

    def test_other_things(self, disk: Path) -> None:
        disk.write_bytes(b"my thesis".ljust(FIRST * 2, b"\0"))
        assert self.look(disk) == DiskFacts(True, False, (), False)
        subprocess.run(["mkswap", "-q", str(disk)], check=True, stderr=subprocess.DEVNULL)
        assert self.look(disk).signatures == ("swap",)

    def test_none_and_one_in_use(self, disk: Path, tmp_path: Path) -> None:
        assert not self.look(tmp_path / "none").present
        assert self.look(disk, "/").mounted


def test_the_tools_have_whole_paths() -> None:
    assert all(name.startswith("/") for name in (WIPEFS, MKFS, MOUNT))
