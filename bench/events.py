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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg2
from attrs import frozen

from bench.children import BenchError, free_port, python
from bench.events_node import NodeWatch
from bench.l7r import farm
from bench.report import emit, quantiles
from tests.integration.farm import Farm

LISTENERS, PACE, VMS, TENANTS = 200, 1000, 2000, 10
SETTLING, EACH, ROUNDS = 3.0, 6.0, 4
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


def connected(port: int) -> list[Client]:
    """Half of them over all tenants, half of one each."""
    names = ["boss" if number % 2 else f"tenant{number // 2 % TENANTS + 1}" for number in range(LISTENERS)]
    return [Client(port, name) for name in names]


def take(clients: Sequence[Client], seconds: float) -> None:
    """Read what comes."""
    by_number = {each.connection.fileno(): each for each in clients}
    with select.epoll() as poll:
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for number, _ in poll.poll(0.1):
                by_number[number].take()


class Load:
    """Users of the node, and how long they, and the node itself, are kept waiting."""

    def __init__(self, made: Farm, admin_port: int) -> None:
        known = made.credentials
        arguments = [str(made.port), known["ca_file"], f"{known['user']}@{known['tenant']}", known["password"]]
        self.process = subprocess.Popen(
            python("events_l7r", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._watch = NodeWatch(admin_port, Path(known["ca_file"]))

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """What is measured apart."""
        self._enter(name)
        yield
        self._enter("")

    def _enter(self, name: str) -> None:
        assert self.process.stdin is not None
        self._watch.enter(name)
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()

    def tell(self) -> None:
        """Emit all figures."""
        told, _ = self.process.communicate(timeout=PATIENCE)
        figures = [json.loads(line) for line in told.splitlines()]
        if not figures:
            raise BenchError("a user of the node was not served")
        for figure in figures:
            emit(f"events_l7r_{figure.pop('what')}_ms", figure.pop("wait_p50_ms"), "ms", **figure)
        for case in self._watch.looks:
            lag = self._watch.lag(case)
            emit("events_node_lag_ms", lag.pop("lag_mean_ms"), "ms", when=case, **lag)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


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
            with load.case("nothing else"):
                time.sleep(EACH)
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
        processes = psutil.Process(server.pid), psutil.Process()
        rounds = []
        # In turns, so that what others do on the machine meanwhile is in each of them.
        for _ in range(ROUNDS):
            with load.case("changes"):
                time.sleep(EACH)
            rounds.append(listened(port, load, processes))
            with other_work(rounds[-1].shares), load.case("changes, and as much other work"):
                time.sleep(EACH)
        load.tell()
        server.send_signal(signal.SIGTERM)
        figures, _ = server.communicate(timeout=PATIENCE)
        changes.send_signal(signal.SIGTERM)
        paces = changes.communicate(timeout=PATIENCE)[0].split()
    clients = [client for each in rounds for client in each.clients]
    late = quantiles("latency", [value for each in clients for value in each.late])
    emit(
        "events_latency_ms",
        late.pop("latency_p50_ms"),
        "ms",
        **late,
        listeners=LISTENERS,
        changes_a_second=int(paces[-1]),
        events_a_second=sum(each.events for each in clients) / EACH / ROUNDS,
        resyncs=sum(each.lost for each in clients),
        api_cpus=sum(each.shares[0] for each in rounds) / ROUNDS,
        listeners_cpus=sum(each.shares[1] for each in rounds) / ROUNDS,
    )
    for line in figures.splitlines():
        figure = json.loads(line)
        emit("events_reactor_lag_ms", figure.pop("lag_p50_ms"), "ms", **figure)


@frozen
class Round:
    """@ivar shares: of a processor, which each of the processes had."""

    clients: Sequence[Client]
    shares: Sequence[float]


def listened(port: int, load: Load, processes: Sequence[psutil.Process]) -> Round:
    """What the clients got while they listened."""
    clients = connected(port)
    take(clients, SETTLING)
    # What came while the others were still connecting waited for us.
    for each in clients:
        each.events, each.lost, each.late = 0, 0, []
    before = [cpu_seconds(each) for each in processes]
    with load.case("changes and listeners"):
        take(clients, EACH)
    shares = [(cpu_seconds(each) - was) / EACH for each, was in zip(processes, before, strict=True)]
    for each in clients:
        each.connection.close()
    return Round(clients, shares)


FIGURES = {"events": events}
