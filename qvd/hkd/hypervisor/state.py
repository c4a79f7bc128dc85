# -*- test-case-name: tests.unit.test_hypervisor_state -*-
"""
What is written down of each VM that runs under a supervisor, for the daemon's successor to find:
C{RUN/vms/N/state.json}.

The daemon writes the file before anything runs, and again with the supervisor's process; the supervisor adds
C{init.json}, the process that ends the VM when it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from qvd.hkd.files.folders import numbered
from qvd.hkd.hypervisor.pidfd import ProcessId
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret


@frozen
class RunState:
    """One VM.

    @ivar boot: identity of the machine's uptime; of another one nothing can be running.
    @ivar display: X display number in the guest.
    @ivar supervisor: runs outside the VM's namespaces; L{None} before it is started.
    @ivar init: process 1 of the VM; L{None} before there is one.
    """

    vm_id: VMId
    boot: str
    guest: Guest
    display: int
    login: str
    supervisor: ProcessId | None = None
    init: ProcessId | None = None


class StateFolder:
    """The states of all VMs of this node."""

    def __init__(self, run: Path) -> None:
        self.path = run / "vms"

    def of(self, vm_id: VMId) -> Path:
        """Folder of one VM's files."""
        return self.path / str(vm_id)

    def ids(self) -> set[VMId]:
        """VMs that have a folder."""
        return numbered(self.path)

    def read(self, vm_id: VMId) -> RunState | None:
        """L{None} where there is no state, or none that can be understood: leftovers at most."""
        folder = self.of(vm_id)
        try:
            table = json.loads((folder / "state.json").read_bytes())
            guest = Guest(table["address"], int(table["vma_port"]), int(table["x_port"]), Secret(table["secret"]))
            return RunState(
                vm_id,
                str(table["boot"]),
                guest,
                int(table["display"]),
                str(table["login"]),
                process_of(table["supervisor"]),
                read_process(folder / "init.json"),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: RunState) -> None:
        """Replace the file in one step."""
        supervisor = state.supervisor
        table = {
            "boot": state.boot,
            "address": state.guest.address,
            "vma_port": state.guest.vma_port,
            "x_port": state.guest.x_port,
            "secret": state.guest.secret.reveal(),
            "display": state.display,
            "login": state.login,
            "supervisor": {"pid": supervisor.pid, "started": supervisor.started} if supervisor else None,
        }
        write_private(self.of(state.vm_id) / "state.json", json.dumps(table))


def read_process(path: Path) -> ProcessId | None:
    try:
        return process_of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def process_of(table: Mapping[str, Any] | None) -> ProcessId | None:
    return None if table is None else ProcessId(int(table["pid"]), int(table["started"]))


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that nobody else may read, in one step."""
    temporary = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(fd, mode)
    os.replace(temporary, path)
