# -*- test-case-name: tests.unit.test_hkd_expiry -*-
"""
Ends the VMs of this node whose image is too old, and tells their users before: see L{qvd.model.expiry}.

The dates are the database's, and so is its clock: a row is read with the time that is left, and a timer is set for the
first of them. When it rings the rows are read again, so a date that has changed meanwhile is the one that counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.periodic import Periodic
from qvd.interfaces import IBells, IExpiry, IGuestDialer
from qvd.model.errors import GuestError, QVDError
from qvd.model.expiry import Expiring, Notice, is_over, next_look, notices
from qvd.model.ids import VMId
from qvd.model.records import Lease
from qvd.protocols.channels import expiry_on_host

TRIES = 3
"""To tell a user. An agent that still refuses then has nobody to tell, or a hook that fails."""


@frozen
class ExpiryParts:
    """What the watch of one epoch is made of.

    @ivar look: seconds between two looks at the rows.
    @ivar warning: seconds before the hard date.
    """

    expiry: IExpiry
    dialer: IGuestDialer
    look: float
    warning: float


@frozen
class Telling:
    """Of whom, and of which date."""

    vm_id: VMId
    notice: Notice
    text: str


class ExpiryWatch:
    """Looks at the rows on the bell, every so often, and when the next date comes."""

    log = Logger()

    def __init__(self, clock: IReactorTime, lease: Lease, bells: IBells, parts: ExpiryParts) -> None:
        self._clock = clock
        self._lease = lease
        self._bells = bells
        self._parts = parts
        self._looks = Periodic(clock, parts.look, self._look, "looking for VMs that expire")
        self._timer: IDelayedCall | None = None
        self._tries: dict[Telling, int] = {}
        self._told: set[Telling] = set()
        self._telling: dict[Telling, Deferred[None]] = {}

    def start(self) -> None:
        self._looks.heed(self._bells, expiry_on_host(self._lease.host_id))
        self._looks.start()

    async def stop(self) -> None:
        await self._looks.stop()
        self._disarm()
        for telling in list(self._telling.values()):
            telling.cancel()

    async def _look(self) -> None:
        self._disarm()
        vms = await self._parts.expiry.expiring(self._lease)
        # The time of the answer: what was left is less by then, so nothing is due too soon.
        read_at = self._clock.seconds()
        self._forget(vms)
        for vm in vms:
            for notice in notices(vm, 0.0, self._parts.warning):
                self._tell(vm, notice)
        if any(is_over(vm, 0.0) for vm in vms):
            for vm_id in await self._parts.expiry.stop_due(self._lease):
                self.log.info("VM {vm_id}: its image has expired, it is stopped", vm_id=vm_id)
        self._arm(vms, self._clock.seconds() - read_at)

    def _arm(self, vms: Sequence[Expiring], elapsed: float) -> None:
        left = [next_look(vm, 0.0, self._parts.warning) for vm in vms]
        moments = [seconds for seconds in left if seconds is not None]
        # What comes after the next look anyway is left to it, and to what the database's clock says then.
        if self._looks.running and moments and min(moments) < self._parts.look:
            self._timer = self._clock.callLater(max(min(moments) - elapsed, 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._looks.now()

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _forget(self, vms: Sequence[Expiring]) -> None:
        """What was said of dates that are there no more."""
        present = {
            Telling(vm.vm_id, notice, date.text)
            for vm in vms
            for notice in Notice
            if (date := vm.date_of(notice)) is not None
        }
        self._told &= present
        self._tries = {telling: tries for telling, tries in self._tries.items() if telling in present}

    def _tell(self, vm: Expiring, notice: Notice) -> None:
        date = vm.date_of(notice)
        assert date is not None
        telling = Telling(vm.vm_id, notice, date.text)
        if telling in self._telling:
            return
        done = self._telling[telling] = Deferred.fromCoroutine(self._perform(vm, telling))
        done.addErrback(self._report, telling)
        done.addCallback(lambda _: self._over(telling))

    def _over(self, telling: Telling) -> None:
        self._telling.pop(telling, None)

    async def _perform(self, vm: Expiring, telling: Telling) -> None:
        """Tell first and write then: a daemon that ends in between makes a user read it twice, and not never."""
        if telling not in self._told:
            self._tries[telling] = self._tries.get(telling, 0) + 1
            try:
                await self._parts.dialer.dial(vm.guest).expire(vm.parameters)
            except GuestError as error:
                if self._tries[telling] < TRIES:
                    raise
                self.log.warn("VM {vm_id}: its user is not told: {reason}", vm_id=vm.vm_id, reason=error.text)
            else:
                self.log.info(
                    "VM {vm_id}: the agent is told that the {notice} date is {text}",
                    vm_id=vm.vm_id,
                    notice=telling.notice.value,
                    text=telling.text,
                )
            self._told.add(telling)
        await self._parts.expiry.told(self._lease, telling.vm_id, telling.notice, telling.text)

    def _report(self, failure: Failure, telling: Telling) -> None:
        match failure.value:
            case CancelledError():
                pass
            case QVDError(text=text):
                self.log.warn(
                    "VM {vm_id}: cannot tell that it expires; trying again: {reason}", vm_id=telling.vm_id, reason=text
                )
            case _:
                self.log.failure("VM {vm_id}: cannot tell that it expires", failure, vm_id=telling.vm_id)
