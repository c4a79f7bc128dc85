# -*- test-case-name: tests.unit.test_hkd_runner -*-
"""
Carries one VM through its table: effects out, outcomes in.

Order of things: compute the new position, store it (guarded by host and epoch), then act. One queue per VM, so one
thing at a time; an outcome that comes after its step was left is dropped by its turn.

A step with a budget (L{qvd.model.vm.WORK}) has a slot, which goes with the step: whatever ends it, and whoever lets go
of the VM. A start waits for its slots in steps of its own, which are passed without being stored where a slot is free.
A stop waits inside its steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Coroutine
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.runnerports import Ports
from qvd.hkd.slotuse import SlotUse
from qvd.hkd.watch import until_alive, until_dead
from qvd.hkd.wording import blame
from qvd.model.crashloop import Ending, judge_ending
from qvd.model.errors import DatabaseUnavailable, GuestError, OwnershipLost, QVDError, TransientError, Unavailable
from qvd.model.ids import Run, TenantId, VMId
from qvd.model.records import Change, Guest, Held, Lease, VMSpec
from qvd.model.vm import (
    EFFECT,
    LAST,
    OWNED,
    QUEUES,
    STATE,
    Effect,
    Event,
    Position,
    Step,
    VMState,
    advance,
    due,
)

BLAMED = frozenset({Event.FAILED, Event.TIMED_OUT, Event.GUEST_DEAD, Event.DOMAIN_EXITED})
"""Events that leave an error for the user to read, when they end a start or a run."""
PROMISED = frozenset({*QUEUES, Step.PREPARE, Step.BOOT, Step.AWAIT_GUEST, Step.RUNNING})
NOBODY = TenantId(0)
"""Whose a VM is that was found without its row."""
STORE_RETRY = 1.0
"""Seconds between tries to store a state while the database is away."""
PROGRESS_PAUSE = 0.5
"""Least seconds between two progress texts of one VM in the database."""


@frozen
class Happening:
    """An event in the queue.

    @ivar turn: that of the effect it is the outcome of.
    @ivar excused: the failure is not the VM's own.
    """

    event: Event
    text: str | None = None
    turn: int | None = None
    excused: bool = False


class Runner:
    """One VM, from claim (or adoption) to release.

    @param step: where it begins. Of a VM just claimed the row says so already.
    @param stored: of a VM that was found, the state that its row still shows.
    @param tenant_id: whose it is, for the queues.
    @param run: of a VM that was found, the number of its run; L{None} where it has no row.
    @ivar done: fires when the VM is released or gone.
    """

    log = Logger()

    def __init__(
        self,
        vm_id: VMId,
        lease: Lease,
        ports: Ports,
        step: Step,
        spec: VMSpec | None = None,
        guest: Guest | None = None,
        error: str | None = None,
        stored: VMState | None = None,
        tenant_id: TenantId = NOBODY,
        run: Run | None = None,
    ) -> None:
        self.vm_id = vm_id
        self.position = Position(step)
        self.done: Deferred[None] = Deferred()
        self._lease = lease
        self._ports = ports
        self._spec = spec
        self._number = run if spec is None else spec.run
        self._guest = guest
        self._error = error
        self._stored = stored
        self._lost = False
        self._ending = Ending.NEUTRAL
        self._slot = SlotUse(ports.slots, ports.node, vm_id, tenant_id)
        self._elapsed = 0.0
        self._waited = 0.0
        # A run that was found has lasted for long: it has outlived a daemon.
        self._entered_at = ports.clock.seconds() if step is not Step.RUNNING else -math.inf
        self._inbox: deque[Happening] = deque()
        self._bell: Deferred[None] | None = None
        self._effect: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._progress_at: float | None = None
        self._life: Deferred[None] | None = None
        self._saving: Deferred[None] | None = None
        self._stale = False

    def start(self) -> None:
        """Act on the first step."""
        self._life = Deferred.fromCoroutine(self._run())
        self._life.addErrback(self._died)
        self._life.addCallback(lambda _: self._over())

    def _died(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("VM {vm_id}: runner failed", failure, vm_id=self.vm_id)

    def _over(self) -> None:
        self._abandon()
        self._slot.give_back()
        self._ports.forget(self.vm_id)
        self.done.callback(None)

    def stop(self, reason: str) -> None:
        """Stop the VM for a reason that is the node's, which whoever wanted it to run reads in its row."""
        if not self.going_down:
            self._error = reason
        self.tell(Event.STOP, reason)

    def leave(self) -> None:
        """Let go of the VM as it is: the daemon ends, and its successor adopts it."""
        if self._life is not None:
            self._life.cancel()

    @property
    def going_down(self) -> bool:
        """A stop is under way, or waits for the boot to be over."""
        waiting = {happening.event for happening in self._inbox} | set(self.position.postponed)
        return self.position.step not in PROMISED or bool(waiting & {Event.STOP, Event.KILL, Event.LOST})

    @property
    def held(self) -> Held:
        """What its row says, as far as we know."""
        port = None if self._guest is None else self._guest.vma_port
        return Held(self.vm_id, None if self._stale else self.position.state, port, self._number)

    def tell(self, event: Event, text: str | None = None, turn: int | None = None, excused: bool = False) -> None:
        """Something happened to the VM."""
        if event is Event.LOST:
            self._lost = True
            if self._saving is not None:
                # What it would write is nobody's business any more, and a mute database must not delay the kill.
                self._saving.cancel()
        self._inbox.append(Happening(event, text, turn, excused))
        if self._bell is not None:
            bell, self._bell = self._bell, None
            bell.callback(None)

    async def _run(self) -> None:
        self.position = self._slot.line_up(self.position)
        # A row just claimed says "preparing" already.
        stored = VMState.STARTING if self.position.step is Step.QUEUED else self._stored
        if stored is None or await self._save(stored, self.position.step):
            self._act()
        while self.position.step not in LAST:
            if not self._inbox:
                self._bell = Deferred()
                await self._bell
            await self._take(self._inbox.popleft())

    async def _take(self, happening: Happening) -> None:
        if happening.turn not in (None, self.position.turn):
            return
        old, new = self.position, advance(self.position, happening.event)
        if new.turn == old.turn:
            self.position = new
            return
        self._abandon()
        self._blame(old.step, happening, self._count_time(old.step))
        self.position = self._slot.line_up(new)
        self._log_change(old, happening)
        if await self._save(STATE[old.step], self.position.step):
            self._act()
            self.position, events = due(self.position)
            for event in events:
                self.tell(event)

    def _log_change(self, old: Position, happening: Happening) -> None:
        if old.state is not self.position.state:
            self.log.info(
                "VM {vm_id}: {old} to {new} ({cause})",
                vm_id=self.vm_id,
                old=old.state.value,
                new=self.position.state.value,
                cause=happening.text or happening.event.value,
            )

    def _count_time(self, step: Step) -> float:
        """A step is left: return how long it took."""
        now = self._ports.clock.seconds()
        took, self._entered_at = now - self._entered_at, now
        if step in QUEUES:
            self._waited += took
        else:
            self._elapsed += took
        return took

    def _blame(self, step: Step, happening: Happening, took: float) -> None:
        if step not in PROMISED:
            return
        if happening.event in BLAMED:
            self._error = happening.text or blame(step, happening.event)
        self._ending = judge_ending(step, happening.event, happening.excused, took)

    async def _save(self, expected: VMState, new: Step) -> bool:
        """Write the new step's state; False when the row turned out to be somebody else's."""
        if new not in OWNED or new in LAST or new is Step.RELEASE:
            return True
        self._stale = True
        try:
            return await self._store(
                expected, Change(STATE[new], new.value, self._slot.detail(new), self._guest, self._error)
            )
        finally:
            self._stale = False

    async def _store(self, expected: VMState, change: Change) -> bool:
        while not self._lost:
            try:
                await self._write(self._ports.ownership.save(self._lease, self.vm_id, expected, change, self._number))
                return True
            except OwnershipLost as error:
                self.tell(Event.LOST, error.text)
            except CancelledError:
                if not self._lost:
                    raise
            except DatabaseUnavailable:
                await deferLater(self._ports.clock, STORE_RETRY)
            except Exception:  # noqa: BLE001 - without this write nobody could end the VM in order: try on
                self.log.failure("VM {vm_id}: state not written", vm_id=self.vm_id)
                await deferLater(self._ports.clock, STORE_RETRY)
        return False

    async def _write(self, write: Coroutine[Any, Any, None]) -> None:
        """One that the loss of the VM cuts short."""
        self._saving = Deferred.fromCoroutine(write)
        try:
            await self._saving
        finally:
            self._saving = None

    def _abandon(self) -> None:
        """Leave a step: its effect and its timer have no say any more."""
        self._drop_timer()
        effect, self._effect = self._effect, None
        if effect is not None:
            effect.cancel()

    def _drop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _act(self) -> None:
        """Start the step just entered: at once, unless it is part of a stop and has no slot yet."""
        step = self.position.step
        self._slot.occupy(step)
        if not self._slot.waits or step in QUEUES:
            self._begin()
            return
        self._timer = self._ports.clock.callLater(self._ports.deadlines.queue, self._slot.force)
        self._effect = Deferred.fromCoroutine(self._slot.wait())
        self._effect.addCallbacks(lambda _: self._begin(), lambda failure: failure.trap(CancelledError))

    def _begin(self) -> None:
        """Start the effect of the step, and its timer."""
        step, turn = self.position.step, self.position.turn
        self._drop_timer()
        if self._slot.told and not self._slot.waits:
            self._background(self._show(self._slot.detail(step)))
        limit = self._ports.deadlines.of(step, self._elapsed, self._waited)
        if limit is not None:
            self._timer = self._ports.clock.callLater(limit, self.tell, Event.TIMED_OUT, None, turn)
        effect = EFFECT[step]
        if effect is None or effect is Effect.FORGET:
            return
        d = self._effect = Deferred.fromCoroutine(self._perform(effect, turn))
        d.addErrback(self._failed, turn)

    def _failed(self, failure: Failure, turn: int) -> None:
        match failure.value:
            case CancelledError():
                return
            case QVDError(text=text) as error:
                # Not the VM's fault: the next try, perhaps on another node, may well succeed.
                self.tell(Event.FAILED, text, turn, isinstance(error, TransientError | Unavailable))
            case _:
                self.log.failure("VM {vm_id}: unexpected failure", failure, vm_id=self.vm_id)
                self.tell(Event.FAILED, "Internal error of the node; its log has the details", turn, excused=True)

    async def _perform(self, effect: Effect, turn: int) -> None:
        outcome = await self._outcome(effect, turn)
        self.tell(outcome, None, turn)

    async def _outcome(self, effect: Effect, turn: int) -> Event:
        driver = self._ports.driver
        match effect:
            case Effect.QUEUE:
                await self._slot.wait()
            case Effect.PREPARE:
                assert self._spec is not None
                await driver.prepare(self._spec, self._progress)
            case Effect.BOOT:
                assert self._spec is not None
                self._ports.permit()
                self._guest = await driver.start(self._spec)
            case Effect.WATCH_GUEST:
                return await self._watch_guest()
            case Effect.POWER_OFF:
                await self._ports.dialer.dial(self._known_guest()).poweroff()
            case Effect.TERMINATE:
                await driver.shutdown(self.vm_id)
            case Effect.KILL:
                await driver.kill(self.vm_id)
            case Effect.DESTROY:
                await driver.destroy(self.vm_id)
            case Effect.RELEASE:
                return await self._release()
            case Effect.FORGET:
                raise AssertionError("the last steps have nothing to do")
        return Event.DONE

    async def _watch_guest(self) -> Event:
        guest = self._ports.dialer.dial(self._known_guest())
        if self.position.step is Step.AWAIT_GUEST:
            await until_alive(self._ports.clock, guest, self._ports.watch)
            return Event.GUEST_ALIVE
        await until_dead(self._ports.clock, guest, self._ports.watch, lambda: self._ports.seen(self.vm_id))
        return Event.GUEST_DEAD

    def _known_guest(self) -> Guest:
        if self._guest is None:
            raise GuestError("It is not known where the guest's agent listens")
        return self._guest

    async def _release(self) -> Event:
        while not self._lost:
            try:
                await self._ports.ownership.release(self._lease, self.vm_id, self._error, self._ending, self._number)
                return Event.DONE
            except OwnershipLost:
                return Event.LOST
            except DatabaseUnavailable:
                await deferLater(self._ports.clock, STORE_RETRY)
        return Event.LOST

    def _progress(self, text: str) -> None:
        """Show what the driver says it is doing. Never more often than users can read, and never a reason to fail."""
        now = self._ports.clock.seconds()
        if self._progress_at is not None and now - self._progress_at < PROGRESS_PAUSE:
            return
        self._progress_at = now
        self._background(self._show(text))

    async def _show(self, text: str) -> None:
        await self._ports.ownership.progress(self._lease, self.vm_id, self.position.step.value, text, self._number)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        d = Deferred.fromCoroutine(work)
        d.addErrback(lambda failure: self.log.debug("VM {vm_id}: {reason}", vm_id=self.vm_id, reason=failure.value))
