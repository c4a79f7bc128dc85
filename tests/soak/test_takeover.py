"""The newer client wins, again and again, and nothing is left of the older ones."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from statistics import median

import psutil

from tests.conftest import require
from tests.integration.desktop import Desktop, desktop_farm, nxagents
from tests.integration.farm import Farm, display, eventually

TIMES = 200 if os.environ.get("QVD_LONG") else 50
"""Take-overs; each is about a second. With C{QVD_LONG=1}, as in C{CONTRIBUTING.rst}, all of them."""
SETTLED = 0.3
"""Seconds for which a client has the desktop. nxagent notices only after 3 s that one has gone which had just come."""
WARM = 5
"""Take-overs before the count begins: pools and caches are filled by then."""


def held(process: psutil.Process) -> list[tuple[str, str]]:
    """Sockets and files that a process has open, without the numbers that differ from one to the next."""
    connections = process.net_connections("inet")
    sockets = [(str(c.laddr.port) if c.status == "LISTEN" else "connected", c.status) for c in connections]
    return [*sorted(sockets), ("descriptors", str(process.num_fds())), ("threads", str(process.num_threads()))]


def left(farm: Farm) -> list[str]:
    """What there still is of sessions in the database and in the guest."""
    rows = farm.rows("SELECT id::text FROM sessions WHERE ended_at IS NULL OR end_reason IS NULL")
    rows += farm.rows("SELECT session_id::text AS id FROM vm_runtimes WHERE session_id IS NOT NULL")
    return [str(row["id"]) for row in rows]


def take_over(farm: Farm, screen: str, older: Desktop) -> Desktop:
    """A newer client while the older one is connected. Returns the newer one, which has the desktop."""
    session = older.session()
    newer = Desktop(farm, screen, older.vm_id)
    eventually(lambda: newer.session() not in ("", session), "the newer client has it")
    (row,) = farm.rows("SELECT end_reason FROM sessions WHERE id = %s", session)
    assert "taken this virtual machine over" in row["end_reason"]
    eventually(lambda: older.process.poll() is not None, "the older client is closed")
    older.close()
    time.sleep(SETTLED)
    return newer


def show_times(farm: Farm) -> None:
    """What the newer clients waited, from claim to switch."""
    seconds = sorted(
        float(row["seconds"])
        for row in farm.rows(
            "SELECT extract(epoch FROM connected_at - started_at) AS seconds FROM sessions"
            # The first one took nothing over.
            " ORDER BY started_at OFFSET 1"
        )
    )
    p95 = seconds[int(len(seconds) * 0.95)]
    print(f"{len(seconds)} take-overs: median {median(seconds):.3f} s, p95 {p95:.3f} s, most {seconds[-1]:.3f} s")


def test_many_take_overs_leave_nothing_behind(tmp_path: Path) -> None:
    require("Xvfb", "nxproxy")
    with display() as screen, desktop_farm(tmp_path) as farm:
        assert farm.node is not None
        node = psutil.Process(farm.node.process.pid)
        desktop = Desktop(farm, screen)
        (agent,) = nxagents(farm)
        for _ in range(WARM):
            desktop = take_over(farm, screen, desktop)
        before, processes = held(node), len(node.children())
        rss = node.memory_info().rss
        for _ in range(TIMES):
            desktop = take_over(farm, screen, desktop)
        eventually(lambda: held(node) == before, "the node holds what it held before, and no more")
        assert len(node.children()) == processes
        assert node.memory_info().rss - rss < TIMES * 32 << 10
        assert nxagents(farm) == [agent], "all had the same desktop"
        desktop.process.send_signal(signal.SIGINT)
        desktop.close()
        eventually(lambda: left(farm) == [], "no session is left")
        assert farm.rows("SELECT count(*) AS n FROM sessions")[0]["n"] == 1 + WARM + TIMES
        assert "Traceback" not in farm.log
        show_times(farm)
