"""How long lists of a large installation take: 200 tenants, 50,000 users, 100,000 VMs, at the API's own operations."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from bench.children import python
from bench.report import emit
from qvd.demo.postgres import EmbeddedPostgres

CHILD_SECONDS = 280


def lists() -> None:
    """Each kind of list, many times, in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="qvd-bench-") as name:
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        postgres.start()
        try:
            postgres.create_database("administration")
            child = subprocess.run(
                python("administration_load", postgres.dsn("administration")),
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                timeout=CHILD_SECONDS,
                check=True,
                text=True,
            )
        finally:
            postgres.stop()
    for line in child.stdout.splitlines():
        figure = json.loads(line)
        emit("admin_list_ms", figure.pop("p95"), "ms", **figure)


FIGURES = {"admin_lists": lists}
