"""The relay alone, without logins and database, beside HAProxy."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import fmean

from attrs import frozen

from bench import haproxy, load
from bench.children import Child, python
from bench.report import emit_beside
from qvd.demo.tls import make_certificates

SECONDS = 1.5
ROUNDS = 3
UPLOAD = 1 << 29
ECHOES = 200
PAYLOAD = bytes(1024)
SESSIONS = 300
WARM = 50


@frozen
class Stage:
    """What the figures run on.

    @ivar yardstick: where HAProxy is, if it is installed.
    """

    folder: Path
    backend: Child
    yardstick: str | None

    def dialer(self, child: Child) -> load.Dialer:
        return load.Dialer(child.port, self.folder / "ca.pem")

    def ours(self, idle: bool) -> Child:
        arguments = [str(self.folder / "cert.pem"), str(self.folder / "key.pem"), str(self.backend.port)]
        return Child(python("relay_server", *arguments, *(["--idle"] if idle else [])))

    def theirs(self, idle: bool) -> AbstractContextManager[Child | None]:
        if self.yardstick is None:
            return nullcontext()
        return haproxy.start(self.yardstick, self.folder, self.backend.port, idle)

    def measure(
        self, what: Callable[[Child], list[float]], rounds: int = 1, idle: bool = False
    ) -> list[tuple[float, float | None]]:
        """Each of the figures that C{what} measures, ours and HAProxy's: the means of some rounds by turns, since
        the machine may have something else to do for a while."""
        with self.ours(idle) as ours, self.theirs(idle) as theirs:
            both = [(what(ours), what(theirs) if theirs else None) for _ in range(rounds)]
        means = [fmean(values) for values in zip(*(mine for mine, _ in both), strict=True)]
        others: list[float | None] = [None] * len(means)
        if theirs is not None:
            others = [fmean(values) for values in zip(*(their for _, their in both if their), strict=True)]
        return list(zip(means, others, strict=True))


@contextmanager
def stage() -> Iterator[Stage]:
    """A certificate, and a backend."""
    with tempfile.TemporaryDirectory(prefix="qvd-bench-") as name, Child(python("backend")) as backend:
        folder = Path(name) / "tls"
        make_certificates(folder)
        yield Stage(folder, backend, haproxy.installed())


def bulk(direction: str) -> None:
    """Rate and CPU of one large transfer."""
    with stage() as on:

        def transfer(child: Child) -> list[float]:
            dialer = on.dialer(child)
            before = child.cpu_seconds()
            done = load.download(dialer, SECONDS) if direction == "down" else load.upload(dialer, UPLOAD)
            return [done.mb_per_s, (child.cpu_seconds() - before) / done.size * 1e9]

        rate, cpu = on.measure(transfer, ROUNDS)
    middle = "" if direction == "down" else "upload_"
    emit_beside(f"relay_{middle}mb_per_s", "MB/s", *rate)
    emit_beside(f"relay_{middle}cpu_s_per_gb", "s/GB", *cpu)


def ping_pong() -> None:
    """Many small messages to and fro, on many connections."""
    with stage() as on:

        def echo(child: Child) -> list[float]:
            connections = load.open_echoes(on.dialer(child), ECHOES)
            before = child.cpu_seconds()
            times = sorted(load.ping_pong(connections, PAYLOAD, SECONDS))
            cpu = child.cpu_seconds() - before
            for connection in connections:
                connection.close()
            return [times[int(len(times) * 0.99)] * 1e3, cpu / len(times) * 1e6, len(times) / SECONDS]

        p99, cpu, rate = on.measure(echo, ROUNDS)
    emit_beside("relay_pingpong_p99_ms", "ms", *p99, connections=ECHOES, payload=len(PAYLOAD))
    emit_beside("relay_cpu_us_per_roundtrip", "us", *cpu, connections=ECHOES, payload=len(PAYLOAD))
    emit_beside("relay_roundtrips_per_second", "1/s", *rate, connections=ECHOES, payload=len(PAYLOAD))


def memory(idle: bool) -> None:
    """Resident memory of a connection: idle after its handshake, or one that has relayed and is now quiet."""
    with stage() as on:

        def hold(child: Child) -> list[float]:
            dialer = on.dialer(child)

            def more(count: int) -> list[ssl.SSLSocket]:
                return [dialer.dial() for _ in range(count)] if idle else load.open_echoes(dialer, count)

            connections = more(WARM)
            before = child.rss_kib()
            connections += more(SESSIONS)
            if not idle:
                load.ping_pong(connections, PAYLOAD * 16, 1.0)
            grown = child.rss_kib() - before
            for connection in connections:
                connection.close()
            return [grown / SESSIONS]

        (figure,) = on.measure(hold, idle=idle)
    emit_beside(f"rss_per_{'idle_connection' if idle else 'relayed_session'}_kib", "KiB", *figure, count=SESSIONS)


FIGURES: dict[str, Callable[[], None]] = {
    "relay_mb_per_s": lambda: bulk("down"),
    "relay_upload_mb_per_s": lambda: bulk("up"),
    "relay_pingpong": ping_pong,
    "rss_per_relayed_session_kib": lambda: memory(idle=False),
    "rss_per_idle_connection_kib": lambda: memory(idle=True),
}
"""By name: each measures, emits one or more figures, and stands alone."""
