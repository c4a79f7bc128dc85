# -*- test-case-name: tests.unit.test_kvm_domain -*-
"""What libvirt is told of a virtual machine: values to XML."""

from __future__ import annotations

import math
import uuid
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from attrs import frozen

from qvd.model.ids import Run, VMId

PREFIX = "qvd-"
METADATA = "https://theqvd.com/xmlns/vm/1"
"""Namespace of our element in a domain's metadata."""
CHANNEL = "org.qvd.agent.0"
"""Name of the virtio port on which the guest's agent talks with the node."""
SYSTEM, USER = "vda", "vdb"
"""Disks, as the guest sees them. The manual's agent looks for the user's disk there."""
PERIOD = 100_000
"""Microseconds over which a share of a processor is measured."""
FAMILY = uuid.UUID("4c3bd0a2-9a6d-4be0-8f3c-6f5a3c1f6d21")


@frozen
class DirectBoot:
    """A kernel that boots without a boot loader on the disk. For tests, and never of a user's choice."""

    kernel: str
    initrd: str
    cmdline: str


@frozen
class Interface:
    """The VM's network interface.

    @ivar device: name of the node's end.
    """

    bridge: str
    device: str
    mac: str


@frozen
class DomainPlan:
    """One run of one VM.

    @ivar virt_type: C{kvm} or C{qemu}.
    @ivar memory: bytes.
    @ivar cpus: processors that it may keep busy.
    @ivar overlay: the system disk, a qcow2 file on top of C{base}, another one.
    @ivar user_disk: L{None}: it has none.
    @ivar channel: UNIX socket of the agent's channel, of the node's end.
    @ivar serial: UNIX socket of the serial console; what the guest says there is also written to C{serial_log}.
    @ivar display: there is a screen, by VNC on a UNIX socket.
    """

    vm_id: VMId
    run: Run
    virt_type: str
    memory: int
    cpus: float
    overlay: str
    base: str
    user_disk: str | None
    channel: str
    serial: str
    serial_log: str
    display: bool
    balloon: bool
    interface: Interface | None = None
    boot: DirectBoot | None = None


def domain_name(vm_id: VMId) -> str:
    return f"{PREFIX}{vm_id}"


def domain_uuid(vm_id: VMId) -> str:
    """Always the same: guests know themselves by it."""
    return str(uuid.uuid5(FAMILY, str(vm_id)))


def numbered_domain(name: str) -> VMId | None:
    """The VM of a domain, if it is one of ours."""
    number = name.removeprefix(PREFIX)
    return VMId(int(number)) if name.startswith(PREFIX) and number.isascii() and number.isdecimal() else None


def domain_xml(plan: DomainPlan) -> str:
    """For C{virDomainCreateXML}."""
    domain = Element("domain", type=plan.virt_type)
    text(domain, "name", domain_name(plan.vm_id))
    text(domain, "uuid", domain_uuid(plan.vm_id))
    mark = SubElement(SubElement(domain, "metadata"), f"{{{METADATA}}}vm")
    mark.attrib.update(id=str(plan.vm_id), run=str(plan.run))
    text(domain, "memory", str(plan.memory // 1024), unit="KiB")
    add_processors(domain, plan)
    add_system(domain, plan)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        text(domain, f"on_{event}", action)
    add_devices(SubElement(domain, "devices"), plan)
    return tostring(domain, "unicode")


def text(parent: Element, tag: str, content: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = content


def add_processors(domain: Element, plan: DomainPlan) -> None:
    count = max(math.ceil(plan.cpus), 1)
    text(domain, "vcpu", str(count))
    if plan.cpus < count:
        tune = SubElement(domain, "cputune")
        text(tune, "global_period", str(PERIOD))
        text(tune, "global_quota", str(round(PERIOD * plan.cpus)))
    if plan.virt_type == "kvm":
        SubElement(domain, "cpu", mode="host-passthrough")


def add_system(domain: Element, plan: DomainPlan) -> None:
    system = SubElement(domain, "os")
    text(system, "type", "hvm", arch="x86_64", machine="q35")
    if plan.boot is not None:
        text(system, "kernel", plan.boot.kernel)
        text(system, "initrd", plan.boot.initrd)
        text(system, "cmdline", plan.boot.cmdline)
    else:
        SubElement(system, "boot", dev="hd")
    features = SubElement(domain, "features")
    for name in ("acpi", "apic"):
        SubElement(features, name)
    SubElement(domain, "clock", offset="utc")


def add_devices(devices: Element, plan: DomainPlan) -> None:
    add_disk(devices, plan.overlay, SYSTEM, plan.base)
    if plan.user_disk is not None:
        add_disk(devices, plan.user_disk, USER, None)
    if plan.interface is not None:
        add_interface(devices, plan.interface)
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "source", mode="bind", path=plan.channel)
    SubElement(channel, "target", type="virtio", name=CHANNEL)
    serial = SubElement(devices, "serial", type="unix")
    SubElement(serial, "source", mode="bind", path=plan.serial)
    SubElement(serial, "log", file=plan.serial_log, append="off")
    SubElement(serial, "target", port="0")
    rng = SubElement(devices, "rng", model="virtio")
    text(rng, "backend", "/dev/urandom", model="random")
    SubElement(devices, "memballoon", model="virtio" if plan.balloon else "none")
    SubElement(devices, "controller", type="usb", model="none")
    add_display(devices, plan.display)


def add_disk(devices: Element, path: str, target: str, base: str | None) -> None:
    """The whole chain is written down, so that nobody guesses what a file refers to."""
    disk = SubElement(devices, "disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    SubElement(disk, "source", file=path)
    backing = SubElement(disk, "backingStore", {"type": "file"} if base is not None else {})
    if base is not None:
        SubElement(backing, "format", type="qcow2")
        source = SubElement(backing, "source", file=base)
        # Many VMs read it: it keeps its owner.
        SubElement(source, "seclabel", model="dac", relabel="no")
        SubElement(backing, "backingStore")
    SubElement(disk, "target", dev=target, bus="virtio")


def add_interface(devices: Element, wanted: Interface) -> None:
    interface = SubElement(devices, "interface", type="bridge")
    SubElement(interface, "source", bridge=wanted.bridge)
    SubElement(interface, "mac", address=wanted.mac)
    SubElement(interface, "target", dev=wanted.device)
    SubElement(interface, "model", type="virtio")


def add_display(devices: Element, display: bool) -> None:
    """Never on a TCP port. libvirt chooses the socket's path, where its QEMU may make one."""
    if display:
        graphics = SubElement(devices, "graphics", type="vnc")
        SubElement(graphics, "listen", type="socket")
    video = SubElement(devices, "video")
    SubElement(video, "model", type="vga" if display else "none")


def display_socket(xml: str) -> str | None:
    """Where the screen of a running domain is.

    @param xml: what libvirt says of it.
    """
    listen = fromstring(xml).find("devices/graphics/listen[@type='socket']")
    return None if listen is None else listen.get("socket")
