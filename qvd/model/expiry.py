# -*- test-case-name: tests.unit.test_model_expiry -*-
"""
When a VM whose image is too old is to stop, and what its user is told before.

After the soft date it stops as soon as nobody is connected, and whoever is connected is told of it, once. At the hard
date it stops, and whoever is connected is warned some time before, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import frozen

from qvd.model.ids import VMId
from qvd.model.records import Guest


@frozen
class ExpiryTerms:
    """Seconds from the publication of an image until the VMs that run an older one expire; L{None}: never."""

    soft: float | None = None
    hard: float | None = None


class Notice(Enum):
    """What a user is told of."""

    SOFT = "soft"
    HARD = "hard"


@frozen
class ExpiryDate:
    """One of a VM's two dates.

    @ivar seconds: until it comes, from the moment that the row was read; negative once it has.
    @ivar text: for the guest, UTC.
    @ivar told: the user has been told of this date.
    """

    seconds: float
    text: str
    told: bool


@frozen
class Expiring:
    """A running VM with at least one date.

    @ivar taken: some session has the VM; C{connected}: its desktop is on a screen.
    """

    vm_id: VMId
    guest: Guest
    soft: ExpiryDate | None
    hard: ExpiryDate | None
    taken: bool
    connected: bool

    @property
    def parameters(self) -> Mapping[str, str]:
        """For the agent."""
        dates = {"vm.expiration.soft": self.soft, "vm.expiration.hard": self.hard}
        return {name: date.text for name, date in dates.items() if date is not None}

    def date_of(self, notice: Notice) -> ExpiryDate | None:
        return self.soft if notice is Notice.SOFT else self.hard


def is_over(vm: Expiring, elapsed: float) -> bool:
    """The VM is to stop, C{elapsed} seconds after its row was read."""
    soft = vm.soft is not None and vm.soft.seconds <= elapsed and not vm.taken
    return soft or (vm.hard is not None and vm.hard.seconds <= elapsed)


def notices(vm: Expiring, elapsed: float, warning: float) -> tuple[Notice, ...]:
    """What its user is to be told now.

    @param warning: seconds before the hard date.
    """
    if not vm.connected:
        return ()
    due = []
    if vm.soft is not None and not vm.soft.told and vm.soft.seconds <= elapsed:
        due.append(Notice.SOFT)
    if vm.hard is not None and not vm.hard.told and vm.hard.seconds - warning <= elapsed:
        due.append(Notice.HARD)
    return tuple(due)


def next_look(vm: Expiring, elapsed: float, warning: float) -> float | None:
    """Seconds until the passing of time makes something due for the VM."""
    moments = []
    if vm.soft is not None:
        moments.append(vm.soft.seconds)
    if vm.hard is not None:
        moments += [vm.hard.seconds - warning, vm.hard.seconds]
    return min((moment - elapsed for moment in moments if moment > elapsed), default=None)
