"""How long it takes to start many containers at once with the driver alone, and what each needs: tiny guests in a
private world, one process of busybox each, over one image."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from bench.children import BenchError
from bench.report import emit
from qvd.hkd.hypervisor.lxc.driver import LxcDriver
from qvd.model.ids import VMId
from tests.fakes.asynchronous import until
from tests.machines import containers
from tests.rig.world import obstacle, private_world

COUNT = 50
SECONDS = 120


def at_once() -> None:
    """Start them, see all of them up, and kill them."""
    reason = obstacle()
    if reason is not None:
        raise BenchError(f"no private world: {reason}")
    with private_world([sys.executable, "-m", "bench.containers", str(COUNT)]) as world:
        status = world.process.wait(SECONDS)
    if status:
        raise BenchError(f"the containers ended with status {status}")


FIGURES = {"containers": at_once}


def memory() -> int:
    """Bytes of all processes, what several share counted once. What is free on the machine says little: caches."""
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            found += process.memory_full_info().pss
    return found


class Fleet:
    """Containers of one driver."""

    def __init__(self, base: Path, count: int) -> None:
        containers.grant_ids()
        containers.make_image(base / "images/busybox")
        self._base = base
        self._specs = [containers.spec(number, "runs") for number in range(1, count + 1)]
        self._driver: LxcDriver = containers.driver_of(containers.layout(base), base / "images", base)
        self._slowest = 0.0

    async def run(self) -> None:
        for spec in self._specs:
            await self._driver.prepare(spec, lambda text: None)
        before, began = memory(), reactor.seconds()
        await gatherResults([Deferred.fromCoroutine(self._start(spec.vm_id)) for spec in self._specs])
        all_up = reactor.seconds() - began
        needed = memory() - before
        began = reactor.seconds()
        await gatherResults([Deferred.fromCoroutine(self._end(spec.vm_id)) for spec in self._specs])
        self._emit(all_up, reactor.seconds() - began, needed)

    async def _start(self, vm_id: VMId) -> None:
        began = reactor.seconds()
        await self._driver.start(self._specs[vm_id - 1])
        self._slowest = max(self._slowest, reactor.seconds() - began)
        await until((self._base / f"homes/1/{vm_id}/booted").exists)

    async def _end(self, vm_id: VMId) -> None:
        await self._driver.kill(vm_id)
        await self._driver.destroy(vm_id)

    def _emit(self, all_up: float, all_gone: float, needed: int) -> None:
        count = len(self._specs)
        emit("containers_up_s", all_up, "s", containers=count, each_ms=all_up / count * 1000, slowest=self._slowest)
        emit("containers_gone_s", all_gone, "s", containers=count, each_ms=all_gone / count * 1000)
        emit("container_memory_mib", needed / count / (1 << 20), "MiB", of="processes: guest, supervisor, liblxc")


def main(count: int) -> None:
    """Inside the world."""
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory() as folder:
        running = Fleet(Path(folder), count)

        def begin() -> None:
            done = Deferred.fromCoroutine(running.run())
            done.addErrback(failures.append)
            done.addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        reactor.run()
    if failures:
        raise SystemExit(failures[0].getTraceback())


if __name__ == "__main__":
    main(int(sys.argv[1]))
