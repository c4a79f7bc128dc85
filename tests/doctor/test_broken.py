"""Set-ups that are really broken, each in one way: the doctor names the fault and its mend, and nothing else."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from attrs import field, frozen

from qvd.doctor.place import Wishes
from qvd.doctor.report import CLEAN, FAILED, WARNED
from qvd.hkd.garbage.places import CLAIM
from tests.conftest import missing, require
from tests.doctor.world import Setup, bad, certificate, inside, mounted, rooted

LXC = {"vm.hypervisor": "lxc", "vm.network.bridge": "qvdbr9", "node.address": "10.99.0.1"}
KVM = {**LXC, "vm.hypervisor": "kvm"}
NETWORK = "INSERT INTO vm_network (network, vms_from) VALUES ('10.99.0.0/16', '10.99.1.0')"
# What a machine lacks that is no node for containers; not what these tests are about.
OTHERS_OF_LXC = frozenset({"lxc.ids", "lxc.cgroups", "network.range", "network.bridge", "images.drivers"})
OTHERS_OF_KVM = frozenset({"kvm.libvirt", "kvm.device", "network.range", "network.bridge"})


@frozen
class Case:
    """One way to break it.

    @ivar check: that finds it.
    @ivar sentence: part of what it says; C{mend} likewise.
    @ivar others: checks that it may make fail as well.
    @ivar wants: programs.
    """

    name: str
    breaks: Callable[[Setup], object]
    check: str
    sentence: str
    mend: str
    others: frozenset[str] = frozenset()
    wants: tuple[str, ...] = field(factory=tuple)
    rooted: bool = False


def node(**values: object) -> Callable[[Setup], object]:
    """Settings of the node; C{__} stands for a dot."""
    return lambda setup: setup.node.update({name.replace("__", "."): value for name, value in values.items()})


def both(**values: object) -> Callable[[Setup], object]:
    given = {name.replace("__", "."): value for name, value in values.items()}
    return lambda setup: (setup.node.update(given), setup.admin.update(given))


def sql(*statements: str) -> Callable[[Setup], object]:
    return lambda setup: [setup.ask(statement) for statement in statements]


def within(*words: str, **values: object) -> Callable[[Setup], object]:
    """In a namespace with a read-only host; C{FOLDER} in a word stands for the set-up's."""

    def breaks(setup: Setup) -> None:
        node(**values)(setup)
        setup.wrapper = inside(setup.folder, *(word.replace("FOLDER", str(setup.folder)) for word in words))

    return breaks


def lxc(*words: str, **values: object) -> Callable[[Setup], object]:
    def breaks(setup: Setup) -> None:
        (setup.folder / "bases").mkdir()
        setup.node.update(LXC)
        setup.ask(NETWORK)
        setup.ask("UPDATE host_runtimes SET hypervisor = 'lxc'")
        within("--cap-add", "ALL", *words, **values)(setup)

    return breaks


def kvm(*words: str, **values: object) -> Callable[[Setup], object]:
    def breaks(setup: Setup) -> None:
        setup.node.update(KVM)
        setup.ask(NETWORK)
        within(*words, **values)(setup)

    return breaks


def another_key(setup: Setup) -> None:
    kept = (setup.tls / "cert.pem").read_bytes()
    certificate(setup.tls)
    (setup.tls / "cert.pem").write_bytes(kept)


def wrong_order(setup: Setup) -> None:
    chain = certificate(setup.tls, issuers=2)
    (setup.tls / "cert.pem").write_bytes(chain[0] + chain[2] + chain[1])


def unnamed(setup: Setup) -> None:
    setup.wishes = Wishes(("desktops.example.org",))


def password_for_all(setup: Setup) -> None:
    setup.node["database.password"] = "secret"
    setup.modes = {"node": 0o644}


def fstab(setup: Setup) -> None:
    table = setup.folder / "fstab"
    table.write_text(f"UUID=1 / ext4 defaults 0 1\nfiles.example:/qvd {setup.folder}/homes nfs4 defaults 0 0\n")
    setup.wrapper = inside(setup.folder, "--ro-bind", str(table), "/etc/fstab")


def layers_on_layers(setup: Setup) -> None:
    for name in ("a", "b", "c"):
        (setup.folder / name).mkdir()
    options = ",".join(
        f"{key}dir={setup.folder}/{name}" for key, name in zip(("lower", "upper", "work"), "abc", strict=True)
    )
    setup.wrapper = mounted(f"mount -t overlay overlay -o '{options}' '{setup.folder}/overlays'")


def strangers_storage(setup: Setup) -> None:
    claim = {"installation": "11111111-1111-1111-1111-111111111111", "storage": "x"}
    (setup.folder / "homes" / CLAIM).write_text(json.dumps(claim))


def image(name: str, content: bytes | None, kind: str) -> Callable[[Setup], object]:
    """Registered; of no content there is no file."""

    def breaks(setup: Setup) -> None:
        setup.add_vm(name, kind)
        if content is None:
            return
        if content:
            (setup.folder / "images" / name).write_bytes(content)
        else:
            (setup.folder / "images" / name / "usr/bin").mkdir(parents=True)

    return breaks


def images_gone(setup: Setup) -> None:
    setup.add_vm("desk.tar")
    shutil.rmtree(setup.folder / "images")


def unseen(setup: Setup) -> None:
    image("desk", b"", "sandbox")(setup)
    (setup.folder / "images/desk/usr/bin/nxagent").touch()
    setup.ask("DELETE FROM host_images")


def no_groups(setup: Setup) -> None:
    lxc()(setup)
    setup.wrapper = mounted("umount -R -l /sys/fs/cgroup")


def vm(*statements: str) -> Callable[[Setup], object]:
    """A VM, and then what becomes of it."""
    return lambda setup: (setup.add_vm(), sql(*statements)(setup))


RUNNING = (
    "UPDATE vm_runtimes SET host_id = (SELECT id FROM hosts), host_epoch = 1, vm_state = 'running',"
    " desired_state = 'running', vm_address = '127.0.0.1', vm_vma_port = 1, vm_x_port = 2"
)
STUCK = (
    "UPDATE vm_runtimes SET host_id = (SELECT id FROM hosts), host_epoch = 1, vm_state = 'starting',"
    " phase = 'unpack', since = now() - interval '2 hours'"
)
OPEN = (
    "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state, started_at)"
    " SELECT gen_random_uuid(), v.tenant_id, v.id, v.user_id, h.id, 1, '::1', 'connected', now() - interval '1 hour'"
    " FROM vms v, hosts h"
)
FAILED_JOB = (
    "INSERT INTO jobs (kind, state, tenant_id, administrator_name, acls, request_id, client_address, arguments,"
    " object_name, problem, ended_at) VALUES ('image.verify', 'failed', 0, 'anna', '{}', 'r', '::1', '{}', 'desk',"
    """ '{"detail": "The file is damaged"}', now())"""
)
CASES = (
    Case("key misspelt", node(l7r__prot=8443), "settings.valid", "l7r.prot: unknown key", "l7r.port is meant"),
    Case("key missing", lambda setup: setup.node.pop("nodename"), "settings.valid", "nodename: missing", "nodename ="),
    Case("not TOML", lambda setup: setup.raw.update(node="= 1\n"), "settings.valid", "node.conf", "correct the file"),
    Case("no file", lambda setup: setup.raw.update(admin=None), "settings.valid", "No such file", "write it"),
    Case("no such driver", node(vm__hypervisor="xen"), "settings.valid", "no driver 'xen'", "correct that line",
         frozenset({"images.contents"})),
    Case("password for all", password_for_all, "files.secrets", "Everybody", "chmod 600"),
    Case("key for all", lambda setup: (setup.tls / "key.pem").chmod(0o644), "files.secrets", "Everybody", "chmod 600",
         frozenset({"tls.key"})),
    Case("no key", lambda setup: (setup.tls / "key.pem").unlink(), "tls.key", "does not exist", "put it there",
         frozenset({"files.secrets"})),
    Case("no such database", both(database__name="nowhere"), "database.reachable", "does not exist", "createdb",
         frozenset({"storage.there"})),
    Case("no such host", both(database__host="db..invalid"), "database.reachable", "host name", "database.host"),
    Case("nobody at the port", both(database__host="127.0.0.1", database__port=1), "database.reachable",
         "Connection refused", "start PostgreSQL"),
    Case("schema too old", sql("UPDATE versions SET version = version - 1 WHERE component = 'schema'",
         "DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)"),
         "database.schema", "needs", "qvd-db migrate"),
    Case("schema too new", sql("UPDATE versions SET version = 9999"), "database.schema", "too old", "upgrade QVD"),
    Case("schema edited", sql("UPDATE schema_migrations SET checksum = 'x' WHERE number = 3"), "database.schema",
         "was changed after", "unchanged files"),
    Case("a right taken away", sql("REVOKE UPDATE ON host_runtimes FROM qvd_node"), "database.rights",
         "may not UPDATE on host_runtimes", "GRANT UPDATE ON host_runtimes TO qvd_node"),
    Case("a function taken away", sql("REVOKE EXECUTE ON FUNCTION vm_parameters_of(integer) FROM qvd_node"),
         "database.rights", "may not call vm_parameters_of", "GRANT EXECUTE ON FUNCTION vm_parameters_of(integer)"),
    Case("superuser", node(database__user="postgres"), "database.rights", "superuser", "set database.user to qvd_node"),
    Case("read-only database", sql("DO $$ BEGIN EXECUTE format("
         "'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"),
         "database.use", "takes no writes", "RESET default_transaction_read_only"),
    Case("clock an hour off", sql("CREATE SCHEMA wrong", "GRANT USAGE ON SCHEMA wrong TO PUBLIC",
         "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
         " 'SELECT pg_catalog.clock_timestamp() + interval ''1 hour'''",
         "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = wrong, pg_catalog, public',"
         " current_database()); END $$"),
         "clock.offset", "3600.0 s behind", "NTP", frozenset({"hosts.lease"})),
    Case("certificate over", lambda setup: certificate(setup.tls, days=-3), "tls.days", "ended on", "get a new one"),
    Case("certificate ends soon", lambda setup: certificate(setup.tls, days=5), "tls.days", "in 5 days", "new one"),
    Case("another name", unnamed, "tls.name", "not for desktops.example.org", "for the name that clients dial"),
    Case("another key", another_key, "tls.key", "not the private key", "key that it was made for"),
    Case("certificate in between missing", lambda setup: certificate(setup.tls, issuers=2, tells_issuer=True),
         "tls.chain", "in between is missing", "append the certificates"),
    Case("chain in wrong order", wrong_order, "tls.chain", "was not issued by the next", "server's certificate first"),
    Case("homes read-only", within("--ro-bind", "FOLDER/homes", "FOLDER/homes"), "storage.writable", "read-only",
         "remount,rw"),
    Case("homes full", within("--size", "65536", "--tmpfs", "FOLDER/homes"), "storage.space", "It is full",
         "remove what is not needed"),
    Case("homes not mounted", fstab, "storage.mounted", "files.example:/qvd should be mounted", "mount"),
    Case("images gone", images_gone,
         "storage.there", "images are registered", "mount the shared storage", frozenset({"images.files"})),
    Case("storage of others", strangers_storage, "storage.shared", "another installation", "folders of its own"),
    Case("storage not shared", lambda setup: setup.add_node("node2"), "storage.shared", "2 nodes", "shared storage"),
    Case("layers on layers", layers_on_layers, "storage.layers", "No layer can be mounted on overlay", "ext4",
         rooted=True),
    Case("no bubblewrap", within("--ro-bind", "/dev/null", "/usr/bin/bwrap"), "sandbox.bubblewrap", "not installed",
         "apt-get install bubblewrap"),
    Case("no nxagent on the host", within("--tmpfs", "/usr/bin", "--ro-bind", "/usr/bin/bwrap", "/usr/bin/bwrap",
         "--ro-bind", "/usr/bin/env", "/usr/bin/env", "--ro-bind", "/usr/bin/true", "/usr/bin/true",
         "--ro-bind", "/usr/bin/setpriv", "/usr/bin/setpriv"),
         "sandbox.programs", "nxagent", "apt-get install nxagent"),
    Case("no session program", node(vm__sandbox__x_session="/nowhere"), "sandbox.programs", "not exist", "program"),
    Case("no liblxc", lxc("--ro-bind", "/dev/null", "/usr/bin/lxc-start"), "lxc.version", "not installed",
         "apt-get install lxc", OTHERS_OF_LXC, ("nft", "ip"), True),
    Case("no ids for containers", lxc("--ro-bind", "/dev/null", "/etc/subuid"), "lxc.ids", "gives root no 65536 ids",
         "add the line root:1000000:65536", OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("no control groups", no_groups, "lxc.cgroups", "None are mounted", "mount -t cgroup2",
         OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("no bridge", lxc("--unshare-net"), "network.bridge", "does not exist", "create_bridge",
         OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("no forwarding", lxc("--unshare-net", vm__network__nat_interface="lo"), "network.forwarding",
         "does not forward", "ip_forward=1", OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("no nftables", lxc("--ro-bind", "/dev/null", "/usr/sbin/nft"), "network.nftables", "not installed",
         "apt-get install nftables", OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("address outside of the range", lxc(node__address="192.0.2.7"), "network.range", "not in the nodes' part",
         "set node.address", OTHERS_OF_LXC, ("lxc-start", "nft", "ip"), True),
    Case("no dnsmasq", lxc("--ro-bind", "/dev/null", "/usr/sbin/dnsmasq"), "network.dhcp", "not installed",
         "apt-get install dnsmasq-base", OTHERS_OF_LXC, ("lxc-start", "nft", "ip", "dnsmasq"), True),
    Case("no libvirt", kvm(vm__kvm__uri="qemu+unix:///system?socket=/nowhere"), "kvm.libvirt", "does not answer",
         "systemctl start libvirtd", OTHERS_OF_KVM, ("nft", "ip", "qemu-img", "dnsmasq")),
    Case("no KVM device", kvm("--dev", "/dev", vm__kvm__virt_type="kvm"), "kvm.device", "kvm is asked for",
         "virt_type to auto", OTHERS_OF_KVM, ("nft", "ip", "qemu-img", "dnsmasq")),
    Case("image file missing", image("desk", None, "sandbox"), "images.files", "It is not in", "copy it"),
    Case("image of another kind", image("desk.tar", b"QFI\xfb" + bytes(2000), "lxc"), "images.files",
         "content is for kvm", "right file", frozenset({"images.drivers"})),
    Case("image without nxagent", image("desk", b"", "sandbox"), "images.contents", "lacks usr/bin/nxagent", "nxagent"),
    Case("image that no node starts", image("disk.qcow2", b"QFI\xfb" + bytes(2000), "kvm"), "images.drivers",
         "no node runs that", "vm.hypervisor to kvm"),
    Case("image that a node does not see", unseen,
         "images.seen", "does not see desk", "mount the shared storage"),
    Case("tag without image", vm("UPDATE vms SET di_tag = 'new'"), "images.tags", "carries the tag 'new'", "publish"),
    Case("lease over", sql("UPDATE host_runtimes SET lease_until = now() - interval '10 minutes'"), "hosts.lease",
         "lease is over", "start its daemon"),
    Case("node lost", sql("UPDATE host_runtimes SET state = 'lost'"), "hosts.lease", "It is lost", "that machine"),
    Case("VM stuck", vm(STUCK), "vms.stuck", "starting for 120 minutes on node1 (unpack)", "history"),
    Case("agent silent", vm(RUNNING, "UPDATE vm_runtimes SET vma_ok_ts = now() - interval '1 hour'"), "vms.stuck",
         "nobody has heard", "console"),
    Case("session that lies", vm(RUNNING, OPEN), "sessions.open", "another session, or none", "tidies up"),
    Case("job failed", sql(FAILED_JOB), "jobs.failed", "The file is damaged", "mend what it says"),
)  # fmt: skip


def test_a_healthy_machine_is_healthy(setup: Setup) -> None:
    setup.add_vm()
    report = setup.look()
    assert bad(report) == []
    assert report.status == (WARNED if any(each.bad for each in report.findings) else CLEAN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fault_and_its_mend_are_named(setup: Setup, case: Case) -> None:
    require(*case.wants)
    if case.rooted and not rooted():
        missing("root")
    case.breaks(setup)
    report = setup.look()
    found = [each for each in report.findings if each.bad and each.check == case.check]
    told = [(f"{each.looked_at}: {each.sentence}", each.mend) for each in found]
    assert any(case.sentence in sentence and case.mend in mend for sentence, mend in told), report.text()
    assert {each.check for each in bad(report)} <= {case.check} | case.others, report.text()
    assert report.status in (WARNED, FAILED)


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind(("127.0.0.1", port))
        line.listen()
        yield


def test_a_port_that_another_program_has(setup: Setup) -> None:
    with listening(setup.node["l7r.port"]):
        report = setup.look()
    [found] = bad(report)
    assert found.check == "ports.free"
    assert "has it: qvd-node cannot start" in found.sentence
    assert "end that program" in found.mend
