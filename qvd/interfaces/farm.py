"""Ports: a farm as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen
from zope.interface import Interface


@frozen
class NodeNumbers:
    """@ivar lease_age: seconds since it has given a sign of life; L{None}: it never has."""

    name: str
    state: str
    blocked: bool
    lease_age: float | None
    sessions: int


@frozen
class VMStep:
    """What happened to a VM on its way.

    @ivar kind: of the event: C{vm.ordered}, C{vm.moved}, or C{vm.} and a state.
    @ivar at: seconds since the epoch.
    """

    vm_id: int
    kind: str
    at: float


@frozen(kw_only=True)
class FarmNumbers:
    """A moment.

    @ivar vm_states: VMs by state.
    @ivar unplaced: VMs that are to run and have no node yet. C{queued} have one and wait for a slot there.
    @ivar steps: what has happened since C{last}, the latest event of the time before.
    """

    nodes: Sequence[NodeNumbers]
    vm_states: Mapping[str, int]
    unplaced: int
    queued: int
    steps: Sequence[VMStep]
    last: int


class IFarm(Interface):
    """The farm, counted."""

    async def count(last: int | None) -> FarmNumbers:
        """@param last: the latest event that is known; L{None}: begin with those that come now.

        @raise DatabaseUnavailable: it cannot be known now.
        """
