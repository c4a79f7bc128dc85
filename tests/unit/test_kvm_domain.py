"""What libvirt is told of a VM."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

from attrs import evolve

from qvd.hkd.hypervisor.kvm.domain import (
    METADATA,
    DirectBoot,
    DomainPlan,
    Interface,
    display_socket,
    domain_uuid,
    domain_xml,
    numbered_domain,
)
from qvd.model.ids import Run, VMId

PLAN = DomainPlan(
    vm_id=VMId(9),
    run=Run(4),
    virt_type="qemu",
    memory=512 << 20,
    cpus=2,
    overlay="/o/9/disk.qcow2",
    base="/i/desk.qcow2",
    user_disk="/h/1/9.qcow2",
    channel="/run/qvd/vms/9/agent.sock",
    serial="/run/qvd/vms/9/console.sock",
    serial_log="/run/qvd/vms/9/console.log",
    display=True,
    balloon=True,
    interface=Interface("qvdnet", "qvd9", "52:54:00:00:00:09"),
)


def made(plan: DomainPlan = PLAN) -> Element:
    return fromstring(domain_xml(plan))


def attributes(domain: Element, path: str) -> dict[str, str]:
    found = domain.find(path)
    assert found is not None, path
    return dict(found.attrib)


def test_who_it_is() -> None:
    domain = made()
    assert domain.attrib == {"type": "qemu"}
    assert domain.findtext("name") == "qvd-9"
    assert domain.findtext("uuid") == domain_uuid(VMId(9)) == domain_uuid(VMId(9))
    assert domain_uuid(VMId(8)) != domain_uuid(VMId(9))
    assert attributes(domain, f"metadata/{{{METADATA}}}vm") == {"id": "9", "run": "4"}


def test_what_it_may_use() -> None:
    domain = made()
    assert (domain.findtext("memory"), attributes(domain, "memory")) == ("524288", {"unit": "KiB"})
    assert domain.findtext("vcpu") == "2"
    assert domain.find("cputune") is None


def test_a_part_of_a_processor() -> None:
    domain = made(evolve(PLAN, cpus=1.5))
    assert domain.findtext("vcpu") == "2"
    assert domain.findtext("cputune/global_quota") == "150000"


def test_the_nodes_processor_only_where_it_runs_the_guest() -> None:
    assert made().find("cpu") is None
    assert attributes(made(evolve(PLAN, virt_type="kvm")), "cpu") == {"mode": "host-passthrough"}


def test_the_whole_chain_of_files_is_written_down() -> None:
    """So that nobody looks into a file for what it refers to."""
    system, user = made().findall("devices/disk")
    assert attributes(system, "source") == {"file": "/o/9/disk.qcow2"}
    assert attributes(system, "backingStore/source") == {"file": "/i/desk.qcow2"}
    assert attributes(system, "backingStore/format") == {"type": "qcow2"}
    assert attributes(system, "backingStore/backingStore") == {}
    assert attributes(user, "source") == {"file": "/h/1/9.qcow2"}
    assert attributes(user, "backingStore") == {}
    assert [attributes(disk, "driver")["type"] for disk in (system, user)] == ["qcow2", "qcow2"]
    assert [attributes(disk, "target") for disk in (system, user)] == [
        {"dev": "vda", "bus": "virtio"},
        {"dev": "vdb", "bus": "virtio"},
    ]


def test_nothing_but_the_system_disk() -> None:
    domain = made(evolve(PLAN, user_disk=None, interface=None, display=False, balloon=False))
    assert len(domain.findall("devices/disk")) == 1
    assert domain.find("devices/interface") is None
    assert domain.find("devices/graphics") is None
    assert attributes(domain, "devices/memballoon") == {"model": "none"}


def test_the_interface() -> None:
    interface = made().find("devices/interface")
    assert interface is not None
    assert interface.attrib == {"type": "bridge"}
    found = [dict(part.attrib) for part in interface]
    assert found == [{"bridge": "qvdnet"}, {"address": "52:54:00:00:00:09"}, {"dev": "qvd9"}, {"type": "virtio"}]


def test_nothing_listens_on_a_port() -> None:
    domain = made()
    assert [part.get("type") for part in domain.findall("devices/serial")] == ["unix"]
    assert [part.get("type") for part in domain.findall("devices/channel")] == ["unix"]
    graphics = domain.find("devices/graphics")
    assert graphics is not None
    assert (graphics.attrib, attributes(graphics, "listen")) == ({"type": "vnc"}, {"type": "socket"})


def test_names_are_data() -> None:
    """Whatever a path contains, it stays one."""
    path = "/i/<a>&\"'.qcow2"
    assert attributes(made(evolve(PLAN, base=path)), "devices/disk/backingStore/source") == {"file": path}


def test_off_is_off_and_a_reboot_is_none() -> None:
    domain = made()
    ways = {name: domain.findtext(f"on_{name}") for name in ("poweroff", "reboot", "crash")}
    assert ways == {"poweroff": "destroy", "reboot": "restart", "crash": "destroy"}


def test_a_kernel_of_our_own() -> None:
    assert made().find("os/kernel") is None
    domain = made(evolve(PLAN, boot=DirectBoot("/k", "/i", "quiet")))
    assert [domain.findtext(f"os/{name}") for name in ("kernel", "initrd", "cmdline")] == ["/k", "/i", "quiet"]


def test_where_the_screen_is() -> None:
    assert display_socket("<domain><devices/></domain>") is None
    listen = '<graphics type="vnc"><listen type="socket" socket="/run/vnc"/></graphics>'
    assert display_socket(f"<domain><devices>{listen}</devices></domain>") == "/run/vnc"


def test_which_domains_are_ours() -> None:
    assert numbered_domain("qvd-12") == VMId(12)
    assert [numbered_domain(name) for name in ("qvd-", "qvd-x", "web-1", "12", "qvd-²")] == [None] * 5
