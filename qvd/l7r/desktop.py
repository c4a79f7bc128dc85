# -*- test-case-name: tests.unit.test_l7r_desktop -*-
"""From a VM, in whatever state, to an X session that listens. Each function is one step of a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.interfaces import IGuest, IGuestDialer, ISessions, IVMs
from qvd.l7r.waiting import VMNews, Watch
from qvd.model.crashloop import check_back_off, loop_sentence
from qvd.model.errors import DatabaseUnavailable, DeadlineExceeded, GuestError, NotFound, QVDError, Unavailable
from qvd.model.host import LOST_PHASE
from qvd.model.ids import SessionId, VMId
from qvd.model.properties import forced
from qvd.model.records import VM, Desired, Guest
from qvd.model.vm import Step, VMState
from qvd.model.xsession import XState

LOOK = 2.0
"""Seconds between two looks at a row while no bell rings."""
HEARTBEAT = 5.0
"""Most seconds between two progress replies: silence makes middleboxes and users cut the connection."""
X_POLL = 0.05
X_RETRY = 0.15
UNSTOPPABLE = "The requested virtual machine is in an unstoppable state (zombie)"
STUCK_RETRY = 10
PROVISIONING_SECONDS = 330.0
"""What the agent allows its hooks and C{useradd} comes to 300 s."""
LISTENING, PROVISIONING = XState.LISTENING.value, XState.PROVISIONING.value
ON_ITS_WAY = (PROVISIONING, XState.STARTING.value)

Progress = Callable[[str], None]


@frozen
class DesktopTimes:
    """Seconds.

    @ivar start: from the order to a running VM: the node's own limits, of its queue and of the start.
    @ivar stop: until a VM is stopped.
    @ivar x_start: until the X session listens, without C{provisioning}.
    @ivar takeover: until the older session has let go.
    @ivar provisioning: until the guest has made the user's account and run the image's hooks.
    """

    start: float
    stop: float
    x_start: float
    takeover: float
    provisioning: float = PROVISIONING_SECONDS


class Ticker:
    """Tells the client what is going on: each new text, and the last one again when it has been quiet for long."""

    def __init__(self, clock: IReactorTime, progress: Progress) -> None:
        self._clock = clock
        self._progress = progress
        self._last = ""
        self._told_at = float("-inf")

    def tell(self, text: str) -> None:
        now = self._clock.seconds()
        if text != self._last or now - self._told_at >= HEARTBEAT:
            self._last, self._told_at = text, now
            self._progress(text)


class Patience:
    """What is left of the time of one X session that comes up. The preparation of the account has its own."""

    def __init__(self, clock: IReactorTime, times: DesktopTimes) -> None:
        self._clock = clock
        self._times = times
        self._left = times.x_start
        self._left_preparing = times.provisioning
        self._preparing = False
        self._asked_at = clock.seconds()

    def spend(self, state: str | None, seen: str) -> None:
        """Count the time since the last call for what went on then.

        @param state: what goes on now; L{None} when that is unknown.
        @param seen: the same in words.
        @raise DeadlineExceeded: there is no time left for it.
        """
        now = self._clock.seconds()
        passed, self._asked_at = now - self._asked_at, now
        if self._preparing:
            self._left_preparing -= passed
        else:
            self._left -= passed
        self._preparing = state == PROVISIONING
        if self._preparing and self._left_preparing <= 0:
            raise DeadlineExceeded(
                f"the account was not prepared within {self._times.provisioning:g} s, it is in state {seen}"
            )
        if not self._preparing and self._left <= 0:
            raise DeadlineExceeded(f"it did not listen within {self._times.x_start:g} s, it is in state {seen}")


@frozen
class Desktops:
    """The steps, over the ports they need."""

    log = Logger()

    clock: IReactorTime
    vms: IVMs
    sessions: ISessions
    dialer: IGuestDialer
    news: VMNews
    times: DesktopTimes

    async def until_released(self, vm_id: VMId, older: SessionId, progress: Progress) -> None:
        """Wait until the session that had the VM has let it go. After the limit go on all the same: its node may
        be dead, and the agent takes the X session from a silent client too."""
        ticker = Ticker(self.clock, progress)
        until = self.clock.seconds() + self.times.takeover
        with self.news.watch(vm_id) as news:
            while not await self.sessions.has_ended(older) and self.clock.seconds() < until:
                ticker.tell(f"Aborting contending session for VM_ID: {vm_id}")
                await news.wait(min(LOOK, self.times.takeover))

    async def until_ready(self, vm_id: VMId, cause: str, parameters: Mapping[str, str], progress: Progress) -> Guest:
        """L{until_running}, then L{until_listening}; and once more, in what is left of the time for the first, whenever
        the VM's node is lost meanwhile: nobody waits for a dead guest.

        @raise QVDError: as both do.
        """
        ticker = Ticker(self.clock, progress)
        until = self.clock.seconds() + self.times.start
        with self.news.watch(vm_id) as news:
            while True:
                guest = await self._until_running(vm_id, cause, ticker, news, until)
                # Not before: only a VM that runs has the image that it will have.
                told = await self._with_properties(vm_id, parameters)
                if await self._comes_up(vm_id, guest, told, progress, news):
                    return guest
                ticker.tell(f"The node of VM {vm_id} is lost")

    async def _with_properties(self, vm_id: VMId, parameters: Mapping[str, str]) -> Mapping[str, str]:
        made, left_out = forced(parameters, await self.vms.properties(vm_id))
        if left_out:
            self.log.warn(
                "VM {vm_id}: its properties are too long, the guest is not told of {keys}",
                vm_id=vm_id,
                keys=", ".join(left_out),
            )
        return made

    async def _comes_up(
        self, vm_id: VMId, guest: Guest, parameters: Mapping[str, str], progress: Progress, news: Watch
    ) -> bool:
        """L{until_listening}. @return: L{False}: the VM was taken from its node meanwhile."""
        coming = Deferred.fromCoroutine(self.until_listening(vm_id, guest, parameters, progress))
        leaving = Deferred.fromCoroutine(self._until_left(vm_id, guest, news))
        left: list[None] = []

        def give_up(_: None) -> None:
            left.append(None)
            coming.cancel()

        leaving.addCallback(give_up)
        leaving.addErrback(self._stopped_looking)
        try:
            await coming
        except (CancelledError, QVDError):
            if not left:
                raise
            return False
        finally:
            leaving.cancel()
        return True

    def _stopped_looking(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("the VM of a connection is not looked after any more", failure)

    async def _until_left(self, vm_id: VMId, guest: Guest, news: Watch) -> None:
        """Return when the row says that this guest is not the VM any more: its node is lost, or another has it."""
        while True:
            await news.wait(LOOK)
            try:
                vm = await self.vms.get(vm_id)
            except DatabaseUnavailable:
                continue
            if vm is None or (vm.host_id is None and vm.phase == LOST_PHASE):
                return
            if vm.guest not in (None, guest):
                return

    async def until_running(self, vm_id: VMId, cause: str, progress: Progress) -> Guest:
        """Order the start where needed, and wait for it.

        @raise Unavailable: no node takes it, or the start failed; the text says at which step.
        @raise DeadlineExceeded: it took too long.
        """
        with self.news.watch(vm_id) as news:
            until = self.clock.seconds() + self.times.start
            return await self._until_running(vm_id, cause, Ticker(self.clock, progress), news, until)

    async def _until_running(self, vm_id: VMId, cause: str, ticker: Ticker, news: Watch, until: float) -> Guest:
        vm = await self._get(vm_id)
        if vm.state is not VMState.RUNNING or vm.desired is Desired.STOPPED:
            ticker.tell("Starting virtual machine" if vm.host_id else f"Assigning VM {vm_id} to host")
            await self.vms.order_start(vm_id, cause)
            vm = await self._get(vm_id)
        # A running one with an order not taken up may be on its way down.
        while vm.state is not VMState.RUNNING or vm.guest is None or vm.generation > vm.acked:
            over = vm.state is VMState.STOPPED and vm.host_id is None
            if over:
                check_back_off(vm)
            if over and vm.phase != LOST_PHASE:
                raise Unavailable(vm.last_error or f"Failed to start virtual machine {vm_id}", retry_after=10)
            if self.clock.seconds() >= until:
                raise DeadlineExceeded(f"VM did not reach state 'running' in {self.times.start:.0f} s ({vm.detail})")
            if over:
                # Its node is lost: another one takes it, in what is left of the time.
                ticker.tell(f"{vm.last_error}; assigning VM {vm_id} to another host")
                await self.vms.order_start(vm_id, cause)
            else:
                ticker.tell(loop_sentence(vm) or vm.detail or "Starting virtual machine")
                await news.wait(LOOK)
            vm = await self._get(vm_id)
        return vm.guest

    async def until_stopped(self, vm_id: VMId, cause: str, progress: Progress) -> None:
        """Order the stop where needed, and wait for it.

        @raise Unavailable: the VM cannot be ended; its node goes on trying.
        @raise DeadlineExceeded: it took too long.
        """
        with self.news.watch(vm_id) as news:
            await self._until_stopped(vm_id, cause, Ticker(self.clock, progress), news)

    async def _until_stopped(self, vm_id: VMId, cause: str, ticker: Ticker, news: Watch) -> None:
        until = self.clock.seconds() + self.times.stop
        vm = await self._get(vm_id)
        if vm.state is not VMState.STOPPED or vm.desired is Desired.RUNNING:
            ticker.tell("Stopping virtual machine")
            await self.vms.order_stop(vm_id, cause)
            vm = await self._get(vm_id)
        while vm.state is not VMState.STOPPED or vm.generation > vm.acked:
            if vm.state is VMState.ZOMBIE and vm.phase == Step.STUCK.value:
                raise Unavailable(f"{UNSTOPPABLE}: {vm.detail}", retry_after=STUCK_RETRY)
            if self.clock.seconds() >= until:
                raise DeadlineExceeded(f"VM did not reach state 'stopped' in {self.times.stop:.0f} s ({vm.detail})")
            ticker.tell(vm.detail or "Waiting for VM to reach state 'stopped'")
            await news.wait(LOOK)
            vm = await self._get(vm_id)

    async def until_listening(
        self, vm_id: VMId, guest: Guest, parameters: Mapping[str, str], progress: Progress
    ) -> None:
        """Start or resume the X session, and wait until nxagent takes its client.

        @raise GuestError: the agent refuses, or the X session ends while it comes up.
        @raise DeadlineExceeded: it took too long.
        """
        agent = self.dialer.dial(guest)
        ticker = Ticker(self.clock, progress)
        until = self.clock.seconds() + self.times.x_start
        refusal = "it did not say why"
        # The limit of new starts. One that is under way may take longer, to prepare an account.
        while self.clock.seconds() < until:
            ticker.tell(f"Starting X session at VM {vm_id}")
            try:
                await agent.x_start(parameters)
                ticker.tell(f"Waiting for X session to come up on VM {vm_id}")
                state = await self._settled_state(agent, ticker)
            except GuestError as error:
                # The usual reason: the client that had the X session has not quite gone yet.
                refusal = error.text
            except DeadlineExceeded as error:
                raise DeadlineExceeded(f"Unable to start X session on VM {vm_id}: {error.text}") from None
            else:
                if state == LISTENING:
                    return
                refusal = f"it ended while it came up, it is in state {state}"
            await deferLater(self.clock, X_RETRY)
        raise GuestError(f"Unable to start X session on VM {vm_id}: {refusal.strip()}")

    async def _settled_state(self, agent: IGuest, ticker: Ticker) -> str:
        """Ask until nxagent listens, or is not on its way there any more.

        @raise DeadlineExceeded: it is, for too long.
        """
        patience = Patience(self.clock, self.times)
        while True:
            try:
                state = await agent.x_state()
            except GuestError as error:
                # One answer that does not come is no end of the X session.
                patience.spend(None, f"unknown: {error.text.strip()}")
                ticker.tell("Waiting for X session to come up")
                await deferLater(self.clock, X_RETRY)
                continue
            if state not in ON_ITS_WAY:
                return state
            patience.spend(state, state)
            ticker.tell("Preparing your account" if state == PROVISIONING else "Waiting for X session to come up")
            await deferLater(self.clock, X_POLL)

    async def _get(self, vm_id: VMId) -> VM:
        vm = await self.vms.get(vm_id)
        if vm is None:
            raise NotFound("The requested virtual machine does not exist")
        return vm
