"""A driver of containers, its storage, and one VM, for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
from attrs import evolve

from qvd.model.ids import VMId
from qvd.model.records import Guest
from tests.fakes.asynchronous import until
from tests.machines import containers

NINE = VMId(9)


class Bench:
    """A driver, its storage, and one VM whose guest runs what the test says."""

    def __init__(self, images: Path, base: Path) -> None:
        self.base = base
        self.images = images
        self.layout = containers.layout(base)
        self.spec = containers.spec(9, "script")
        self.gone: list[VMId] = []
        self.home = base / "homes/1/9"
        self.state = base / "run/vms/9"
        self._make()

    def _make(self) -> None:
        self.driver = containers.driver_of(self.layout, self.images, self.base)
        self.driver.watch(self.gone.append)

    def change(self, **changes: Any) -> None:
        self.driver.close()
        self.layout = evolve(self.layout, **changes)
        self._make()

    def own_image(self) -> Path:
        """An image that this test alone has."""
        self.images = self.base / "images"
        containers.make_image(self.images / "busybox", self.layout.owner)
        self.change()
        return self.images / "busybox"

    async def prepare(self) -> None:
        await self.driver.prepare(self.spec, lambda text: None)

    async def boot(self, script: str = "", wait: bool = True) -> Guest:
        """Run a guest until its script is through; it goes on living after that."""
        await self.prepare()
        (self.home / "script").write_text(script)
        (self.home / "booted").unlink(missing_ok=True)
        guest = await self.driver.start(self.spec)
        if wait:
            await until((self.home / "booted").exists)
        return guest

    async def run(self, script: str) -> str:
        """What a guest's script prints; the VM is gone when this returns."""
        await self.boot(f"exec > /home/out 2>&1\n{script}\n")
        await self.end()
        return (self.home / "out").read_text()

    async def end(self) -> None:
        await self.driver.kill(NINE)
        await self.driver.destroy(NINE)

    def pids(self) -> tuple[int, int]:
        """Supervisor and init."""
        state = self.driver._states.read(NINE)
        assert state is not None
        assert state.supervisor is not None
        assert state.init is not None
        return state.supervisor.pid, state.init.pid

    def monitor(self) -> int:
        """liblxc's own process."""
        [child] = psutil.Process(self.pids()[0]).children()
        assert child.name() == "lxc-start"
        return child.pid


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()
