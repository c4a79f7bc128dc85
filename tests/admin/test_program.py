"""The daemon's own process, with everything open that a client can hold open, when it is told to end."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from qvd.admin.login.proofs import TOKEN_MARK, digest, new_proof
from qvd.demo.installation import AdminProcess, write_conf
from qvd.demo.tls import make_certificates
from tests.integration.farm import free_port

SOON = 15


class Program:
    """C{twistd qvd-admin}, and an administrator of it with a token."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        make_certificates(folder / "tls")
        (folder / "images").mkdir()
        address, proof = parse_dsn(dsn), new_proof(TOKEN_MARK)
        self._token = proof.reveal()
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO tenants (name) VALUES ('acme') RETURNING id")
            (tenant,) = cursor.fetchone() or (0,)
            cursor.execute("INSERT INTO osfs (tenant_id, name, memory) VALUES (%s, 'desktop', 1048576)", (tenant,))
            cursor.execute(
                "INSERT INTO administrators (tenant_id, name, password) VALUES (%s, 'anna', '') RETURNING id",
                (tenant,),
            )
            (anna,) = cursor.fetchone() or (0,)
            cursor.execute(
                "INSERT INTO administrator_roles (administrator_id, tenant_id, role_id, role_tenant_id)"
                " SELECT %s, %s, id, tenant_id FROM roles WHERE name = 'Tenant owner'",
                (anna, tenant),
            )
            cursor.execute(
                "INSERT INTO administrator_tokens (administrator_id, hash, name, scopes, expires_at)"
                " VALUES (%s, %s, 'test', '{*}', now() + interval '1 hour')",
                (anna, digest(proof)),
            )
            cursor.execute("SELECT id FROM osfs")
            (self.osf,) = cursor.fetchone() or (0,)
        values = {
            "database.host": address["host"],
            "database.port": int(address["port"]),
            "database.name": address["dbname"],
            "admin.address": "127.0.0.1",
            "admin.port": self.port,
            "admin.tls.cert": str(folder / "tls/cert.pem"),
            "admin.tls.key": str(folder / "tls/key.pem"),
            "path.storage.images": str(folder / "images"),
        }
        write_conf(folder / "admin.conf", values)
        self.daemon = AdminProcess(folder)
        self.daemon.await_ready()

    def open(self, request: str, *more: str, body: bytes = b"") -> ssl.SSLSocket:
        """Begin a request, and keep its connection."""
        context = ssl.create_default_context(cafile=str(self.folder / "tls/ca.pem"))
        line = context.wrap_socket(socket.create_connection(("localhost", self.port), 20), server_hostname="localhost")
        head = [f"{request} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self._token}", *more, "", ""]
        line.sendall("\r\n".join(head).encode() + body)
        return line

    def post(self, path: str, document: object) -> dict[str, object]:
        body = json.dumps(document).encode()
        with self.open(f"POST {path}", f"Content-Length: {len(body)}", "Connection: close", body=body) as line:
            answer = b""
            while data := line.recv(65536):
                answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b" 20" in head.splitlines()[0], answer
        made: dict[str, object] = json.loads(rest[rest.index(b"{") : rest.rindex(b"}") + 1])
        return made


@pytest.fixture
def program(database: str, tmp_path: Path) -> Iterator[Program]:
    made = Program(database, tmp_path)
    yield made
    made.daemon.stop()


def test_it_ends_in_time_whoever_holds_what_open(program: Program, database: str) -> None:
    made = program.post(
        "/api/v1/images",
        {"osf_id": program.osf, "source": {"type": "upload", "name": "a.qcow2", "size": 1000, "checksum": "0" * 64}},
    )
    assert isinstance(made["upload"], dict)
    upload = f"/api/v1/uploads/{made['upload']['id']}"
    octets = ("Content-Type: application/offset+octet-stream", "Upload-Offset: 0", "Content-Length: 1000")
    lines = [
        program.open("GET /api/v1/events?topics=users"),
        program.open(f"PATCH {upload}", *octets, body=b"x" * 100),
        program.open("GET /api/v1/users", "X-Unfinished: "),
        program.open("POST /api/v1/users", "Content-Length: 100", body=b"{"),
    ]
    # It watches, and what came is written, before it is told to end.
    heard = b""
    while b"event: hello" not in heard:
        heard += lines[0].recv(65536)
    part = program.folder / "images/.uploads" / str(made["image"]["id"])  # type: ignore[index]
    for _ in range(100):
        if part.exists() and part.stat().st_size == 100:
            break
        time.sleep(0.1)
    children = psutil.Process(program.daemon.process.pid).children(recursive=True)
    begun = time.monotonic()
    program.daemon.process.send_signal(signal.SIGTERM)
    program.daemon.process.wait(SOON)
    assert time.monotonic() - begun < SOON
    assert program.daemon.process.returncode == -signal.SIGTERM
    assert not [child for child in children if child.is_running()]
    assert part.stat().st_size == 100
    for line in lines:
        line.close()
    said = (program.folder / "admin.log").read_text()
    assert "Traceback" not in said and "Unhandled" not in said, said
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'qvd_api' AND datname = current_database()"
        )
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT action, outcome FROM audit ORDER BY id DESC LIMIT 1")
        assert cursor.fetchone() == ("upload.send", "failed")
