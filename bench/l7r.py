"""
What users wait for, on a real node: lists, log-ins, connecting to a running desktop, a cold start.

The node, PostgreSQL and the guests share the machine with this load generator, as they do in the figures of the
original that these are compared with.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.report import emit
from tests.integration.farm import Client, Farm

SECONDS = 5.0
IDLE_CONNECTIONS = 200
CONNECTS = 20
COLD_STARTS = 5
SESSION = "#!/bin/sh\nexec sleep 100000\n"


@contextmanager
def farm(overrides: Mapping[str, Any] | None = None) -> Iterator[Farm]:
    """A node of its own, with a desktop that needs no client to begin.

    @param overrides: settings of its.
    """
    with tempfile.TemporaryDirectory(prefix="qvd-bench-") as name:
        folder = Path(name)
        program = folder / "session"
        program.write_text(SESSION)
        program.chmod(0o755)
        made = Farm(folder, program, {"l7r.limit.connections_per_address": 2000, **(overrides or {})})
        made.start()
        try:
            yield made
        finally:
            made.stop()


def count_for(seconds: float, workers: int, work: Callable[[], Callable[[], None]]) -> float:
    """How often a second C{workers} threads together do something.

    @param work: called once in each thread; returns what is done over and over.
    """
    counts = [0] * workers
    begin, end = threading.Barrier(workers + 1), threading.Event()
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            step = work()
            begin.wait(60)
            while not end.is_set():
                step()
                counts[index] += 1
        except (OSError, AssertionError, EOFError, threading.BrokenBarrierError) as error:
            errors.append(error)
            begin.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    try:
        begin.wait(60)
    except threading.BrokenBarrierError:
        pass
    started = time.monotonic()
    end.wait(seconds)
    end.set()
    elapsed = time.monotonic() - started
    for thread in threads:
        thread.join(60)
    if errors:
        raise OSError(f"a client failed: {errors[0]!r}")
    return sum(counts) / elapsed


def lists() -> None:
    """Lists on kept connections, and log-ins on new ones."""
    with farm() as made:

        def kept() -> Callable[[], None]:
            client = made.client()
            client.list()
            return lambda: check(client)

        def login() -> None:
            with made.client() as client:
                check(client)

        for clients in (1, 20):
            emit("lists_per_second", count_for(SECONDS, clients, kept), "1/s", clients=clients)
        for clients in (1, 4):
            emit("logins_per_second", count_for(SECONDS, clients, lambda: login), "1/s", clients=clients)


def check(client: Client) -> None:
    assert len(client.list()) == 2


def idle() -> None:
    """Memory of connections that have logged in and wait."""
    with farm() as made:
        assert made.node is not None
        node = psutil.Process(made.node.process.pid)

        def login() -> None:
            with made.client() as client:
                check(client)

        # Each of the hasher's threads keeps the memory of its first password.
        count_for(1.0, 4, lambda: login)
        before = node.memory_info().rss
        clients = [made.client() for _ in range(IDLE_CONNECTIONS)]
        for client in clients:
            check(client)
        grown = node.memory_info().rss - before
        for client in clients:
            client.close()
        emit("rss_per_idle_session_kib", grown / IDLE_CONNECTIONS / 1024, "KiB", connections=IDLE_CONNECTIONS)


def connects() -> None:
    """From the TCP connection, through log-in, to the 101: first on stopped VMs, then on a running one."""
    with farm() as made:
        vm_id = made.credentials["vm_id"]
        cold = []
        for _ in range(COLD_STARTS):
            cold.append(to_101(made, vm_id))
            with made.client() as client:
                assert client.get(f"/qvd/stop_vm?id={vm_id}").head.status == 200
        emit("cold_start_ms", statistics.median(cold), "ms", most=max(cold), starts=COLD_STARTS)
        to_101(made, vm_id)
        warm = sorted(to_101(made, vm_id) for _ in range(CONNECTS))
        p95 = warm[min(int(len(warm) * 0.95), len(warm) - 1)]
        emit("connect_ms", statistics.median(warm), "ms", p95=p95, connects=CONNECTS)


def to_101(made: Farm, vm_id: int) -> float:
    """Milliseconds."""
    started = time.monotonic()
    with made.client() as client:
        response = client.connect(vm_id)
        elapsed = (time.monotonic() - started) * 1000
        assert response.head.status == 101, response
    until = time.monotonic() + 30
    while made.vm(vm_id)["session_id"] is not None:
        assert time.monotonic() < until, "the session does not end"
        time.sleep(0.02)
    return elapsed


FIGURES = {"lists": lists, "idle": idle, "connects": connects}
