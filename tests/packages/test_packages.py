"""The Debian packages: what is in them, that they run under their units, and that a purge leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing, require
from tests.packages.debian import Machine, archive, booted, build
from tests.rig.world import PROJECT, obstacle

pytestmark = pytest.mark.packages

INSTALLED = ("qvd-common", "qvd-node", "qvd-admin", "qvd-vma")
SECRET = "a secret of thirty-two characters"
PING = """
import http.client, sys
line = http.client.HTTPConnection("127.0.0.1", 3030, timeout=5)
line.request("GET", "/vma/ping", headers={"Authorization": "Bearer " + sys.argv[1]})
print(line.getresponse().status)
"""
NODE_CONF = """
nodename = "packaged"
node.address = "127.0.0.1"
database.host = "/srv/pg"
l7r.address = "127.0.0.1"
l7r.tls.cert = "/etc/qvd/certs/server.pem"
l7r.tls.key = "/etc/qvd/certs/server.key"
"""
ADMIN_CONF = """
database.host = "/srv/pg"
admin.address = "127.0.0.1"
admin.tls.cert = "/etc/qvd/certs/server.pem"
admin.tls.key = "/etc/qvd/certs/server.key"
"""
READY = """
import json, ssl, urllib.request
context = ssl.create_default_context(cafile="/etc/qvd/certs/ca.pem")
print(json.load(urllib.request.urlopen("https://127.0.0.1:9443/readyz", context=context))["status"])
"""
DSN = "host=/srv/pg user=postgres dbname=qvd"


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    require("dpkg-buildpackage", "dh", "make")
    return build()


@pytest.fixture
def machine(packages: dict[str, Path]) -> Iterator[Machine]:
    require("mmdebstrap", "systemd-nspawn", "nsenter")
    if (reason := obstacle()) is not None:
        missing(f"private world: {reason}")
    chosen = [packages[name] for name in INSTALLED]
    with booted(archive(chosen), chosen) as machine:
        yield machine


def modules_in(package: Path) -> set[str]:
    """Our modules in a package."""
    told = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "-t"], input=told, capture_output=True, check=True).stdout.decode().splitlines()
    paths = [name.partition("/site-packages/")[2] for name in names if name.endswith(".py")]
    ours = [path for path in paths if path.startswith(("qvd/", "twisted/plugins/qvd_"))]
    return {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in ours}


def test_the_guests_package_has_what_the_agent_imports_and_no_more(packages: dict[str, Path]) -> None:
    """The build reads imports off the sources; this imports them."""
    program = "import sys, qvd.agent.tap; print(*(name for name in sys.modules if name.split('.')[0] == 'qvd'))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    agent = {f"qvd.agent.{path.stem}" for path in (PROJECT / "qvd/agent").glob("*.py") if path.stem != "__init__"}
    assert modules_in(packages["qvd-vma"]) == {*told.stdout.split(), *agent, "twisted.plugins.qvd_vma_plugin"}


def install(machine: Machine) -> None:
    paths = machine.says("sh", "-c", "ls /srv/dist/*.deb").split()
    machine.run("apt-get", "install", "-y", "--no-install-recommends", *paths, seconds=120)


def start_agent(machine: Machine) -> None:
    marker = {"driver": "lxc", "vm_id": 7, "secret": SECRET, "vma_port": 3030, "display": 100}
    machine.run("mkdir", "-p", "/.qvd")
    machine.write("/.qvd/guest.json", json.dumps(marker))
    machine.run("systemctl", "start", "qvd-vma")


def ping(machine: Machine, secret: str) -> str:
    return machine.run("python3", "-c", PING, secret, check=False).stdout.strip()


def eventually(text: str, wanted: object, look: object) -> None:
    assert callable(look)
    deadline = time.monotonic() + 60
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"{text}: {seen}"
        time.sleep(0.2)


def start_node(machine: Machine) -> None:
    """With the packages' own tools: schema, enrolment, daemon."""
    certificate = "from pathlib import Path; from qvd.demo.tls import make_certificates as m; m(Path('/etc/qvd/certs'))"
    machine.run("/usr/lib/qvd/node/bin/python", "-I", "-c", certificate)
    machine.run("mv", "/etc/qvd/certs/cert.pem", "/etc/qvd/certs/server.pem")
    machine.run("mv", "/etc/qvd/certs/key.pem", "/etc/qvd/certs/server.key")
    machine.write("/etc/qvd/node.conf", NODE_CONF)
    machine.run("qvd-db", "init", "--login", "--dsn", DSN)
    insert = "INSERT INTO hosts (name, address) VALUES ('packaged', '127.0.0.1')"
    execute = "import psycopg2, sys; c = psycopg2.connect(sys.argv[1]); c.cursor().execute(sys.argv[2]); c.commit()"
    machine.run("/usr/lib/qvd/node/bin/python", "-I", "-c", execute, DSN, insert)
    machine.run("systemctl", "start", "qvd-node", seconds=90)


def start_admin(machine: Machine) -> None:
    """It answers, and ends in order."""
    machine.write("/etc/qvd/admin.conf", ADMIN_CONF)
    machine.run("systemctl", "start", "qvd-admin", seconds=90)
    assert machine.says("python3", "-c", READY) == "ready"
    machine.run("systemctl", "stop", "qvd-admin")
    assert machine.says("systemctl", "show", "-P", "Result", "qvd-admin") == "success"


def shown(machine: Machine, name: str) -> str:
    return machine.says("systemctl", "show", "-P", name, "qvd-node")


def test_started_upgraded_and_purged(machine: Machine) -> None:
    before = machine.files()
    install(machine)
    assert machine.says("systemctl", "is-enabled", "qvd-node", "qvd-vma", "qvd-admin") == "enabled\nenabled\nenabled"

    start_agent(machine)
    eventually("the agent answers", "200", lambda: ping(machine, SECRET))
    assert ping(machine, "another secret of that length") == "401"

    start_node(machine)
    assert machine.says("systemctl", "is-active", "qvd-node") == "active"
    assert "packaged" in machine.says("qvd-node", "status")
    first = shown(machine, "WatchdogTimestampMonotonic")
    assert first != "0"
    eventually("a sign of life", True, lambda: shown(machine, "WatchdogTimestampMonotonic") != first)
    main = shown(machine, "MainPID")
    machine.run("systemctl", "reload", "qvd-node")
    eventually("another daemon", True, lambda: shown(machine, "MainPID") not in (main, "0"))
    assert machine.says("systemctl", "is-active", "qvd-node") == "active"
    start_admin(machine)
    machine.run("systemctl", "stop", "qvd-node")
    assert shown(machine, "Result") == "success"

    machine.run("sh", "-c", "rm -r /.qvd /etc/qvd/certs/*")
    machine.run("apt-get", "purge", "-y", *INSTALLED, seconds=120)
    assert "qvd" not in machine.says("dpkg", "-l")
    assert machine.files() - before == set()
    assert machine.says("cat", "/etc/subuid", "/etc/subgid") == ""


def test_a_purge_keeps_what_people_stored(machine: Machine) -> None:
    install(machine)
    assert machine.says("cat", "/etc/subuid") == "root:1000000:65536"
    machine.write("/var/lib/qvd/storage/images/debian.tar", "an image")
    done = machine.run("apt-get", "purge", "-y", *INSTALLED, seconds=120)
    assert "/var/lib/qvd/storage is not empty, so it is kept" in done.stdout + done.stderr
    assert machine.says("cat", "/var/lib/qvd/storage/images/debian.tar") == "an image"
