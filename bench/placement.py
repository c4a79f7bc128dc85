"""What a placement costs in a large farm, and how long a hundred clients wait who all want the last free slot."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from bench.children import python
from bench.l7r import farm
from bench.report import emit
from qvd.demo.postgres import EmbeddedPostgres
from tests.integration import lastslot

CLIENTS = 100
CHILD_SECONDS = 100


def placements() -> None:
    """One placement, by its kind of rule, with so many nodes and VMs in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="qvd-bench-") as name:
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        postgres.start()
        try:
            postgres.create_database("placement")
            child = subprocess.run(
                python("placement_load", postgres.dsn("placement")),
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
        emit("placement_ms", figure.pop("p50"), "ms", **figure)


def last_slot() -> None:
    """From the first connect to the last 503. The clients are logged in before."""
    with farm() as made:
        vm_ids = lastslot.make_vms(made, CLIENTS)
        lastslot.fill(made)
        answers = lastslot.rush(made, vm_ids)
    refused = sorted(answer.at for answer in answers if answer.status == 503)
    served = [answer.at for answer in answers if answer.status == 101]
    assert (len(refused), len(served)) == (CLIENTS - 1, 1), sorted(answer.status for answer in answers)
    emit(
        "last_slot_s",
        refused[-1],
        "s",
        median=refused[len(refused) // 2],
        clients=CLIENTS,
        refused=len(refused),
        desktop_after=served[0],
    )


FIGURES = {"placements": placements, "last_slot": last_slot}
