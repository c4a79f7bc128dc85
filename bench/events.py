"""Two hundred listeners of events while a thousand VMs change in a second: what it costs who is served besides."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2

from bench.children import python
from bench.events_server import quantiles
from bench.report import emit
from qvd.db import migrate
from qvd.demo.postgres import EmbeddedPostgres

LISTENERS, PACE, VMS, TENANTS = 200, 1000, 2000, 10
BEFORE, SETTLING, DURING = 5.0, 4.0, 15.0
STAMP = re.compile(rb'"detail":"([0-9]+)"')
SEED = f"""
    INSERT INTO tenants (name) SELECT 'tenant' || n FROM generate_series(1, {TENANTS}) n;
    INSERT INTO users (tenant_id, login) SELECT id, 'user' || n FROM tenants, generate_series(1, {VMS // TENANTS}) n
        WHERE name LIKE 'tenant%';
    INSERT INTO osfs (tenant_id, name, memory) SELECT id, 'desk', 1 FROM tenants WHERE name LIKE 'tenant%';
    INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT u.tenant_id, u.id, o.id, 'desktop'
        FROM users u JOIN osfs o ON o.tenant_id = u.tenant_id;
"""


class Client:
    """One listener: counts what it gets, and takes the time of the newest of each piece."""

    def __init__(self, port: int, who: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.sendall(
            f"GET /api/v1/events?topics=test-vms HTTP/1.1\r\nHost: bench\r\nX-Who: {who}\r\n\r\n".encode()
        )
        self.events = self.lost = 0
        self.late: list[float] = []

    def take(self) -> None:
        data = self.connection.recv(1 << 18)
        now = time.monotonic_ns()
        self.events += data.count(b"event: changed")
        self.lost += data.count(b"event: resync")
        # The first of a piece has waited longest.
        if first := STAMP.search(data):
            self.late.append((now - int(first[1])) / 1e6)


def listen(port: int, seconds: float) -> list[Client]:
    """Half of them over all tenants, half of one each."""
    names = ["boss" if number % 2 else f"tenant{number // 2 % TENANTS + 1}" for number in range(LISTENERS)]
    clients = [Client(port, name) for name in names]
    by_number = {each.connection.fileno(): each for each in clients}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    for until in (SETTLING, seconds):
        # What came while the others were still connecting waited for us.
        for each in clients:
            each.events, each.late = 0, []
        ends = time.monotonic() + until
        while time.monotonic() < ends:
            for number, _ in poll.poll(0.1):
                by_number[number].take()
    for each in clients:
        each.connection.close()
    return clients


def events() -> None:
    """Latency from the change to the listener; lateness of the server without and with listeners."""
    with tempfile.TemporaryDirectory(prefix="qvd-bench-") as name:
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        postgres.start()
        try:
            postgres.create_database("events")
            measure(postgres.dsn("events"))
        finally:
            postgres.stop()


def measure(dsn: str) -> None:
    migrate.initialize(dsn, login_roles=True)
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(SEED)
    connection.close()
    server = subprocess.Popen(python("events_server", dsn), stdout=subprocess.PIPE, text=True)
    arguments = python("events_changes", dsn, str(PACE), str(VMS))
    changes = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        time.sleep(BEFORE)
        clients = listen(port, DURING)
        figures, _ = server.communicate(timeout=30)
    finally:
        changes.send_signal(signal.SIGTERM)
        paces = changes.communicate(timeout=10)[0].split()
        server.kill()
        server.wait()
    late = quantiles("latency", [value for each in clients for value in each.late])
    emit(
        "events_latency_ms",
        late.pop("latency_p50_ms"),
        "ms",
        **late,
        listeners=LISTENERS,
        changes_a_second=int(paces[-1]),
        events_a_second=sum(each.events for each in clients) / DURING,
        resyncs=sum(each.lost for each in clients),
    )
    for line in figures.splitlines():
        figure = json.loads(line)
        emit("events_reactor_lag_ms", figure.pop("lag_p50_ms"), "ms", **figure)


FIGURES = {"events": events}
