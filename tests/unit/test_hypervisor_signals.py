"""Which signals end which VM, from what the driver writes down."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from attrs import evolve

from qvd.hkd.hypervisor.pidfd import ProcessId
from qvd.hkd.hypervisor.signals import ASKS, signals
from qvd.hkd.hypervisor.state import RunState, StateFolder
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret

STATE = RunState(VMId(9), "boot", Guest("127.0.0.1", 20001, 5001, Secret("s")), 1001, "alice", ProcessId(4, 5))


def write(run: Path, state: RunState, init: str | None = None) -> None:
    states = StateFolder(run)
    folder = states.of(state.vm_id)
    folder.mkdir(parents=True, exist_ok=True)
    states.write(state)
    if init is not None:
        (folder / "init.json").write_text(init)


def test_the_init_first(tmp_path: Path) -> None:
    write(tmp_path, STATE, '{"pid": 6, "started": 7}')
    assert signals(str(tmp_path), "boot") == {9: [(6, 7, signal.SIGKILL), (4, 5, signal.SIGKILL)]}


def test_the_supervisor_is_asked_where_there_is_no_init(tmp_path: Path) -> None:
    write(tmp_path, STATE)
    assert signals(str(tmp_path), "boot") == {9: [(4, 5, signal.SIGTERM)] * ASKS + [(4, 5, signal.SIGKILL)]}


def test_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, STATE)
    write(tmp_path, evolve(STATE, vm_id=VMId(10)))
    assert set(signals(str(tmp_path), "boot")) == {9, 10}


def test_nothing_of_an_earlier_boot(tmp_path: Path) -> None:
    write(tmp_path, STATE, '{"pid": 6, "started": 7}')
    assert signals(str(tmp_path), "another") == {}


def test_nothing_before_the_supervisor_is_known(tmp_path: Path) -> None:
    write(tmp_path, evolve(STATE, supervisor=None))
    assert signals(str(tmp_path), "boot") == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"boot": "boot"}', '{"boot": "boot", "supervisor": 3}'])
def test_one_that_cannot_be_understood_hides_no_other(tmp_path: Path, text: str) -> None:
    write(tmp_path, STATE)
    (tmp_path / "vms" / "8").mkdir()
    (tmp_path / "vms" / "8" / "state.json").write_text(text)
    (tmp_path / "vms" / "7").mkdir()
    (tmp_path / "vms" / "notes").mkdir()
    assert set(signals(str(tmp_path), "boot")) == {9}


def test_no_vm_has_ever_been_here(tmp_path: Path) -> None:
    assert signals(str(tmp_path), "boot") == {}
