"""What is said of an image that lacks something, one thing at a time."""

from __future__ import annotations

import io
import tarfile

import pytest

from qvd.images.files import ListedFiles
from qvd.images.needs import findings
from qvd.images.recipe import KVM, LXC
from qvd.images.tarlisting import collect
from tests.unit.imagefiles import CONTAINER, MACHINE, MACHINE_MISSING, MISSING
from tests.unit.tars import Content, tar_bytes


def said(members: dict[str, Content], kind: str) -> list[str]:
    entries, bad = collect(io.BytesIO(tar_bytes(members)))
    assert not bad
    return [str(finding) for finding in findings(ListedFiles(entries), kind)]


def without(members: dict[str, Content], name: str) -> dict[str, Content]:
    return {key: value for key, value in members.items() if key != name}


def test_nothing_is_missing() -> None:
    assert said(CONTAINER, LXC) == []
    assert said(MACHINE, KVM) == []


@pytest.mark.parametrize(("name", "words"), MISSING.items())
def test_each_thing_is_missed(name: str, words: str) -> None:
    lines = said(without(CONTAINER, name), LXC)
    assert len(lines) == 1
    assert lines[0].startswith(words)
    assert ": " in lines[0]


@pytest.mark.parametrize(("name", "words"), MACHINE_MISSING.items())
def test_what_only_a_machine_needs(name: str, words: str) -> None:
    lines = said(without(MACHINE, name), KVM)
    assert [line.startswith(words) for line in lines] == [True]
    assert said(without(MACHINE, name), LXC) == []


def test_a_program_that_cannot_be_run_is_none() -> None:
    entries, _ = collect(io.BytesIO(tar_bytes(CONTAINER)))
    nxagent = entries["usr/bin/nxagent"]
    entries["usr/bin/nxagent"] = type(nxagent)(nxagent.mode & ~0o111)
    assert ["nxagent" in str(finding) for finding in findings(ListedFiles(entries), LXC)] == [True]


def test_what_must_differ_from_machine_to_machine() -> None:
    lines = said({**CONTAINER, "etc/machine-id": b"4711", "etc/ssh/ssh_host_rsa_key": b"secret"}, LXC)
    assert [line.partition(" (")[0] for line in lines] == [
        "all its machines would have one identity",
        "all its machines would share a secret key",
    ]


def test_another_init_and_another_desktop_will_do() -> None:
    members = without(CONTAINER, "etc/alternatives/x-session-manager")
    assert said({**members, "etc/alternatives/x-window-manager": "/usr/bin/icewm-session"}, LXC) == []
    other = without(MACHINE, "usr/lib/systemd/system/systemd-networkd.service")
    assert said({**other, "usr/sbin/NetworkManager": b"x"}, KVM) == []


def test_an_empty_archive_is_no_image() -> None:
    with pytest.raises(tarfile.ReadError):
        collect(io.BytesIO(b""))
