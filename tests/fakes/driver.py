"""A hypervisor in memory that does what it is told, and what the test tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from qvd.interfaces import IDriver
from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, VMSpec
from qvd.model.secret import Secret
from tests.fakes.conduct import Conduct


def guest_of(vm_id: int) -> Guest:
    """Where the fake's guest of a VM listens."""
    return Guest("127.0.0.1", 20000 + vm_id, 30000 + vm_id, Secret(f"secret of {vm_id}"))


@implementer(IDriver)
class FakeDriver:
    """L{IDriver} with domains in a dictionary.

    @ivar domains: what runs or has left something behind.
    @ivar deaf: a shutdown has no effect.
    @ivar quiet: nobody is told of an exit.
    """

    name = "fake"

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.domains: dict[VMId, Domain] = {}
        self.deaf = False
        self.quiet = False
        self.progress: Callable[[str], None] = lambda text: None
        self._watchers: list[Callable[[VMId], None]] = []

    async def prepare(self, spec: VMSpec, progress: Callable[[str], None]) -> None:
        self.progress = progress
        await self.conduct.before("prepare", spec.vm_id)
        self.domains[spec.vm_id] = Domain(spec.vm_id, False, None)
        await self.conduct.after("prepare")

    async def start(self, spec: VMSpec) -> Guest:
        await self.conduct.before("start", spec.vm_id)
        guest = guest_of(spec.vm_id)
        self.domains[spec.vm_id] = Domain(spec.vm_id, True, guest)
        await self.conduct.after("start")
        return guest

    async def shutdown(self, vm_id: VMId) -> None:
        await self.conduct.before("shutdown", vm_id)
        if not self.deaf:
            self.exit(vm_id)
        await self.conduct.after("shutdown")

    async def kill(self, vm_id: VMId) -> None:
        await self.conduct.before("kill", vm_id)
        self.exit(vm_id)
        await self.conduct.after("kill")

    async def destroy(self, vm_id: VMId) -> None:
        await self.conduct.before("destroy", vm_id)
        domain = self.domains.get(vm_id)
        assert domain is None or not domain.running, "destroyed while it runs"
        self.domains.pop(vm_id, None)
        await self.conduct.after("destroy")

    async def list(self) -> Sequence[Domain]:
        await self.conduct.before("list")
        return list(self.domains.values())

    def watch(self, exited: Callable[[VMId], None]) -> Callable[[], None]:
        self._watchers.append(exited)
        return lambda: self._watchers.remove(exited)

    @property
    def watched(self) -> bool:
        """Somebody wants to hear of exits."""
        return bool(self._watchers)

    def exit(self, vm_id: VMId) -> None:
        """The VM ends, whoever wanted it."""
        domain = self.domains.get(vm_id)
        if domain is not None and domain.running:
            self.domains[vm_id] = Domain(vm_id, False, domain.guest)
            if not self.quiet:
                self.ring(vm_id)

    def ring(self, vm_id: VMId) -> None:
        """Tell of an exit, true or not, once or twice."""
        for watcher in list(self._watchers):
            watcher(vm_id)
