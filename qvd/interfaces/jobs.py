"""Ports of what takes longer than a call: jobs, and what they do to the farm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from zope.interface import Interface

from qvd.interfaces.database import ITransaction
from qvd.model.declared import Principal
from qvd.model.secret import Secret


@frozen(kw_only=True)
class NewJob:
    """A job that is asked for.

    @ivar principal: whose it is.
    @ivar object_kind: with its id and name: what it is about, where that is one thing.
    @ivar arguments: for the kind that runs it. No secrets.
    @ivar items: objects that are done one by one (L{IJobs.settle}).
    @ivar cursor: where it begins. It is shown to nobody, so it may hold what C{arguments} must not.
    """

    kind: str
    principal: Principal
    request_id: str
    client_address: str
    arguments: Mapping[str, Any]
    object_kind: str = ""
    object_id: int | None = None
    object_name: str = ""
    unit: str = ""
    items: Sequence[int] = ()
    cursor: Any = None


@frozen(kw_only=True)
class ClaimedJob:
    """A job that is ours until its lease is over.

    @ivar token: of this claim.
    @ivar acls: what its administrator might do when it was asked for.
    @ivar cursor: how far it has got; L{None}: it begins.
    @ivar attempts: claims, with this one.
    """

    job_id: int
    kind: str
    token: str
    administrator_id: int | None
    acls: frozenset[str]
    request_id: str
    client_address: str
    arguments: Mapping[str, Any]
    object_id: int | None
    cursor: Any
    done: int
    total: int
    attempts: int


@frozen(kw_only=True)
class Claims:
    """Which jobs somebody would take.

    @ivar at_once: by kind, how many of it may run at the same time, whoever runs them.
    @ivar restartable: kinds with which another one can go on.
    @ivar seconds: of a lease.
    @ivar attempts: after so many a job that ended its service each time is given up.
    """

    holder: str
    at_once: Mapping[str, int]
    restartable: Sequence[str]
    seconds: float
    attempts: int


@frozen(kw_only=True)
class Noted:
    """What is new of a job.

    @ivar save: whether C{cursor} is.
    """

    done: int
    total: int
    lines: Sequence[str] = ()
    cursor: Any = None
    save: bool = False


class IJobs(Interface):
    """Jobs as rows. Their leases are by the database's clock."""

    async def create(new: NewJob, tx: ITransaction) -> int:
        """Put a job in the queue, in the transaction that asks for it; return its id."""

    async def claim(claims: Claims) -> Sequence[ClaimedJob]:
        """Take jobs that wait, or whose lease is over. Those that cannot go on are marked as failed, and why."""

    async def note(job: ClaimedJob, seconds: float, noted: Noted) -> bool:
        """Renew the lease; return whether the job is to be cancelled.

        @raise OwnershipLost: it is not ours any more.
        """

    async def hold(job: ClaimedJob, tx: ITransaction) -> None:
        """Nobody else gets the job before the end of the transaction.

        @raise OwnershipLost: it is not ours any more.
        """

    async def waiting() -> int:
        """Jobs that nobody has begun, or that nobody goes on with."""

    async def finish(job: ClaimedJob, state: str, result: Any, problem: Any, noted: Noted) -> None:
        """The job has ended: C{succeeded}, C{partial}, C{failed} or C{cancelled}.

        @raise OwnershipLost: it is not ours any more.
        """

    async def give_back(job: ClaimedJob, noted: Noted) -> None:
        """Somebody else goes on with it. It does not count as an attempt."""

    async def left(job: ClaimedJob, most: int) -> Sequence[int]:
        """Objects that are not done yet, in order."""

    async def settle(
        job: ClaimedJob, object_id: int, status: int, problem: Any, tx: ITransaction | None = None
    ) -> bool:
        """An object is done, or failed. L{False}: it was already, or the job is not ours any more."""

    async def outcomes(job: ClaimedJob, most: int) -> Mapping[str, Any]:
        """C{succeeded}, C{failed}, C{left}, and C{results}: the first C{most} of those that failed."""

    async def cancel(job_id: int, tx: ITransaction) -> bool:
        """Cancel one that waits, or ask whoever runs it to. L{False}: it has ended."""

    async def retry(job_id: int, tx: ITransaction) -> bool:
        """Put one that failed, in whole or in part, or was cancelled, in the queue again: it goes on where it was."""

    async def forget(days: float) -> int:
        """Delete those that ended so long ago; return how many."""


class IHostOrders(Interface):
    """What administrators do to nodes, and to all VMs of a node or a tenant."""

    async def apply_drain(host_id: int) -> int:
        """What the node's flag says, to its VMs, in a transaction of its own; return to how many. The node does the
        same again and again, so nothing is lost if this fails."""

    async def new_token(name: str | None, hours: float, cause: str, tx: ITransaction) -> Secret:
        """Make an enrolment token.

        @raise InvalidRequest: it cannot be good for so long.
        """

    async def decommission(host_id: int, tx: ITransaction) -> None:
        """The node is none any more.

        @raise Conflict: it is not drained, not empty or not stopped.
        """

    async def declare_dead(host_id: int, tx: ITransaction) -> Mapping[str, int]:
        """Take from a node whose lease is over what it had, without waiting for another node to notice; return the
        numbers of C{vms} and C{sessions}.

        @raise Conflict: its lease is not over: it may run VMs, and none may run twice.
        """

    async def order_stops(host_id: int | None, tenant_id: int | None, most: int, cause: str) -> int:
        """Order the stop of VMs that run or are to run, of a node or of a tenant; return of how many. L{0}: all
        have the order."""

    async def not_stopped(host_id: int | None, tenant_id: int | None) -> int:
        """VMs of a node, or of a tenant, that are not stopped yet."""
