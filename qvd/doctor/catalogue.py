# -*- test-case-name: tests.doctor.test_catalogue -*-
"""All checks, in the order in which they are told. C{docs/doctor.md} describes each of them under its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

from qvd.doctor.checks import (
    containers,
    database,
    farm,
    images,
    machines,
    network,
    ports,
    roots,
    settings,
    storage,
    tls,
)
from qvd.doctor.findings import About, Finding
from qvd.doctor.place import Place

BOTH, NODE = (About.NODE, About.ADMIN), (About.NODE,)


@frozen
class Check:
    """One of them.

    @ivar id: its name for good.
    @ivar title: what it looks at.
    @ivar seconds: its deadline.
    @ivar of: the daemons that it is about.
    @ivar asks: it asks the database, and is left out where that does not answer.
    @ivar once: it is about the installation: one daemon's view of the database is enough.
    """

    id: str
    title: str
    seconds: float
    look: Callable[[Place], Iterable[Finding]]
    of: Sequence[About] = BOTH
    asks: bool = False
    once: bool = False


SETTINGS = "settings.valid"
SERVER = Check("database.reachable", "the database answers, and is one to work with", 12, database.look_at_server)
CHECKS: Sequence[Check] = (
    Check("settings.user", "who looks", 5, settings.look_at_user),
    Check("files.secrets", "nobody else can read secrets", 10, settings.look_at_permissions),
    Check("database.use", "it takes writes, keeps them, and has room", 10, database.look_at_use, asks=True),
    Check("database.schema", "its schema goes with this release", 10, database.look_at_schema, asks=True),
    Check("database.rights", "the role may do what it must, and no more", 10, database.look_at_rights, asks=True),
    Check("clock.offset", "this machine's clock and the database's agree", 10, database.look_at_clock, asks=True),
    Check("tls.key", "certificate and key can be used together", 5, settings.look_at_key),
    Check("tls.days", "the certificate is valid for long enough", 5, tls.look_at_dates),
    Check("tls.chain", "the chain is complete", 5, tls.look_at_chain),
    Check("tls.name", "the certificate is for the name that is dialled", 10, tls.look_at_names),
    Check("tls.strength", "clients accept it", 5, tls.look_at_strength),
    Check("tls.served", "the running daemon shows it", 12, tls.look_at_served),
    Check("ports.free", "the daemon has its ports, or can", 10, ports.look_at_ports),
    Check("storage.there", "the folders of the storage exist", 15, storage.look_at_folders),
    Check("storage.mounted", "what should be mounted is", 15, storage.look_at_mounts),
    Check("storage.writable", "they can be written and locked", 15, storage.look_at_writing),
    Check("storage.space", "there is room", 15, storage.look_at_space),
    Check("storage.shared", "all nodes see the same", 15, storage.look_at_sharing, asks=True),
    Check("storage.layers", "layers can be made", 20, roots.look_at_layers, NODE),
    Check("sandbox.bubblewrap", "sandboxes can be made", 20, roots.look_at_bubblewrap, NODE),
    Check("sandbox.programs", "what sandboxes take from the node", 10, roots.look_at_sandbox, NODE),
    Check("lxc.version", "liblxc is there", 10, containers.look_at_liblxc, NODE),
    Check("lxc.configuration", "what containers have in common", 10, containers.look_at_configuration, NODE),
    Check("lxc.ids", "user ids of containers", 10, containers.look_at_ids, NODE),
    Check("lxc.cgroups", "control groups can limit containers", 10, containers.look_at_groups, NODE),
    Check("kvm.libvirt", "libvirt answers", 15, machines.look_at_libvirt, NODE),
    Check("kvm.device", "the processor runs VMs", 10, machines.look_at_processor, NODE),
    Check("kvm.programs", "disks and sockets can be made", 10, machines.look_at_programs, NODE),
    Check("network.range", "the node has its address in the VM network", 10, network.look_at_range, NODE, asks=True),
    Check("network.bridge", "the bridge is there", 15, network.look_at_bridge, NODE),
    Check("network.nftables", "the kernel takes filters", 20, network.look_at_filters, NODE),
    Check("network.forwarding", "VMs reach the outside", 5, network.look_at_forwarding, NODE),
    Check("network.dhcp", "VMs are told their addresses", 10, network.look_at_dhcp, NODE),
    Check("images.files", "images are there, and what they should be", 30, images.look_at_files, asks=True),
    Check("images.contents", "images hold what they need", 900, images.look_at_contents, NODE, asks=True),
    Check("images.tags", "VMs have an image to start from", 10, images.look_at_tags, asks=True, once=True),
    Check("images.drivers", "nodes can start the images", 10, images.look_at_types, asks=True, once=True),
    Check("images.seen", "nodes see the images", 10, images.look_at_sight, asks=True, once=True),
    Check("hosts.lease", "nodes renew their leases", 10, farm.look_at_nodes, asks=True, once=True),
    Check("vms.stuck", "VMs get where they should", 10, farm.look_at_vms, asks=True, once=True),
    Check("sessions.open", "open sessions are served", 10, farm.look_at_sessions, asks=True, once=True),
    Check("jobs.failed", "jobs are done", 10, farm.look_at_jobs, asks=True, once=True),
)
IDS = (SETTINGS, SERVER.id, *(check.id for check in CHECKS))
