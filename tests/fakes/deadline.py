"""Whoever kills the VMs when the deadline has passed, as seen by the daemon."""

from __future__ import annotations

from zope.interface import implementer

from qvd.interfaces import IDeadline
from qvd.model.records import Lease


@implementer(IDeadline)
class FakeDeadline:
    """L{IDeadline} that kills nobody.

    @ivar told: every lease and deadline, in order.
    @ivar error: raised while it is set.
    @ivar released: the daemon has said goodbye.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Lease, float]] = []
        self.error: Exception | None = None
        self.released = False

    def extend(self, lease: Lease, until: float) -> None:
        if self.error is not None:
            raise self.error
        self.told.append((lease, until))

    async def release(self) -> None:
        self.released = True
