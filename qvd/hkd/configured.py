# -*- test-case-name: tests.unit.test_hkd_configured -*-
"""What the settings of a node mean to its parts: pure translations, one for each part."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from qvd.hkd.cluster import ClusterTimes
from qvd.hkd.deadlines import Deadlines
from qvd.hkd.garbage.storage import Folders, Storage
from qvd.hkd.garbage.worker import Worker, in_daemon_thread
from qvd.hkd.heartbeat import LeaseTimes
from qvd.hkd.hypervisor.kvm.files import KvmLayout
from qvd.hkd.hypervisor.kvm.virttype import Wanted
from qvd.hkd.hypervisor.lxc.driver import LxcLayout
from qvd.hkd.hypervisor.sandbox.driver import SandboxLayout
from qvd.hkd.hypervisor.sandbox.guestpython import host_python
from qvd.hkd.network.service import NetworkTerms
from qvd.hkd.node import NodeTimes
from qvd.hkd.slots import SlotSizes
from qvd.hkd.storage import subvolumes
from qvd.hkd.storage.layers import BtrfsLayers, ILayers, OverlayLayers
from qvd.hkd.storage.layout import StorageLayout
from qvd.hkd.storage.roots import IRootsReactor, Roots
from qvd.hkd.tenure import NodeName
from qvd.hkd.watch import WatchTimes
from qvd.hkd.watchdog import LEASE
from qvd.l7r.desktop import DesktopTimes
from qvd.model.errors import SettingsError
from qvd.model.garbage import DAY, Terms
from qvd.model.placement import Weights
from qvd.model.settings import Settings
from qvd.model.settings_node import parse_node
from qvd.model.vm import Work
from qvd.protocols.adapters.heads import HeadLimits
from qvd.protocols.adapters.tls import TLSLimits

INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
PORTS = re.compile(r"\d{1,5}(-\d{1,5})?")
NETWORK = re.compile(r"\d{1,3}(\.\d{1,3}){3}(/\d{1,2})?")
BOOT_PING_SECONDS = 0.1
IMAGE_SECONDS = 5.0
QEMU_PIDS = Path("/run/libvirt/qemu")
"""Where libvirt's daemon of the system notes the processes of its domains."""


def read_settings(path: Path) -> Settings:
    """@raise SettingsError: it cannot be read, or says something wrong."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return parse_node(document, str(path))


def run_folder(settings: Settings) -> Path:
    """Absolute: programs that we start work in another folder."""
    return Path(settings.text("path.run")).absolute()


def sandbox_layout(settings: Settings) -> SandboxLayout:
    """Where the sandbox driver keeps what."""
    program = settings.text("vm.sandbox.x_session")
    run = run_folder(settings)
    return SandboxLayout(
        run=run,
        images=Path(settings.text("path.storage.images")),
        homes=Path(settings.text("path.storage.homes")),
        overlays=Path(settings.text("path.storage.overlays")),
        uid_base=settings.number("vm.sandbox.uid_base"),
        host_files=settings.flag("vm.sandbox.host_files"),
        x_session=Path(program) if program else None,
        python=host_python(),
        lease=run / LEASE,
    )


def container_owner(settings: Settings) -> int:
    """Who the root of containers is on the node."""
    return settings.number("vm.lxc.uid_base") if settings.flag("vm.lxc.userns") else 0


def storage_layout(settings: Settings) -> StorageLayout:
    """Where the root file systems of containers are."""
    return StorageLayout(
        images=image_folder(settings),
        bases=Path(settings.text("path.storage.bases")),
        overlays=Path(settings.text("path.storage.overlays")),
        node=settings.text("nodename"),
        uid_base=container_owner(settings),
        limit=settings.number("vm.lxc.unpacked"),
        subvolumes=settings.text("vm.lxc.storage") == "btrfs",
    )


def container_layers(settings: Settings) -> ILayers:
    """@raise SettingsError: there is no such back-end."""
    match settings.text("vm.lxc.storage"):
        case "overlayfs":
            return OverlayLayers(container_owner(settings))
        case "btrfs":
            return BtrfsLayers()
        case other:
            raise SettingsError(
                f"{settings.source}: vm.lxc.storage: there is no back-end {other!r}; there are: overlayfs, btrfs"
            )


def container_roots(settings: Settings, reactor: IRootsReactor) -> Roots:
    """Root file systems of containers."""
    return Roots(reactor, storage_layout(settings), container_layers(settings))


def lxc_layout(settings: Settings) -> LxcLayout:
    """Where the lxc driver keeps what, and what all containers have in common."""
    run, extra = run_folder(settings), settings.text("vm.lxc.config_extra")
    return LxcLayout(
        run=run,
        homes=Path(settings.text("path.storage.homes")),
        uid_base=settings.number("vm.lxc.uid_base"),
        userns=settings.flag("vm.lxc.userns"),
        pids=settings.number("vm.lxc.pids"),
        init=settings.text("vm.lxc.init"),
        apparmor=settings.text("vm.lxc.apparmor"),
        fuse=settings.flag("vm.lxc.fuse"),
        extra=Path(extra) if extra else None,
        lease=run / LEASE,
    )


def kvm_layout(settings: Settings) -> KvmLayout:
    """Where the kvm driver keeps what."""
    run = run_folder(settings)
    return KvmLayout(
        run=run,
        images=Path(settings.text("path.storage.images")),
        homes=Path(settings.text("path.storage.homes")),
        overlays=Path(settings.text("path.storage.overlays")),
        node=settings.text("nodename"),
        pids=QEMU_PIDS,
        user_storage=settings.number("vm.kvm.user_storage"),
        lease=run / LEASE,
    )


def wanted_virt_type(settings: Settings) -> Wanted:
    """@raise SettingsError: there is no such type."""
    try:
        return Wanted(settings.text("vm.kvm.virt_type"))
    except ValueError:
        raise SettingsError(f"{settings.source}: vm.kvm.virt_type: expected auto, kvm or qemu") from None


def network_terms(settings: Settings) -> NetworkTerms | None:
    """What the VM network is to be like; L{None}: there is none.

    @raise SettingsError: a list is none.
    """
    bridge = named(settings, "vm.network.bridge")
    if not bridge:
        return None
    return NetworkTerms(
        bridge=bridge,
        create=settings.flag("vm.network.create_bridge"),
        address=settings.text("node.address"),
        prefix=named(settings, "vm.network.device_prefix"),
        guest_ports=listed(settings, "vm.network.guest_ports", PORTS),
        login_port=settings.number("l7r.port") if settings.flag("vm.network.allow_login") else None,
        isolated=settings.flag("vm.network.isolate_vms"),
        dhcp=settings.flag("vm.network.dhcp"),
        nat_interface=named(settings, "vm.network.nat_interface") or None,
        nat_except=listed(settings, "vm.network.nat_except", NETWORK),
    )


def named(settings: Settings, key: str) -> str:
    """The name of a network interface, or the beginning of one; it may be empty.

    @raise SettingsError: it cannot be one.
    """
    name = settings.text(key)
    if name and not INTERFACE.fullmatch(name):
        raise SettingsError(f"{settings.source}: {key}: {name!r} cannot be the name of a network interface")
    return name


def listed(settings: Settings, key: str, form: re.Pattern[str]) -> tuple[str, ...]:
    """The parts of a text with commas. They become parts of the filters, so each must be what it should be.

    @raise SettingsError: one is not.
    """
    parts = tuple(part for part in settings.text(key).replace(" ", "").split(",") if part)
    if not parts and form is PORTS:
        raise SettingsError(f"{settings.source}: {key}: it names no port, and no node could reach a VM")
    for part in parts:
        if not form.fullmatch(part):
            raise SettingsError(f"{settings.source}: {key}: {part!r} cannot stand there")
    return parts


def weights_of(settings: Settings) -> Weights:
    """What counts in a placement."""
    names = ("ram", "cpu", "random", "prefer")
    return Weights(*(settings.get(f"l7r.loadbalancer.plugin.default.weight.{name}", float) for name in names))


def node_name(settings: Settings) -> NodeName:
    """How the node is registered."""
    return NodeName(settings.text("nodename"), settings.text("node.address"))


def identity_file(settings: Settings) -> Path:
    """What this machine got when it was enrolled."""
    return Path(settings.text("node.identity"))


def deadlines_of(settings: Settings) -> Deadlines:
    """Of the steps of a VM's life."""
    return Deadlines(
        start=settings.seconds("hkd.timeout.start"),
        shutdown=settings.seconds("hkd.timeout.shutdown"),
        kill=settings.seconds("hkd.timeout.kill"),
        queue=settings.seconds("hkd.timeout.queue"),
    )


def slot_sizes(settings: Settings) -> SlotSizes:
    """How much the node does at a time."""
    return SlotSizes(*(settings.number(f"hkd.slots.{work.value}") for work in Work))


def node_times(settings: Settings) -> NodeTimes:
    """Of an orderly stop."""
    stop_vms = settings.flag("hkd.stop.vms")
    ending = deadlines_of(settings).end if stop_vms else 0.0
    return NodeTimes(settings.seconds("hkd.stop.timeout") + ending, stop_vms)


def lease_times(settings: Settings) -> LeaseTimes:
    """Of this node's own lease."""
    return LeaseTimes(settings.seconds("hkd.lease"), settings.seconds("hkd.heartbeat"))


def image_folder(settings: Settings) -> Path:
    """Where the disk images are."""
    return Path(settings.text("path.storage.images"))


def image_patience(settings: Settings) -> float:
    """Seconds for a look at the disk images. A node looks before it renews its lease for the first time."""
    return min(IMAGE_SECONDS, settings.seconds("hkd.lease") / 6)


def storage_folders(settings: Settings) -> Folders:
    """Where garbage may lie."""
    return Folders(
        homes=Path(settings.text("path.storage.homes")).absolute(),
        overlays=Path(settings.text("path.storage.overlays")).absolute(),
        images=image_folder(settings).absolute(),
        bases=Path(settings.text("path.storage.bases")).absolute(),
    )


def garbage_patience(settings: Settings) -> float:
    """Seconds without progress. A thing is moved while a transaction is open, which must not be given up before."""
    return settings.seconds("database.timeout") / 2


def make_storage(settings: Settings, reactor: Any) -> Storage:
    """The storage, for the collection of garbage."""
    worker = Worker(reactor, garbage_patience(settings), in_daemon_thread)
    return Storage(storage_folders(settings), worker, subvolumes.remove_tree)


def garbage_terms(settings: Settings) -> Terms:
    """Of the collection that needs nobody to ask for it."""
    return Terms(settings.seconds("hkd.garbage.age") * DAY, settings.seconds("hkd.garbage.homes_age") * DAY)


def cluster_times(settings: Settings) -> ClusterTimes:
    """Of the look after other nodes."""
    return ClusterTimes(
        interval=settings.seconds("hkd.cluster.interval"),
        margin=settings.seconds("hkd.cluster.margin"),
        lease=settings.seconds("hkd.lease"),
    )


def watch_times(settings: Settings) -> WatchTimes:
    """Of the pings of guests."""
    return WatchTimes(
        boot=BOOT_PING_SECONDS,
        interval=settings.seconds("hkd.watch.interval"),
        failures=settings.number("hkd.watch.failures"),
    )


def desktop_times(settings: Settings) -> DesktopTimes:
    """Of the steps of a connection."""
    return DesktopTimes(
        start=deadlines_of(settings).until_up,
        stop=deadlines_of(settings).until_down,
        x_start=settings.seconds("l7r.timeout.x_start"),
        provisioning=settings.seconds("l7r.timeout.provisioning"),
        takeover=settings.seconds("l7r.timeout.takeover"),
    )


def head_limits(settings: Settings) -> HeadLimits:
    """Of a client's requests."""
    return HeadLimits(
        head_bytes=settings.number("l7r.limit.head"),
        head_seconds=settings.seconds("l7r.timeout.head"),
        first_seconds=settings.seconds("l7r.timeout.first"),
        idle_seconds=settings.seconds("l7r.timeout.idle"),
    )


def tls_limits(settings: Settings) -> TLSLimits:
    """Of clients' connections."""
    return TLSLimits(
        handshake_seconds=settings.seconds("l7r.timeout.handshake"),
        connections=settings.number("l7r.limit.connections"),
        connections_per_address=settings.number("l7r.limit.connections_per_address"),
    )
