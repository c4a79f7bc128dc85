"""Port: what administrators order of VMs, and ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from zope.interface import Interface

from qvd.interfaces.database import ITransaction
from qvd.model.ids import VMId
from qvd.model.placement import Decision
from qvd.model.records import VM, Explanation


@frozen(kw_only=True)
class Happened:
    """A row of the history.

    @ivar before: the columns that changed, as they were. C{after} likewise.
    """

    id: int
    at: datetime
    kind: str
    host_id: int | None
    session_id: str | None
    user_id: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    cause: str | None


@frozen
class Boot:
    """@ivar in_use: version of the image that the VM runs, C{assigned} that of its next start; L{None}: none."""

    in_use: str | None
    assigned: str | None


class IOrders(Interface):
    """Orders are given in the transaction of whoever gives them. Who may, and in which state, is decided before."""

    async def locked(tx: ITransaction, vm_id: VMId) -> VM:
        """The VM as it is, and stays until the end of the transaction.

        @raise NotFound: there is none.
        """

    async def start(tx: ITransaction, vm_id: VMId) -> Decision | None:
        """Order a start, on a node where it has none; L{None}: it has one already. A decision without a node has
        ordered nothing.

        @raise Unavailable: the VM has failed too often, and may not be started yet.
        """

    async def refused(tx: ITransaction, vm_id: VMId, decision: Decision) -> None:
        """Keep why no node took the VM, where the transaction that decided is not committed."""

    async def stop(tx: ITransaction, vm_id: VMId, forced: bool) -> None:
        """Order a stop, or withdraw the order to start. No effect on a VM that is stopped.

        @param forced: the guest is not asked, even if it was before.
        """

    async def restart(tx: ITransaction, vm_id: VMId) -> None:
        """Order a stop, and a start as soon as the VM is stopped, wherever there is room then."""

    async def forget_failures(tx: ITransaction, vm_id: VMId) -> None:
        """A VM that has failed too often may be started at once."""

    async def disconnect(tx: ITransaction, vm_id: VMId, reason: str) -> bool:
        """Have its node end the session that has the VM; False: there is none.

        @param reason: for its user, and for the history.
        """

    async def message(tx: ITransaction, vm_id: VMId, text: str) -> bool:
        """Have the VM's node show a text to whoever is connected; False: nobody is.

        @raise Conflict: too many have not been shown yet.
        """

    async def boots(tx: ITransaction, vm_id: VMId) -> Boot:
        """What the VM runs, and what its tag leads to."""

    async def explain(vm_id: VMId) -> Explanation | None:
        """The VM with its last placement. L{None}: there is no such VM."""

    async def history(vm_id: VMId, before: int | None, limit: int) -> Sequence[Happened]:
        """What happened to the VM, the newest first.

        @param before: number of a row; only older ones.
        """

    async def tenant_of(tx: ITransaction, kind: str, object_id: int) -> int | None:
        """The tenant of a user (C{user}) or an OSF (C{osf}), which stays until the end of the transaction; L{None}:
        there is none."""
