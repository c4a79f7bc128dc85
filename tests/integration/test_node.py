"""A whole node under real and hostile clients, dying guests, a dying daemon and a database that goes away."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import argon2
import psutil
import pytest

from tests.conftest import require
from tests.integration.desktop import Desktop, desktop_farm, nxagents
from tests.integration.farm import Client, Farm, display, eventually

CANARY = "canary-Zk81-never-to-be-seen"
WIRE = Path(__file__).parents[1] / "wire"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with desktop_farm(tmp_path_factory.mktemp("farm")) as made:
        yield made


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    require("Xvfb", "nxproxy")
    with display() as name:
        yield name


def ended(farm: Farm, session: str) -> str:
    """Why a session ended; empty while it has not."""
    rows = farm.rows("SELECT end_reason FROM sessions WHERE id = %s AND ended_at IS NOT NULL", session)
    return str(rows[0]["end_reason"]) if rows else ""


def test_the_recorded_requests_of_both_clients(farm: Farm) -> None:
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash("secret")
    known = farm.rows("SELECT u.id, u.tenant_id, o.id AS osf FROM users u, osfs o WHERE login = 'alice'")[0]
    user, tenant, osf = known["id"], known["tenant_id"], known["osf"]
    before = farm.rows("SELECT password FROM users WHERE id = %s", user)[0]["password"]
    farm.rows("UPDATE users SET password = %s WHERE id = %s", hashed, user)
    farm.rows(
        "INSERT INTO vms (id, tenant_id, user_id, osf_id, name) VALUES (9, %s, %s, %s, 'recorded')", tenant, user, osf
    )
    try:
        for client in ("perl", "qt"):
            with farm.client() as wire:
                wire.socket.sendall((WIRE / f"{client}-0-list_of_vm.bin").read_bytes())
                response = wire.receive()
                assert response.head.status == 200
                assert 9 in [vm["id"] for vm in json.loads(response.body)]
                wire.socket.sendall((WIRE / f"{client}-1-stop_vm.bin").read_bytes())
                assert wire.final().body == b"Machine stopped\r\n"
                wire.socket.sendall((WIRE / f"{client}-2-connect_to_vm.bin").read_bytes())
                response = wire.final()
                assert response.head.status == 101
                assert len(response.head.header("X-QVD-Slave-Key") or "") == 64
        eventually(lambda: not farm.rows("SELECT 1 FROM sessions WHERE ended_at IS NULL AND vm_id = 9"), "sessions end")
    finally:
        farm.rows("UPDATE users SET password = %s WHERE id = %s", before, user)
        with farm.client() as wire:
            assert wire.get("/qvd/stop_vm?id=9").head.status == 200


def test_errors_tell_the_truth(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    upgrade = ("Connection: Upgrade", "Upgrade: QVD/1.0")
    with farm.client(password="wrong") as wire:
        assert wire.get("/qvd/list_of_vm").head.status == 401
        assert wire.get("/qvd/list_of_vm").head.status == 401
    with farm.client() as wire:
        assert wire.get("/qvd/ping").body == b"I am alive!\r\n"
        assert wire.get("/nothing").head.status == 404
        assert wire.get("/qvd/stop_vm").head.status == 422
        assert wire.get("/qvd/stop_vm?id=999999").head.status == 404
        assert wire.get("/qvd/list_of_vm").head.status == 200
    for path, headers, status in (
        ("/qvd/connect_to_vm?id=1", (), 426),
        ("/qvd/connect_to_vm", upgrade, 422),
        ("/qvd/connect_to_vm?id=x", upgrade, 422),
        ("/qvd/connect_to_vm?id=999999", upgrade, 404),
        (f"/qvd/connect_to_vm?id={vm_id}&evil=1", upgrade, 403),
    ):
        with farm.client() as wire:
            assert wire.get(path, *headers).head.status == status, path
            assert wire.closed(), path


def test_somebody_elses_vm_is_forbidden(farm: Farm) -> None:
    tenant, osf = farm.rows("SELECT tenant_id, id FROM osfs")[0].values()
    other = farm.rows("INSERT INTO users (tenant_id, login) VALUES (%s, 'mallory') RETURNING id", tenant)[0]["id"]
    alien = farm.rows(
        "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'alien') RETURNING id",
        tenant,
        other,
        osf,
    )[0]["id"]
    with farm.client() as wire:
        assert wire.get(f"/qvd/stop_vm?id={alien}").head.status == 403
        assert wire.connect(alien).head.status == 403


def test_a_blocked_user_is_refused_on_each_request(farm: Farm) -> None:
    with farm.client() as wire:
        assert wire.get("/qvd/list_of_vm").head.status == 200
        farm.rows("UPDATE users SET blocked = true WHERE login = 'alice'")
        try:
            assert wire.get("/qvd/list_of_vm").head.status == 401
            assert wire.get("/qvd/list_of_vm").head.status == 401
            with farm.client() as fresh:
                assert fresh.get("/qvd/list_of_vm").head.status == 401
                assert fresh.get("/qvd/list_of_vm").head.status == 401
        finally:
            farm.rows("UPDATE users SET blocked = false WHERE login = 'alice'")
        assert wire.get("/qvd/list_of_vm").head.status == 200


def test_a_start_that_cannot_be_says_why(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    with farm.client() as wire:
        assert wire.get(f"/qvd/stop_vm?id={vm_id}").head.status == 200
    farm.rows("UPDATE host_runtimes SET blocked = true")
    try:
        eventually(lambda: ping(farm) == 503, "the node notices", 15)
        with farm.client() as wire:
            response = wire.connect(vm_id)
            assert response.head.status == 503 and b"blocked" in response.body
    finally:
        farm.rows("UPDATE host_runtimes SET blocked = false")
        eventually(lambda: ping(farm) == 200, "the node serves again", 15)
    farm.rows("UPDATE osfs SET memory = memory * 1000000")
    try:
        with farm.client() as wire:
            response = wire.connect(vm_id)
            assert response.head.status == 503
            assert b"demo has" in response.body and b"MiB are needed" in response.body
    finally:
        farm.rows("UPDATE osfs SET memory = memory / 1000000")


def test_an_administrator_is_told_why_a_vm_is_where_it_is(farm: Farm) -> None:
    vm_id = farm.credentials["vm_id"]
    with farm.client() as wire:
        assert wire.connect(vm_id).head.status == 101
    told = ask_node(farm, str(vm_id))
    assert told.returncode == 0, told.stderr
    assert "is running on demo" in told.stdout
    assert "the highest: taken" in told.stdout
    absent = ask_node(farm, "4711")
    assert (absent.returncode, absent.stderr) == (1, "qvd-node: There is no VM 4711\n")


def ask_node(farm: Farm, vm_id: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("qvd-node")
    words = [str(program), "--config", str(farm.folder / "node.conf"), "explain", vm_id]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def ping(farm: Farm) -> int:
    with farm.client() as wire:
        return wire.get("/qvd/ping").head.status


def test_noise_is_refused_and_nobody_else_notices(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    session = desktop.session()
    node = psutil.Process(farm.node.process.pid if farm.node else 0)
    before = node.memory_info().rss
    with socket.create_connection(("127.0.0.1", farm.port), 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"TLS" in plain.recv(4096)
    with socket.create_connection(("127.0.0.1", farm.port), 30) as garbage:
        garbage.sendall(os.urandom(4096))
        garbage.settimeout(30)
        try:
            while garbage.recv(4096):
                pass
        except ConnectionError:
            pass
    with farm.client() as wire:
        flood(wire)
    with farm.client() as wire:
        wire.socket.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert wire.final().head.status == 400
        assert wire.closed()
    slow = farm.client()
    deadline = time.monotonic() + 30
    for byte in iter(lambda: b"G", None):
        try:
            slow.socket.sendall(byte)
        except OSError:
            break
        assert time.monotonic() < deadline, "a head a byte at a time is let go on"
        time.sleep(0.5)
    slow.close()
    assert node.memory_info().rss - before < 64 << 20
    assert desktop.session() == session
    log = farm.log
    for word in ("no TLS: ", "longer than", "control characters", "too long"):
        assert word in log, word
    assert "Traceback" not in log
    desktop.close()


def flood(wire: Client) -> None:
    """A megabyte of header."""
    try:
        wire.socket.sendall(b"GET /qvd/list_of_vm HTTP/1.1\r\nX: " + b"a" * (1 << 20))
    except OSError:
        return
    assert wire.final().head.status == 431


def test_the_newer_client_wins(farm: Farm, screen: str) -> None:
    first = Desktop(farm, screen)
    old = first.session()
    second = Desktop(farm, screen)
    eventually(lambda: second.session() not in ("", old), "the second has it")
    assert "taken" in eventually(lambda: ended(farm, old), "the first has ended")
    eventually(lambda: first.process.poll() is not None, "the first client is closed")
    second.close()
    first.close()
    eventually(lambda: not farm.rows("SELECT 1 FROM sessions WHERE ended_at IS NULL"), "no session is left")


def test_killed_nxagent(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    session = desktop.session()
    (agent,) = nxagents(farm)
    agent.send_signal(signal.SIGKILL)
    assert eventually(lambda: ended(farm, session), "the session has ended")
    assert farm.vm()["vm_state"] == "running"
    desktop.close()
    again = Desktop(farm, screen)
    again.close()


def test_killed_agent(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    session = desktop.session()
    (agent,) = farm.guest_processes("twisted qvd-vma")
    agent.send_signal(signal.SIGKILL)
    assert eventually(lambda: ended(farm, session), "the session has ended")
    row = eventually(lambda: (farm.vm()["vm_state"] == "stopped") and farm.vm(), "the VM has ended")
    assert row["last_error"]
    desktop.close()
    again = Desktop(farm, screen)
    again.close()


def test_killed_daemon(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    session = desktop.session()
    (before,) = nxagents(farm)
    farm.kill_node()
    eventually(lambda: desktop.process.poll() is not None, "the client is closed")
    farm.start_node()
    assert "restarted" in eventually(lambda: ended(farm, session), "the session has ended")
    (after,) = nxagents(farm)
    assert before == after, "the VM was adopted, not restarted"
    assert farm.vm()["vm_state"] == "running"
    desktop.close()
    again = Desktop(farm, screen)
    assert nxagents(farm) == [before]
    again.close()


def test_restarted_database(farm: Farm, screen: str) -> None:
    desktop = Desktop(farm, screen)
    session = desktop.session()
    farm.installation.postgres.stop("immediate")
    with farm.client() as wire:
        response = wire.get("/qvd/list_of_vm")
        assert response.head.status == 503
        assert int(response.head.header("Retry-After") or "") > 0
    assert desktop.process.poll() is None
    farm.installation.postgres.start()
    eventually(lambda: list_status(farm) == 200, "log-ins work again", 5)
    assert desktop.process.poll() is None
    assert desktop.session() == session
    desktop.close()
    assert "Traceback" not in farm.log


def list_status(farm: Farm) -> int:
    with farm.client() as wire:
        return wire.get("/qvd/list_of_vm").head.status


def test_no_secret_is_seen(farm: Farm, screen: str) -> None:
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(CANARY)
    before = farm.rows("SELECT password FROM users WHERE login = 'alice'")[0]["password"]
    farm.rows("UPDATE users SET password = %s WHERE login = 'alice'", hashed)
    known = farm.folder / "credentials.json"
    document = known.read_text()
    try:
        known.write_text(json.dumps({**json.loads(document), "password": CANARY}))
        with farm.client(password=CANARY + "x") as wire:
            assert wire.get("/qvd/list_of_vm").head.status == 401
            assert wire.get("/qvd/list_of_vm", authorization=f"Bearer {CANARY}").head.status == 401
        desktop = Desktop(farm, screen)
        secret = farm.vm()["vm_secret"]
        titles = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        desktop.close()
    finally:
        known.write_text(document)
        farm.rows("UPDATE users SET password = %s WHERE login = 'alice'", before)
    dump = json.dumps(farm.rows("SELECT * FROM events"), default=str)
    logs = "".join(path.read_text(errors="replace") for path in farm.folder.rglob("*.log"))
    for text in (CANARY, secret):
        assert not [title for title in titles if text in title]
        assert text not in dump
        assert text not in logs


def test_tls_versions(farm: Farm) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=farm.credentials["ca_file"])
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", farm.port), 30) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"GET /qvd/ping HTTP/1.1\n\n")
            assert secured.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_settings_errors_are_named(tmp_path: Path) -> None:
    config = tmp_path / "node.conf"
    config.write_text('nodename = "x"\nl7r.prot = 1\n')
    twistd = Path(sys.executable).with_name("twistd")
    done = subprocess.run(
        [str(twistd), "-n", "--pidfile=", "qvd-node", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"{config}: l7r.prot: unknown key" in done.stderr
