# -*- test-case-name: tests.doctor.test_broken -*-
"""What the driver C{kvm} needs: libvirt, the processor, QEMU's programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from qvd.doctor import programs
from qvd.doctor.findings import Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import Place
from qvd.hkd import configured
from qvd.hkd.hypervisor.kvm import virttype
from qvd.hkd.hypervisor.kvm.files import LONGEST_SOCKET
from qvd.model.errors import SettingsError

NESTED = (Path("/sys/module/kvm_intel/parameters/nested"), Path("/sys/module/kvm_amd/parameters/nested"))
LONGEST_NAME = "vms/1000000000/console.sock"


def look_at_libvirt(place: Place) -> Iterator[Finding]:
    """Its daemon answers, with QEMU."""
    if place.driver != "kvm":
        yield not_applicable("libvirt", f"the driver is {place.driver}")
        return
    uri = place.settings.text("vm.kvm.uri")
    looked_at = f"libvirt at {uri}"
    try:
        import libvirt
    except ImportError as error:
        yield failure(
            "Python's libvirt library",
            f"It cannot be loaded ({error}): the node cannot start",
            "install libvirt-python (qvd[kvm]), or python3-libvirt",
        )
        return
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.open(uri)
        number, kind = connection.getLibVersion(), connection.getType()
        domains = connection.numOfDomains()
        connection.close()
    except libvirt.libvirtError as error:
        yield failure(
            looked_at,
            f"It does not answer ({str(error).splitlines()[0]}): no VM starts",
            "systemctl start libvirtd (apt-get install libvirt-daemon-system qemu-system-x86); if the user may not,"
            " add it to the group libvirt; or correct vm.kvm.uri",
        )
        return
    version = f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
    if kind.lower() != "qemu":
        yield failure(looked_at, f"It runs {kind}, not QEMU", "set vm.kvm.uri to qemu:///system")
    else:
        yield ok(looked_at, f"libvirt {version} with QEMU, {domains} domains")


def look_at_processor(place: Place) -> Iterator[Finding]:
    """It runs guests itself, or QEMU has to."""
    if place.driver != "kvm":
        yield not_applicable(str(virttype.DEVICE), f"the driver is {place.driver}")
        return
    try:
        wanted = configured.wanted_virt_type(place.settings)
    except SettingsError as error:
        yield not_applicable("vm.kvm.virt_type", error.text)
        return
    facts = virttype.look()
    chosen = virttype.choose(wanted, facts)
    looked_at = f"{virttype.DEVICE} and vm.kvm.virt_type ({wanted.value})"
    mend = "switch on virtualization in the firmware, modprobe kvm_intel or kvm_amd, and let the daemon open /dev/kvm"
    if chosen.name == "kvm" and not (facts.extensions and facts.device):
        lacking = "the processor shows neither svm nor vmx" if not facts.extensions else "/dev/kvm cannot be opened"
        yield failure(
            looked_at, f"kvm is asked for, and {lacking}: no VM starts", f"{mend}; or set vm.kvm.virt_type to auto"
        )
    elif chosen.name == "qemu" and wanted is not virttype.Wanted.QEMU:
        yield warning(looked_at, f"VMs run without the processor's help, and slowly: {chosen.why}", mend)
    elif chosen.name == "qemu":
        yield note(looked_at, "VMs run without the processor's help, and slowly, as vm.kvm.virt_type says", mend)
    else:
        yield ok(looked_at, f"the processor runs VMs: {chosen.why}")
    if " hypervisor" in virttype.CPUINFO.read_text("utf-8", "replace"):
        yield note(
            "this machine",
            "It is a virtual machine itself: what runs in its VMs is slower"
            + ("" if any(path.exists() for path in NESTED) else ", and its own host must allow nested ones"),
            "switch on nested virtualization on the host below (kvm_intel or kvm_amd: nested=1)",
        )


def look_at_programs(place: Place) -> Iterator[Finding]:
    """Disks can be made, and sockets fit."""
    if place.driver != "kvm":
        yield not_applicable("qemu-img", f"the driver is {place.driver}")
        return
    if programs.find("qemu-img") is None:
        yield failure("qemu-img", "It is not installed: no VM starts", "apt-get install qemu-utils")
    else:
        yield ok("qemu-img", "it is installed")
    run = place.file("path.run")
    if len(os.fsencode(run / LONGEST_NAME)) > LONGEST_SOCKET:
        yield failure(str(run), "The path is too long for sockets in it", "set path.run to a shorter one, as /run/qvd")
