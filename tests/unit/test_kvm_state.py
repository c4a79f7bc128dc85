"""What is written down of virtual machines, and how the watchdog ends them by it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from qvd.hkd.hypervisor.kvm.domain import domain_uuid
from qvd.hkd.hypervisor.kvm.marker import marker_line
from qvd.hkd.hypervisor.kvm.signals import signals
from qvd.hkd.hypervisor.kvm.state import KvmState, KvmStates
from qvd.hkd.hypervisor.pidfd import ProcessId, identify
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret

NINE = VMId(9)
STATE = KvmState(NINE, "boot", Guest("10.0.0.9", 3030, 4100, Secret("s" * 16)), "alice", ProcessId(4, 5), "/vnc")


@pytest.fixture
def states(tmp_path: Path) -> KvmStates:
    (tmp_path / "pids").mkdir()
    (tmp_path / "vms/9").mkdir(parents=True)
    return KvmStates(tmp_path, tmp_path / "pids")


@pytest.fixture
def machine() -> Iterator[int]:
    """A process that looks like VM 9."""
    words = ["sh", "-c", "read _", "qemu", "-uuid", domain_uuid(NINE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        yield process.pid


def note(tmp_path: Path, text: str) -> None:
    (tmp_path / "pids/qvd-9.pid").write_text(text)


def test_there_and_back(states: KvmStates) -> None:
    for state in (STATE, evolve(STATE, qemu=None, display="")):
        states.write(state)
        assert states.read(NINE) == state
    assert (states.of(NINE) / "state.json").stat().st_mode & 0o777 == 0o600


def test_what_is_not_understood_is_no_state(states: KvmStates) -> None:
    assert states.read(VMId(8)) is None
    for text in ("", "{", "[]", '{"boot": 1}'):
        (states.of(NINE) / "state.json").write_text(text)
        assert states.read(NINE) is None


def test_libvirts_note_is_believed_of_our_vm_only(states: KvmStates, tmp_path: Path, machine: int) -> None:
    assert states.qemu(NINE) is None
    note(tmp_path, f"{machine}\n")
    assert states.qemu(NINE) == identify(machine)
    note(tmp_path, "1\n")
    assert states.qemu(NINE) is None
    for text in ("", "x", "99999999999", "-1"):
        note(tmp_path, text)
        assert states.qemu(NINE) is None


def test_a_vm_without_a_folder_is_known_while_it_lives(states: KvmStates, tmp_path: Path, machine: int) -> None:
    (states.of(NINE)).rmdir()
    assert states.ids() == set()
    (tmp_path / "pids/qvd-7.pid").write_text(str(machine))
    note(tmp_path, f"{machine}\n")
    assert states.ids() == {NINE}


def test_the_watchdog_kills_what_is_written_down(states: KvmStates, tmp_path: Path) -> None:
    states.write(STATE)
    assert signals(str(tmp_path), "boot") == {9: [(4, 5, signal.SIGKILL)]}
    assert signals(str(tmp_path), "later boot") == {}


def test_the_watchdog_finds_what_was_started_last(states: KvmStates, tmp_path: Path, machine: int) -> None:
    """The daemon was stopped between the order and the look at what came of it."""
    states.write(evolve(STATE, qemu=None))
    assert signals(str(tmp_path), "boot") == {}
    note(tmp_path, f"{machine}\n")
    process = identify(machine)
    assert process is not None
    assert signals(str(tmp_path), "boot") == {9: [(machine, process.started, signal.SIGKILL)]}
    note(tmp_path, "1\n")
    assert signals(str(tmp_path), "boot") == {}


def test_the_watchdog_without_anything(tmp_path: Path) -> None:
    assert signals(str(tmp_path), "boot") == {}
    (tmp_path / "vms/9").mkdir(parents=True)
    (tmp_path / "vms/9/state.json").write_text("{")
    (tmp_path / "vms/x").mkdir()
    assert signals(str(tmp_path), "boot") == {}


def test_what_the_agent_is_told() -> None:
    assert json.loads(marker_line(STATE))["marker"] == {
        "driver": "kvm",
        "vm_id": 9,
        "secret": "s" * 16,
        "address": "",
        "vma_port": 3030,
        "display": 100,
        "login": "alice",
        "home": "/home/alice",
        "home_disk": None,
    }
