# -*- test-case-name: tests.unit.test_hkd_messages -*-
"""
Hands messages of administrators to the agents of the VMs of this node.

Handed over first and written then: a daemon that ends in between makes a user read it twice, and not never. What an
agent refuses is not tried again: the history says so, and whoever sent it decides.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.hkd.periodic import Periodic
from qvd.interfaces import IBells, IGuestDialer, IMessages
from qvd.model.errors import GuestError, QVDError
from qvd.model.messages import Message
from qvd.model.records import Lease
from qvd.protocols.channels import messages_on_host

AT_ONCE = 32
"""Agents that are spoken to at the same time."""


@frozen
class MessageParts:
    """What the watch of one epoch is made of.

    @ivar look: seconds between two looks at the rows.
    """

    messages: IMessages
    dialer: IGuestDialer
    look: float


class MessageWatch:
    """Looks at the rows on the bell, and every so often."""

    log = Logger()

    def __init__(self, clock: IReactorTime, lease: Lease, bells: IBells, parts: MessageParts) -> None:
        self._lease = lease
        self._bells = bells
        self._parts = parts
        self._looks = Periodic(clock, parts.look, self._look, "looking for messages to users")
        self._handing: list[Deferred[None]] = []
        self._outcomes: dict[int, str | None] = {}

    def start(self) -> None:
        self._looks.heed(self._bells, messages_on_host(self._lease.host_id))
        self._looks.start()

    async def stop(self) -> None:
        """Those that are being handed over are the next daemon's."""
        for handing in list(self._handing):
            handing.cancel()
        await self._looks.stop()

    async def _look(self) -> None:
        found = await self._parts.messages.waiting(self._lease, AT_ONCE)
        # What was handed over, and could not be written: the row is still there.
        present = {message.number for message in found}
        self._outcomes = {number: said for number, said in self._outcomes.items() if number in present}
        self._handing = [Deferred.fromCoroutine(self._hand_over(message)) for message in found]
        for handing, message in zip(self._handing, found, strict=True):
            handing.addErrback(self._report, message)
        await DeferredList(self._handing)
        self._handing = []
        if len(found) == AT_ONCE and not self._outcomes:
            self._looks.now()

    async def _hand_over(self, message: Message) -> None:
        if message.number not in self._outcomes:
            self._outcomes[message.number] = await self._try(message)
        await self._parts.messages.settled(self._lease, message.number, self._outcomes[message.number])
        del self._outcomes[message.number]

    async def _try(self, message: Message) -> str | None:
        """What went wrong; L{None}: nothing."""
        try:
            await self._parts.dialer.dial(message.guest).message(message.text)
        except GuestError as error:
            problem = error.text.strip()
            self.log.warn("VM {vm_id}: a message is not shown: {problem}", vm_id=message.vm_id, problem=problem)
            return problem
        self.log.info("VM {vm_id}: a message was handed over", vm_id=message.vm_id)
        return None

    def _report(self, failure: Failure, message: Message) -> None:
        match failure.value:
            case CancelledError():
                pass
            case QVDError(text=text):
                self.log.warn(
                    "VM {vm_id}: what became of a message is not written: {reason}", vm_id=message.vm_id, reason=text
                )
            case _:
                self.log.failure("VM {vm_id}: a message failed", failure, vm_id=message.vm_id)
