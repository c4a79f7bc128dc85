# -*- test-case-name: tests.unit.test_hkd_runner -*-
"""What the runners of a node are given."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from qvd.hkd.deadlines import Deadlines
from qvd.hkd.slots import Slots
from qvd.hkd.watch import WatchTimes
from qvd.interfaces import IDriver, IGuestDialer, IOwnership
from qvd.model.ids import VMId


@frozen
class Ports:
    """What a runner needs of the world.

    @ivar forget: called once, when the runner is through.
    @ivar seen: called after each answer of a running guest.
    @ivar permit: called before a boot; raises when the lease is over, which a process that was stopped learns late.
    @ivar slots: how much is done at a time.
    @ivar node: name of this node.
    """

    clock: IReactorTime
    driver: IDriver
    ownership: IOwnership
    dialer: IGuestDialer
    deadlines: Deadlines
    watch: WatchTimes
    forget: Callable[[VMId], None]
    seen: Callable[[VMId], None]
    permit: Callable[[], object] = lambda: None
    slots: Slots = field(factory=Slots)
    node: str = "this node"
