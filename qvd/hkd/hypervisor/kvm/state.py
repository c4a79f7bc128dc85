# -*- test-case-name: tests.unit.test_kvm_state -*-
"""
What is written down of each virtual machine, for the daemon's successor and the watchdog: C{RUN/vms/N/state.json}.

The file is there before libvirt is told of the VM, and names the file in which libvirt notes QEMU's process. So that
process is found whether or not libvirt's daemon answers, or is there at all.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import frozen

from qvd.hkd.files.folders import numbered
from qvd.hkd.hypervisor.kvm.domain import PREFIX, domain_name, domain_uuid, numbered_domain
from qvd.hkd.hypervisor.pidfd import ProcessId, identify
from qvd.hkd.hypervisor.state import process_of, write_private
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret


@frozen
class KvmState:
    """One VM.

    @ivar boot: identity of the machine's uptime; of another one nothing can be running.
    @ivar login: account of the guest's user.
    @ivar qemu: the process that is the VM; L{None} before it was seen.
    @ivar display: socket of its screen; empty where there is none.
    @ivar home_disk: it has a disk for homes, and must not do without.
    """

    vm_id: VMId
    boot: str
    guest: Guest
    login: str
    qemu: ProcessId | None = None
    display: str = ""
    home_disk: bool = False


class KvmStates:
    """Of all VMs of this node.

    @param run: our own folder.
    @param pids: where libvirt keeps C{NAME.pid} of each domain.
    """

    def __init__(self, run: Path, pids: Path) -> None:
        self.path = run / "vms"
        self._pids = pids

    def of(self, vm_id: VMId) -> Path:
        """Folder of one VM's files."""
        return self.path / str(vm_id)

    def ids(self) -> set[VMId]:
        """VMs that have a folder, or a process that libvirt has noted."""
        noted = (numbered_domain(path.stem) for path in self._pids.glob(f"{PREFIX}*.pid"))
        return numbered(self.path) | {vm_id for vm_id in noted if vm_id is not None and self.qemu(vm_id)}

    def read(self, vm_id: VMId) -> KvmState | None:
        """L{None} where there is no state, or none that can be understood: leftovers at most."""
        try:
            table = json.loads((self.of(vm_id) / "state.json").read_bytes())
            guest = Guest(table["address"], int(table["vma_port"]), int(table["x_port"]), Secret(table["secret"]))
            return KvmState(
                vm_id,
                str(table["boot"]),
                guest,
                str(table["login"]),
                process_of(table["qemu"]),
                str(table["display"]),
                bool(table["home_disk"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: KvmState) -> None:
        """Replace the file in one step."""
        qemu = state.qemu
        table = {
            "boot": state.boot,
            "address": state.guest.address,
            "vma_port": state.guest.vma_port,
            "x_port": state.guest.x_port,
            "secret": state.guest.secret.reveal(),
            "login": state.login,
            "uuid": domain_uuid(state.vm_id),
            "pid_file": str(self._pid_file(state.vm_id)),
            "qemu": {"pid": qemu.pid, "started": qemu.started} if qemu else None,
            "display": state.display,
            "home_disk": state.home_disk,
        }
        write_private(self.of(state.vm_id) / "state.json", json.dumps(table))

    def qemu(self, vm_id: VMId) -> ProcessId | None:
        """The VM's process, by libvirt's note. A note may be old, so the process must say whose it is."""
        try:
            process = identify(int(self._pid_file(vm_id).read_text("ascii")))
            if process is None:
                return None
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        ours = domain_uuid(vm_id).encode() in words
        return process if ours and identify(process.pid) == process else None

    def _pid_file(self, vm_id: VMId) -> Path:
        return self._pids / f"{domain_name(vm_id)}.pid"
