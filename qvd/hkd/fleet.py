# -*- test-case-name: tests.unit.test_hkd_fleet -*-
"""
All VMs of this node: takes up orders from the database, recovers what a former daemon left, stops them all.

Rows are the truth and bells only say "look": every look reads all rows of this node with an order not taken up, so
an order is never lost, whoever crashed in between. All orders are claimed, whether or not there is a slot for them:
those without one wait in memory, in queues that are fair between tenants, and say so in their rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.periodic import Periodic, observe
from qvd.hkd.queueboard import QueueBoard
from qvd.hkd.runner import NOBODY, Runner
from qvd.hkd.runnerports import Ports
from qvd.interfaces import IBells
from qvd.model.errors import DatabaseUnavailable, NotFound, OwnershipLost, QVDError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import VM, Desired, Domain, Lease
from qvd.model.recovery import ENDED, INTERRUPTED, Plan, judge
from qvd.model.secret import Secret
from qvd.model.vm import OWNED, QUEUES, Event, Step, VMState, Work
from qvd.protocols.channels import vm_on_host

CLAIMS = 20
"""Orders to start that are taken up before the next look for orders to stop."""
AT_ONCE = 16
"""VMs that are judged together: while one daemon takes over from another, clients wait. More would wait for the
database's pool for so long that they fail."""
QUIET_LOOK = 0.05
"""Seconds between two looks whether a boot is over."""
ACCOUNTABLE = OWNED - {Step.RELEASE}
"""Steps in which a row that does not grant the VM ends it. Before its release it has ended, the release asks the row
itself, and cut short it would be done by halves."""
_ORPHANED = {VMState.STARTING: INTERRUPTED, VMState.RUNNING: ENDED}
"""What its user is told of a VM that nobody carried."""


class Fleet:
    """The runners of one epoch of this node.

    @param ports: as for the runners; the fleet sets C{forget}, C{seen} and C{slots} itself, these as large as given.
    @param new_secret: makes the secret of a guest.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        lease: Lease,
        ports: Ports,
        bells: IBells,
        look_seconds: float,
        new_secret: Callable[[], Secret],
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._ports = evolve(ports, forget=self._forget, seen=self._saw, slots=ports.slots.fresh())
        self._bells = bells
        self._new_secret = new_secret
        self._runners: dict[VMId, Runner] = {}
        self._found: Sequence[Runner] = ()
        self._lost = False
        self._answered: set[VMId] = set()
        self._looks = Periodic(clock, look_seconds, self._look, "looking for orders")
        self._board = QueueBoard(clock, lease, ports.ownership, self._ports.slots, ports.node, self._step_of)
        self._ends: list[Callable[[], None]] = []

    async def judge(self) -> None:
        """Look at every row and every domain of this node and bring the rows to keep under this epoch. Nothing is
        started yet, so a database that goes away in between costs nothing but another try."""
        rows = {vm.vm_id: vm for vm in await self._ports.ownership.bound(self._lease)}
        domains = {domain.vm_id: domain for domain in await self._domains()}
        vm_ids = sorted(rows.keys() | domains.keys())
        found: list[Runner] = []
        for first in range(0, len(vm_ids), AT_ONCE):
            judging = [
                Deferred.fromCoroutine(self._judge(vm_id, rows.get(vm_id), domains.get(vm_id)))
                for vm_id in vm_ids[first : first + AT_ONCE]
            ]
            results: list[object] = [result for _, result in await DeferredList(judging, consumeErrors=True)]
            # Not before each has its answer: one that came late would be an adoption under an epoch that is over.
            for result in results:
                if isinstance(result, Failure):
                    result.raiseException()
            found += [result for result in results if isinstance(result, Runner)]
        self._found = found

    async def _domains(self) -> Sequence[Domain]:
        """@raise TransientError: also where the hypervisor does not answer; a node would wait for it for ever."""
        listing = Deferred.fromCoroutine(self._ports.driver.list())
        listing.addTimeout(self._ports.deadlines.clean, self._ports.clock)
        try:
            return await listing
        except TimeoutError:
            raise TransientError("The hypervisor does not say what runs on this machine") from None

    async def _judge(self, vm_id: VMId, vm: VM | None, domain: Domain | None) -> Runner | None:
        judgement = judge(vm, domain)
        if judgement.plan is Plan.LEAVE:
            return None
        assert judgement.step is not None
        step = judgement.step
        if vm is not None and judgement.adopt_row:
            try:
                await self._ports.ownership.adopt(self._lease, vm, judgement.again)
            except OwnershipLost:
                step = Step.KILL_LOST
        self.log.info("VM {vm_id}: found at start, {step}", vm_id=vm_id, step=step.value)
        guest = None if domain is None else domain.guest
        stored = None if vm is None else vm.state
        tenant_id, run = (NOBODY, None) if vm is None else (vm.tenant_id, vm.run)
        return Runner(vm_id, self._lease, self._ports, step, None, guest, judgement.error, stored, tenant_id, run)

    def start(self) -> None:
        """Carry on with what was found, and take up orders from now on."""
        self._ends.append(self._ports.driver.watch(self._exited))
        for runner in self._found:
            self._carry(runner)
        self._ends.append(self._bells.listen(vm_on_host(self._lease.host_id), lambda _: self._looks.now()))
        self._looks.start()
        self._board.start()

    def lose(self, reason: str) -> None:
        """The lease is over: end every VM at once, without touching its row."""
        self._lost = True
        for runner in self._waiting_first():
            runner.tell(Event.LOST, reason)

    def stop_all(self, reason: str) -> None:
        """End every VM in order, all at a time: the daemon has no time for queues.

        @param reason: for those who wanted them to run, as a sentence.
        """
        self._ports.slots.budgets[Work.STOP].lift()
        for runner in self._waiting_first():
            runner.stop(reason)

    def _waiting_first(self) -> Sequence[Runner]:
        """So that none gets the slot of another one, only to be told to end too."""
        return sorted(self._runners.values(), key=lambda runner: runner.position.step not in QUEUES)

    def _step_of(self, vm_id: VMId) -> Step | None:
        runner = self._runners.get(vm_id)
        return None if runner is None else runner.position.step

    async def idle(self) -> None:
        """Return when no VM is left."""
        while self._runners:
            for runner in list(self._runners.values()):
                await observe(runner.done)

    async def quiet(self, seconds: float) -> None:
        """Take up no order any more, and wait until no boot is under way, C{seconds} at most: one that is cut off is
        a start that failed."""
        await self.stop_orders()
        until = self._clock.seconds() + seconds
        self._leave_queues()
        while self._on_their_way() and self._clock.seconds() < until:
            await deferLater(self._clock, QUIET_LOOK)
            self._leave_queues()

    def _leave_queues(self) -> None:
        """Of a VM that waits by its row, the successor takes up the order again."""
        for runner in self._waiting_first():
            if runner.position.step in QUEUES and runner.held.state is not None:
                runner.leave()

    def _on_their_way(self) -> bool:
        cut_off = (*QUEUES, Step.PREPARE, Step.BOOT)
        return any(runner.position.step in cut_off for runner in self._runners.values())

    async def stop_orders(self) -> None:
        """Take up no order any more."""
        await self._looks.stop()

    async def stop(self) -> None:
        """Hear nothing any more, of orders or of VMs. Leaves the VMs as they are."""
        await self.stop_orders()
        await self._board.stop()
        for end in self._ends:
            end()
        self._ends.clear()
        for runner in self._waiting_first():
            runner.leave()

    @property
    def running(self) -> Sequence[VMId]:
        """The VMs that have a runner."""
        return list(self._runners)

    async def flush_seen(self) -> None:
        """Write which guests have answered since the last call: one statement for all of them."""
        answered, self._answered = self._answered, set()
        if answered:
            await self._ports.ownership.seen(self._lease, sorted(answered))

    async def _account(self) -> None:
        """The database may have forgotten what it once granted us."""
        held = [runner.held for runner in self._runners.values()]
        for vm_id in await self._ports.ownership.account(self._lease, held):
            runner = self._runners.get(vm_id)
            if runner is not None and runner.position.step in ACCOUNTABLE:
                self.log.warn("VM {vm_id}: its row does not say that it runs here like this", vm_id=vm_id)
                runner.tell(Event.LOST, "not granted by the database")

    async def _look(self) -> None:
        await self._account()
        carried = set(self._runners)
        for vm in await self._ports.ownership.pending(self._lease, carried):
            if len(self._runners) >= len(carried) + CLAIMS:
                # A stop that was ordered meanwhile must not wait for the claims of a storm.
                self._looks.now()
                return
            orphan = vm.vm_id not in carried and vm.state is not VMState.STOPPED
            await self._try(vm, self._end_orphan if orphan else self._take_up)

    async def _try(self, vm: VM, work: Callable[[VM], Awaitable[None]]) -> None:
        """One VM of a look. An order that cannot be taken up must not hold up those behind it, again and again."""
        try:
            await work(vm)
        except (DatabaseUnavailable, CancelledError):
            raise
        except QVDError as error:
            self.log.warn("VM {vm_id}: order not taken up: {reason}", vm_id=vm.vm_id, reason=error.text)
        except Exception:  # noqa: BLE001 - whatever it is, the next look tries again
            self.log.failure("VM {vm_id}: order not taken up", vm_id=vm.vm_id)

    async def _end_orphan(self, vm: VM) -> None:
        """Nobody carries it: it was claimed by a statement whose answer was lost, or adopted by one of a former daemon
        after this one had looked."""
        if vm.epoch != self._lease.epoch:
            await self._ports.ownership.adopt(self._lease, vm)
        if not self._lost:
            self.log.warn("VM {vm_id}: {state}, and nobody carries it", vm_id=vm.vm_id, state=vm.state.value)
            runner = Runner(
                vm.vm_id,
                self._lease,
                self._ports,
                Step.KILL,
                error=_ORPHANED.get(vm.state),
                stored=vm.state,
                tenant_id=vm.tenant_id,
                run=vm.run,
            )
            self._carry(runner)

    def _carry(self, runner: Runner) -> None:
        self._runners[runner.vm_id] = runner
        runner.start()

    async def _take_up(self, vm: VM) -> None:
        """One order: the wanted state against what is."""
        runner = self._runners.get(vm.vm_id)
        match vm.desired:
            case Desired.STOPPED:
                await self._stop(vm, runner)
            case Desired.RUNNING if vm.state is VMState.STOPPED and runner is None:
                await self._claim(vm)
            case Desired.RUNNING if runner is not None and not runner.going_down:
                await self._ports.ownership.acknowledge(self._lease, vm.vm_id, vm.generation)
            case Desired.RUNNING:
                pass  # going down: the order is taken up once the VM is released

    async def _stop(self, vm: VM, runner: Runner | None) -> None:
        event = Event.KILL if vm.forced else Event.STOP
        try:
            wanted = await self._ports.ownership.acknowledge(self._lease, vm.vm_id, vm.generation)
        except DatabaseUnavailable:
            # If it was written, nobody will order the stop again.
            if runner is not None:
                runner.tell(event, "ordered")
            raise
        if wanted and runner is not None:
            runner.tell(event, "ordered")

    async def _claim(self, vm: VM) -> None:
        try:
            spec = await self._ports.ownership.claim_start(self._lease, vm.vm_id, self._new_secret())
        except NotFound as error:
            self.log.warn("VM {vm_id}: {reason}", vm_id=vm.vm_id, reason=error.text)
            await self._ports.ownership.refuse(self._lease, vm.vm_id, vm.generation, error.text)
            return
        if spec is not None and not self._lost:
            self.log.info("VM {vm_id}: start claimed", vm_id=vm.vm_id)
            ports = self._ports
            self._carry(Runner(vm.vm_id, self._lease, ports, Step.QUEUED, spec=spec, tenant_id=spec.tenant_id))

    def _exited(self, vm_id: VMId) -> None:
        if vm_id in self._runners:
            self._runners[vm_id].tell(Event.DOMAIN_EXITED)

    def _forget(self, vm_id: VMId) -> None:
        self._runners.pop(vm_id, None)
        self._looks.now()

    def _saw(self, vm_id: VMId) -> None:
        self._answered.add(vm_id)
