"""What is formatted, and what never is. The disks are files; nothing is mounted."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.defer import Deferred

from qvd.agent.account import Account
from qvd.agent.homedisk import LEAST, PART, Content, HomeDisk, judge, look
from qvd.model.errors import Unavailable
from tests.fakes.agent import ALICE, FakeProvisioner
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner
from tests.fakes.threads import ThreadedReactor

EXT4 = b"\0" * 1080 + b"\x53\xef"


def disk(path: Path, beginning: bytes = b"", end: bytes = b"", size: int = LEAST) -> str:
    path.write_bytes(b"")
    os.truncate(path, size)
    with path.open("r+b") as file:
        file.write(beginning)
        file.seek(size - len(end))
        file.write(end)
    return str(path)


@pytest.mark.parametrize(
    ("beginning", "end", "content"),
    [
        (b"", b"", Content.NOTHING),
        (EXT4, b"", Content.HOMES),
        (b"\0" * 510 + b"\x55\xaa", b"", Content.OTHER),
        (b"LUKS\xba\xbe", b"", Content.OTHER),
        (b"", b"EFI PART", Content.OTHER),
        (b"\0" * (PART - 1) + b"x", b"", Content.OTHER),
    ],
)
def test_what_a_disk_holds(tmp_path: Path, beginning: bytes, end: bytes, content: Content) -> None:
    assert look(disk(tmp_path / "disk", beginning, end)) is content


def test_what_is_too_small_is_no_disk_for_homes(tmp_path: Path) -> None:
    assert look(disk(tmp_path / "disk", size=LEAST - 1)) is Content.OTHER


def test_a_file_system_counts_whatever_stands_before_it() -> None:
    assert judge(b"boot code".ljust(1080, b"\1") + b"\x53\xef", b"") is Content.HOMES


class HomeDiskTests(Case):
    def setUp(self) -> None:
        self.runner = FakeRunner()
        self.then = FakeProvisioner()
        self.reactor: Any = ThreadedReactor()
        self.mounted = False
        self.folder = TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def provision(self, device: str) -> Deferred[Account]:
        with patch("qvd.agent.homedisk.is_mounted", return_value=self.mounted):
            home_disk = HomeDisk(self.reactor, self.runner, device, "/home", self.then)
            begun = self.begin(home_disk.provision({"qvd.vm.user.name": "alice"}))
            if self.reactor.pool.begun:
                self.reactor.pool.finish()
            return begun

    def device(self, beginning: bytes = b"") -> str:
        return disk(Path(self.folder.name, "disk"), beginning)

    def test_an_empty_one_is_formatted_once_and_mounted(self) -> None:
        device = self.device()
        assert self.result(self.provision(device)) == ALICE
        assert [argv[0] for argv in self.runner.ran] == ["/sbin/mkfs.ext4", "/bin/mount"]
        assert {argv[argv.index(device)] for argv in self.runner.ran} == {device}

    def test_one_with_homes_is_only_mounted(self) -> None:
        device = self.device(EXT4)
        self.result(self.provision(device))
        assert self.runner.ran == [["/bin/mount", "-o", "nosuid,nodev", device, "/home"]]

    def test_one_that_is_mounted_is_left_alone(self) -> None:
        self.mounted = True
        self.result(self.provision("/nowhere"))
        assert self.runner.ran == []

    def test_anything_else_is_refused_and_no_account_is_made(self) -> None:
        error = self.failure(self.provision(self.device(b"somebody's")), Unavailable)
        assert "left alone" in error.text
        assert (self.runner.ran, self.then.asked) == ([], [])

    def test_one_that_cannot_be_read_is_refused(self) -> None:
        error = self.failure(self.provision("/nowhere"), Unavailable)
        assert "/nowhere" in error.text and "No such file" in error.text
        assert self.then.asked == []

    def test_one_that_cannot_be_mounted_makes_no_account(self) -> None:
        self.runner.failing.add("/bin/mount")
        self.failure(self.provision(self.device(EXT4)), Unavailable)
        assert self.then.asked == []
