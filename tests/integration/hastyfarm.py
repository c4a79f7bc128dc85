"""A farm in which what takes a minute elsewhere takes some seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import require
from tests.integration.desktop import SESSION
from tests.integration.farm import Farm

LEASE, MARGIN = 6.0, 1.0
"""Seconds."""


@contextlib.contextmanager
def hasty_farm(folder: Path) -> Iterator[Farm]:
    """One whose nodes are soon taken for lost."""
    require("bwrap", "nxagent", "xterm")
    program = folder / "session"
    program.write_text(SESSION)
    program.chmod(0o755)
    times = {"hkd.lease": LEASE, "hkd.heartbeat": 1.0, "hkd.cluster.interval": 0.5, "hkd.cluster.margin": MARGIN}
    # All nodes are this machine, so that only what is reserved on each tells them apart.
    weights = {f"l7r.loadbalancer.plugin.default.weight.{name}": 0.0 for name in ("cpu", "random")}
    made = Farm(folder, program, {"hkd.stop.vms": True, **times, **weights})
    made.start()
    try:
        yield made
    finally:
        made.stop()
