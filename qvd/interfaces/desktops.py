"""Ports: vMs and their sessions, as those see them who serve clients; disk images, as those do who administer them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zope.interface import Interface

from qvd.model.expiry import ExpiryTerms
from qvd.model.ids import DIId, HostId, SessionId, UserId, VMId
from qvd.model.records import VM, Explanation, SessionSpec, VMSummary


class IVMs(Interface):
    """The VMs as the L7R sees them."""

    async def list_for_user(user_id: UserId, applications: bool) -> Sequence[VMSummary]:
        """The user's VMs, by name."""

    async def get(vm_id: VMId) -> VM | None:
        """One VM with its state."""

    async def explain(vm_id: VMId) -> Explanation | None:
        """The VM with its last placement, for administrators. L{None}: there is no such VM."""

    async def properties(vm_id: VMId) -> Mapping[str, str]:
        """What its guest is told of its properties: those of its OSF, its image, its user and its own, of which the
        later win. Without secrets: what a guest is told, its programs see."""

    async def order_start(vm_id: VMId, cause: str) -> None:
        """Want the VM to run: place it on a node where it has none, and order its start, in one transaction that
        checks capacity. No effect on a VM that runs or is ordered to.

        @param cause: who wants it and why, for the history.
        @raise Unavailable: no node can take it; the text names each node and the rule that rejected it. Or it has
            failed too often, and may not be started yet.
        """

    async def order_stop(vm_id: VMId, cause: str) -> None:
        """Want the VM to be stopped. No effect on a VM that is."""

    async def unplaced() -> Sequence[VMId]:
        """The VMs whose order to start has lost its node, and waits for another one: the first of them, where there are
        very many."""

    async def place_again(vm_id: VMId, cause: str) -> bool:
        """Give such an order another node; withdraw it, with the reason to show, where none can take it. No effect
        when somebody else has done it.

        @return: it has a node now.
        """

    async def reset_failures(vm_id: VMId, cause: str) -> None:
        """Forget the failures of a VM, so that it may be started at once.

        @param cause: who wants it, for the history.
        @raise NotFound: there is no such VM.
        """


class ISessions(Interface):
    """Who has which VM. Ends are written for certain: see L{qvd.l7r.ledger}."""

    async def claim(spec: SessionSpec) -> SessionId | None:
        """Make the session the VM's current one and ring at the node of the one that had it.

        @return: the older session, where it has not ended yet.
        @raise Unavailable: the lease of the session's node is over.
        """

    async def connected(session_id: SessionId) -> None:
        """The client is being switched to NX.

        @raise SessionLost: a newer client has the VM, or the VM's node is lost.
        """

    async def is_current(session_id: SessionId) -> bool:
        """True while no newer session has the VM."""

    async def has_ended(session_id: SessionId) -> bool:
        """True when the session's node has let it go."""

    async def end(session_id: SessionId, reason: str) -> None:
        """The session is over. Idempotent; the first reason stays."""

    async def unended(host_id: HostId) -> Mapping[SessionId, str | None]:
        """The sessions that this process serves on this node, and that have not ended: L{None}, or why they should: a
        newer client has the VM, the node that ran it is lost, or an administrator wants it."""


class IImages(Interface):
    """Disk images as administrators see them. Both calls give dates to the running VMs whose tag leads to the image
    then, and which run another one; they return these VMs. A date that comes sooner already stays."""

    async def publish(di_id: DIId, tags: Collection[str], terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        """Let VMs start from the image. It takes over C{tags}; C{head}, and C{default} of a first image, come by
        themselves.

        @raise InvalidRequest: it is not in a state to be published, or a tag is not one to be moved.
        @raise NotFound: there is no such image.
        """

    async def set_tag(di_id: DIId, tag: str, terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        """Put a tag on the image, wherever it was before.

        @raise InvalidRequest: the image is not published, or the tag is not one to be moved.
        @raise NotFound: there is no such image.
        """
