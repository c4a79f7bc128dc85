# -*- test-case-name: tests.unit.test_model_settings -*-
"""The keys of C{/etc/qvd/node.conf}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret
from qvd.model.settings import REQUIRED, Key, Settings, parse

NODE_KEYS: tuple[Key, ...] = (
    Key("nodename", str, REQUIRED, "name of this node in the table hosts"),
    Key("node.address", str, "127.0.0.1", "address of this node in the VM network"),
    Key("node.identity", str, "/var/lib/qvd/node.identity", "what qvd-node enrol wrote; nobody else may have a copy"),
    Key("database.host", str, "", "host name, address, or folder of a UNIX socket"),
    Key("database.port", int, 5432, "port", minimum=1),
    Key("database.name", str, "qvd", "name of the database"),
    Key("database.user", str, "qvd_node", "database role of nodes"),
    Key("database.password", Secret, Secret(""), "its password; empty where the server asks none"),
    Key("database.pool.size", int, 4, "connections for queries", minimum=1),
    Key("database.timeout", float, 10.0, "deadline of a transaction, seconds", minimum=0.1),
    Key("path.run", str, "/run/qvd", "sockets, pid files, state of running VMs"),
    Key("path.storage.images", str, "/var/lib/qvd/storage/images", "disk images"),
    Key("path.storage.homes", str, "/var/lib/qvd/storage/homes", "homes that persist"),
    Key("path.storage.overlays", str, "/var/lib/qvd/storage/overlays", "writable layers, thrown away at stop"),
    Key("path.storage.bases", str, "/var/lib/qvd/storage/bases", "container images, unpacked; shared between nodes"),
    Key("l7r.address", str, "*", "address that clients dial; * is all"),
    Key("l7r.port", int, 8443, "port that clients dial; 0 lets the system choose", minimum=0),
    Key("l7r.tls.cert", str, REQUIRED, "PEM file: certificate and chain"),
    Key("l7r.tls.key", str, REQUIRED, "PEM file: private key, readable by its owner only"),
    Key("l7r.auth.tenant", str, "default", "tenant of a login without one"),
    Key("l7r.auth.separators", str, "@#", "characters between login and tenant"),
    Key("l7r.limit.connections", int, 2000, "client connections at once", minimum=1),
    Key("l7r.limit.connections_per_address", int, 500, "of these, from one address", minimum=1),
    Key("l7r.limit.head", int, 16384, "bytes of a request head", minimum=1024),
    Key("l7r.timeout.handshake", float, 10.0, "TLS handshake, seconds", minimum=0.1),
    Key("l7r.timeout.head", float, 10.0, "from a head's first byte to its end, seconds", minimum=0.1),
    Key("l7r.timeout.first", float, 60.0, "from the handshake to the first successful login, seconds", minimum=0.1),
    Key("l7r.timeout.idle", float, 1800.0, "between two requests of a user, seconds", minimum=1),
    Key("l7r.timeout.x_start", float, 20.0, "until the X session listens, seconds", minimum=1),
    Key(
        "l7r.timeout.provisioning",
        float,
        330.0,
        "for the guest to prepare the user's account, on top of x_start, seconds",
        minimum=1,
    ),
    Key("l7r.timeout.takeover", float, 10.0, "until the older session has let the VM go, seconds", minimum=1),
    Key("l7r.loadbalancer.plugin.default.weight.ram", float, 1.0, "what free memory counts in a placement", minimum=0),
    Key("l7r.loadbalancer.plugin.default.weight.cpu", float, 1.0, "what idle processors count", minimum=0),
    Key("l7r.loadbalancer.plugin.default.weight.random", float, 1.0, "what chance counts", minimum=0),
    Key(
        "l7r.loadbalancer.plugin.default.weight.prefer",
        float,
        1.0,
        "what preferred properties (qvd.placement.prefer) count",
        minimum=0,
    ),
    Key("admin.port", int, 0, "port of the node's health and numbers; 0 is off", minimum=0),
    Key("admin.address", str, "127.0.0.1", "its address"),
    Key("admin.metrics.networks", str, "127.0.0.0/8, ::1", "who may read /metrics there: networks, with commas"),
    Key("hkd.lease", float, 30.0, "a lease not renewed this long is over, seconds", minimum=3),
    Key("hkd.heartbeat", float, 5.0, "between two renewals, seconds", minimum=0.5),
    Key("hkd.reconcile", float, 5.0, "between two looks for rows whose desired and observed state differ", minimum=0.2),
    Key("hkd.cluster.interval", float, 5.0, "between two looks for nodes that are lost, seconds", minimum=0.2),
    Key("hkd.cluster.margin", float, 5.0, "from the end of a node's lease to its loss, seconds", minimum=0.5),
    Key("hkd.images.interval", float, 60.0, "between two looks at the disk images that are here, seconds", minimum=0.2),
    Key("hkd.expire.warning", float, 300.0, "from the warning of users to the hard expiry of a VM, seconds", minimum=0),
    Key("hkd.watch.interval", float, 5.0, "between two pings of a running guest, seconds", minimum=0.1),
    Key("hkd.watch.failures", int, 6, "failed pings in a row that make a guest dead", minimum=1),
    Key("hkd.slots.unpack", int, 2, "VMs that are prepared at a time, their images unpacked", minimum=1),
    Key("hkd.slots.boot", int, 10, "VMs that boot at a time", minimum=1),
    Key("hkd.slots.stop", int, 10, "VMs that are stopped at a time", minimum=1),
    Key("hkd.timeout.queue", float, 600.0, "of a start, for free slots, on top of the next, seconds", minimum=1),
    Key("hkd.timeout.start", float, 180.0, "from a slot to running, seconds; clients are promised both", minimum=1),
    Key("hkd.timeout.shutdown", float, 30.0, "an orderly power-off, seconds", minimum=0.5),
    Key("hkd.timeout.kill", float, 5.0, "for the effect of TERM, then of KILL, seconds", minimum=0.5),
    Key(
        "hkd.stop.vms",
        bool,
        False,
        "stop all VMs when the daemon stops; false leaves them to its successor, for as long as the lease lasts",
    ),
    Key("hkd.stop.timeout", float, 30.0, "for an orderly stop of the daemon, seconds", minimum=1),
    Key("hkd.upgrade.drain", float, 28800.0, "for the sessions of a daemon that was upgraded, seconds", minimum=0),
    Key(
        "hkd.garbage.interval",
        float,
        86400.0,
        "between two collections of layers and unpacked images that nothing refers to, seconds; 0 is off",
        minimum=0,
    ),
    Key("hkd.garbage.age", float, 30.0, "that something must have been without a reference, days", minimum=0),
    Key("hkd.garbage.homes_age", float, 90.0, "that homes without a VM then stay in the trash, days", minimum=0),
    Key("vm.hypervisor", str, "sandbox", "driver: kvm, lxc or sandbox; or simulated, for load tests"),
    Key("vm.sandbox.uid_base", int, 2000000, "as root: VM n runs as this user id plus n", minimum=1000),
    Key("vm.sandbox.host_files", bool, False, "boot VMs without an image folder from the host's own /usr"),
    Key("vm.sandbox.x_session", str, "", "program copied into the guest as its X session; empty: the image's own"),
    Key("vm.lxc.storage", str, "overlayfs", "root file systems of containers: overlayfs or btrfs"),
    Key(
        "vm.lxc.uid_base",
        int,
        1000000,
        "first of the 65536 user ids of containers, the same on all nodes",
        minimum=65536,
    ),
    Key("vm.lxc.unpacked", int, 32 << 30, "most that may come out of a container's image, bytes", minimum=1 << 20),
    Key("vm.lxc.userns", bool, True, "containers have a user namespace: their root is nobody on the node"),
    Key("vm.lxc.pids", int, 1000, "most processes and threads of one container", minimum=20),
    Key("vm.lxc.init", str, "/sbin/init", "an image's first program"),
    Key("vm.lxc.apparmor", str, "generated", "AppArmor profile of containers, where the node uses AppArmor"),
    Key("vm.lxc.fuse", bool, False, "containers may mount file systems of their own through /dev/fuse"),
    Key("vm.lxc.config_extra", str, "", "file with more lxc.* lines for all containers; empty: none"),
    Key("vm.kvm.uri", str, "qemu:///system", "libvirt's daemon; it must be one of this node"),
    Key("vm.kvm.virt_type", str, "auto", "kvm; qemu, which is slow; or auto: kvm where the processor has it"),
    Key("vm.kvm.cpus", int, 2, "processors of a VM whose OSF says nothing", minimum=1),
    Key("vm.kvm.user_storage", int, 10 << 30, "bytes of a new user disk, where the OSF says nothing", minimum=1 << 20),
    Key("vm.kvm.vnc", bool, True, "VMs have a screen for administrators, on a UNIX socket"),
    Key("vm.kvm.ballooning", bool, True, "VMs have a virtio memory balloon"),
    Key("vm.network.bridge", str, "", "bridge of the VM network; empty: this node has none"),
    Key("vm.network.create_bridge", bool, False, "make the bridge where it is missing, with node.address"),
    Key("vm.network.device_prefix", str, "qvd", "how the names of VMs' network interfaces begin on the node"),
    Key("vm.network.guest_ports", str, "3030, 4100, 11100", "TCP ports of VMs that nodes use, with commas"),
    Key("vm.network.allow_login", bool, False, "VMs may log in: they reach l7r.port in the nodes' part"),
    Key("vm.network.isolate_vms", bool, True, "VMs do not reach each other"),
    Key("vm.network.dhcp", bool, True, "this node tells its virtual machines their addresses"),
    Key("vm.network.nat_interface", str, "", "interface through which VMs reach the outside; empty: they do not"),
    Key("vm.network.nat_except", str, "", "networks that are not outside, with commas"),
)

RENEWALS = 3
"""A lease must outlive so many intervals, so that one renewal that is late costs nobody a desktop."""


def parse_node(table: Mapping[str, Any], source: str) -> Settings:
    """Check C{node.conf}, each key and what they say together.

    @raise SettingsError: the sentence names the file and the key.
    """
    settings = parse(table, NODE_KEYS, source)
    lease, heartbeat = settings.seconds("hkd.lease"), settings.seconds("hkd.heartbeat")
    if heartbeat * RENEWALS > lease:
        raise SettingsError(
            f"{source}: hkd.heartbeat: {heartbeat:g} s is too long for a lease (hkd.lease) of {lease:g} s;"
            f" at most {lease / RENEWALS:g} s"
        )
    return settings
