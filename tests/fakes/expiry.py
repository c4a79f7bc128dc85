"""The dates of running VMs, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.interfaces import IExpiry
from qvd.model.expiry import Expiring, ExpiryDate, Notice, is_over
from qvd.model.ids import VMId
from qvd.model.records import Lease
from tests.fakes.conduct import Conduct
from tests.fakes.driver import guest_of


@implementer(IExpiry)
class FakeExpiry:
    """L{IExpiry}; dates are seconds of C{clock}, which is the database's too.

    @ivar stopped: when each stop was ordered.
    """

    def __init__(self, clock: Clock, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.now: Callable[[], float] = clock.seconds
        self.vms: dict[VMId, Expiring] = {}
        self.stopped: dict[VMId, float] = {}

    def set(
        self,
        vm_id: int,
        soft: float | None = None,
        hard: float | None = None,
        connected: bool = False,
        taken: bool | None = None,
    ) -> None:
        """The row of a VM is written anew; nobody has been told of its dates."""
        self.vms[VMId(vm_id)] = Expiring(
            VMId(vm_id),
            guest_of(vm_id),
            None if soft is None else ExpiryDate(soft, f"at {soft:g}", False),
            None if hard is None else ExpiryDate(hard, f"at {hard:g}", False),
            connected if taken is None else taken,
            connected,
        )

    async def expiring(self, lease: Lease) -> Sequence[Expiring]:
        await self.conduct.before("expiring")
        read = [self._read(vm) for vm in self.vms.values()]
        await self.conduct.after("expiring")
        return read

    async def told(self, lease: Lease, vm_id: VMId, notice: Notice, text: str) -> None:
        await self.conduct.before("told", vm_id, notice, text)
        vm = self.vms[vm_id]
        if vm.soft is not None and notice is Notice.SOFT and vm.soft.text == text:
            self.vms[vm_id] = evolve(vm, soft=evolve(vm.soft, told=True))
        if vm.hard is not None and notice is Notice.HARD and vm.hard.text == text:
            self.vms[vm_id] = evolve(vm, hard=evolve(vm.hard, told=True))

    async def stop_due(self, lease: Lease) -> Sequence[VMId]:
        await self.conduct.before("stop_due")
        over = [vm_id for vm_id, vm in self.vms.items() if is_over(self._read(vm), 0.0)]
        for vm_id in over:
            del self.vms[vm_id]
            self.stopped[vm_id] = self.now()
        return over

    def _read(self, vm: Expiring) -> Expiring:
        return evolve(vm, soft=self._left(vm.soft), hard=self._left(vm.hard))

    def _left(self, date: ExpiryDate | None) -> ExpiryDate | None:
        return None if date is None else evolve(date, seconds=date.seconds - self.now())
