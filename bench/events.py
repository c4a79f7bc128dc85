"""
Two hundred listeners of events while a thousand VMs change in a second, and what it costs who is served besides: users
of a node, which is on the same machine and has the same database.
"""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from bench.children import BenchError, free_port, python
from bench.events_node import NodeWatch
from bench.l7r import farm
from bench.report import emit, quantiles
from tests.integration.farm import Farm

LISTENERS, PACE, VMS, TENANTS = 200, 1000, 2000, 10
BEFORE, SETTLING, DURING = 10.0, 4.0, 15.0
PATIENCE = 30.0
BURN = """
import sys, time
share = float(sys.argv[1])
while True:
    until = time.process_time() + share * 0.02
    while time.process_time() < until: pass
    time.sleep(max(0.0, (1 - share) * 0.02))
"""
"""A program that takes a share of a processor."""
STAMP = re.compile(rb'"detail":"([0-9]+)"')
SEED = f"""
    INSERT INTO tenants (name) SELECT 'tenant' || n FROM generate_series(1, {TENANTS}) n;
    INSERT INTO users (tenant_id, login) SELECT id, 'user' || n FROM tenants, generate_series(1, {VMS // TENANTS}) n
        WHERE name LIKE 'tenant%';
    INSERT INTO osfs (tenant_id, name, memory) SELECT id, 'desk', 1 FROM tenants WHERE name LIKE 'tenant%';
    INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT u.tenant_id, u.id, o.id, 'desktop'
        FROM users u JOIN osfs o ON o.tenant_id = u.tenant_id WHERE u.login LIKE 'user%';
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


def listen(port: int, seconds: float, settled: Callable[[], None]) -> list[Client]:
    """Half of them over all tenants, half of one each.

    @param settled: called when all are connected and what has piled up is taken.
    """
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
        if until is SETTLING:
            settled()
    for each in clients:
        each.connection.close()
    return clients


class Load:
    """Users of the node, and how long they, and the node itself, have been kept waiting."""

    def __init__(self, made: Farm, admin_port: int) -> None:
        known = made.credentials
        arguments = [str(made.port), known["ca_file"], f"{known['user']}@{known['tenant']}", known["password"]]
        self.process = subprocess.Popen(
            python("events_l7r", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert made.node is not None
        self.node = psutil.Process(made.node.process.pid)
        self._watch = NodeWatch(admin_port, Path(known["ca_file"]))
        self._cpu = cpu_seconds(self.node)
        self._since = time.monotonic()

    def told(self, when: str, **more: float) -> None:
        """Emit what there was since the last time.

        @param more: what others had of the processors.
        """
        for name, figure in self._ask().items():
            emit(f"events_l7r_{name}_ms", figure.pop(f"{name}_p50_ms"), "ms", when=when, **figure)
        cpu, now = cpu_seconds(self.node), time.monotonic()
        used = (cpu - self._cpu) / (now - self._since)
        lag = self._watch.lag()
        emit("events_node_lag_ms", lag.pop("lag_mean_ms"), "ms", when=when, node_cpus=used, **more, **lag)
        self._cpu, self._since = cpu, now

    def restart(self) -> None:
        """Leave out what there was since the last time."""
        self._ask()
        self._watch.lag()
        self._cpu, self._since = cpu_seconds(self.node), time.monotonic()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _ask(self) -> dict[str, dict[str, Any]]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            found: dict[str, dict[str, Any]] = json.loads(self.process.stdout.readline())
        except (ValueError, BrokenPipeError):
            raise BenchError("a user of the node was not served") from None
        return found


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def child(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone afterwards."""
    made = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def events() -> None:
    """Latency from the change to the listener; lateness of the API, of the node and of its answers."""
    port = free_port()
    with farm({"admin.port": port}) as made:
        dsn = made.installation.admin_dsn
        connection = psycopg2.connect(dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute(SEED)
        connection.close()
        load = Load(made, port)
        try:
            time.sleep(2)
            load.restart()
            time.sleep(BEFORE)
            load.told("nothing else")
            measure(dsn, load)
        finally:
            load.stop()


@contextmanager
def other_work(shares: Sequence[float]) -> Iterator[None]:
    """Processes that do nothing but take the processors: shares of one for each.

    What whoever is served loses to these is lost to the machine; what they lose besides is lost to events.
    """
    with ExitStack() as stack:
        for share in shares:
            stack.enter_context(child([sys.executable, "-c", BURN, str(share)]))
        yield


def measure(dsn: str, load: Load) -> None:
    with (
        child(python("events_server", dsn)) as server,
        child(python("events_changes", dsn, str(PACE), str(VMS))) as changes,
    ):
        assert server.stdout is not None
        port = int(server.stdout.readline())
        load.restart()
        time.sleep(BEFORE)
        load.told("changes")
        processes = psutil.Process(server.pid), psutil.Process()
        before: list[float] = []

        def settled() -> None:
            load.restart()
            before.extend(cpu_seconds(each) for each in processes)

        clients = listen(port, DURING, settled)
        shares = [(cpu_seconds(each) - was) / DURING for each, was in zip(processes, before, strict=True)]
        load.told("changes and listeners", api_cpus=shares[0], listeners_cpus=shares[1])
        figures, _ = server.communicate(timeout=PATIENCE)
        with other_work(shares):
            load.restart()
            time.sleep(BEFORE)
            load.told("changes and as much other work")
        changes.send_signal(signal.SIGTERM)
        paces = changes.communicate(timeout=PATIENCE)[0].split()
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
