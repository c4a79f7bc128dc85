"""The time of day jumps, for one process: Debian's faketime. The machine's own clock is never touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.soak.faultfarm import BOUND, LEASE, MACHINE, FaultFarm
from tests.soak.outcome import Outcome

FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def fake_time_library() -> Path | None:
    return next(iter(Path("/").glob(FAKETIME.lstrip("/"))), None)


class FakeTime:
    """A clock that a process takes for the machine's. Its uptime stays true."""

    def __init__(self, file: Path) -> None:
        library = fake_time_library()
        assert library is not None, "the Debian package faketime is not installed"
        self._library = library
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{offset}\n")
        os.replace(temporary, self._file)

    def fools(self, pid: int) -> bool:
        """Is that process one that takes it for the machine's?"""
        return str(self._library) in Path(f"/proc/{pid}/maps").read_text()


JUMPS = ("+3600", "-3600", "-3660", "+0")
"""Forward by an hour, back by two, back by a minute, and right again."""


def clock_of_a_node(farm: FaultFarm) -> Outcome:
    """A node's clock jumps: nothing happens."""
    one, _ = farm.nodes
    vm_id = farm.vms[0]
    fake = FakeTime(farm.farm.folder / "node-clock")
    one.stop()
    one.start(fake.environment)
    assert fake.fools(one.pid)
    farm.run_vm(one, vm_id)
    before = farm.guests(vm_id)
    farm.connect(one, vm_id)
    epoch = farm.host(one)["epoch"]
    most = 0.0
    for offset in JUMPS:
        fake.set(offset)
        time.sleep(LEASE / 2)
        most = max(most, farm.converge(f"all goes on after {offset}", also=lambda: farm.runs_on(vm_id) is one))
    assert farm.host(one)["epoch"] == epoch
    assert [each.pid for each in farm.guests(vm_id)] == [each.pid for each in before]
    lost = farm.lost_clients()
    one.stop()
    one.start()
    return Outcome(most, lost)


def clock_of_the_database(farm: FaultFarm) -> Outcome:
    """The server's clock jumps: forward, all leases are over; back, losses are found later. Nothing runs twice."""
    one, two = farm.nodes
    fake = FakeTime(farm.farm.folder / "server-clock")
    farm.server.stop()
    farm.server.start(fake.environment)
    farm.converge("the nodes have the database back")
    most = 0.0
    try:
        for offset, node in zip(JUMPS, (one, two, one, two), strict=True):
            vm_id = farm.vms[0]
            farm.run_vm(node, vm_id)
            fake.set(offset)
            time.sleep(LEASE / 2)
            (row,) = farm.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
            assert abs(row["now"] - time.time() - float(offset)) < MACHINE
            most = max(most, farm.converge(f"all are at work after {offset}"))
            farm.order_stop(vm_id)
            farm.converge("all is stopped", also=lambda: not farm.watch.live())
    finally:
        farm.server.stop()
        farm.server.start()
    farm.converge("the nodes have the database back", BOUND + LEASE)
    return Outcome(most)
