"""Ports: the hypervisor, and the agents in the guests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zope.interface import Attribute, Interface

from qvd.model.ids import VMId
from qvd.model.records import Domain, Guest, VMSpec


class IDriver(Interface):
    """A hypervisor. Called by the runner, one call at a time per VM; calls for different VMs overlap.

    Each call may raise L{qvd.model.errors.TransientError} or L{qvd.model.errors.PermanentError} with a sentence
    for the user. Cancelling a call must leave nothing running that C{kill} and C{destroy} do not end.
    """

    name: str = Attribute("Name of the driver, as in C{vm.hypervisor}.")

    async def prepare(spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Check and make ready all that the VM needs before it boots: image, home, space. May take long.

        @param progress: told in words what is going on.
        """

    async def start(spec: VMSpec) -> Guest:
        """Boot. Returns when the hypervisor has started it, not when the guest is up."""

    async def shutdown(vm_id: VMId) -> None:
        """Ask the guest, from outside, to power off (ACPI button, TERM). No effect on a VM that is gone.

        @raise TransientError: it cannot be asked now.
        """

    async def kill(vm_id: VMId) -> None:
        """End it at once, whatever it does. Returns when it is gone; no effect on a VM that is."""

    async def destroy(vm_id: VMId) -> None:
        """Free all that C{prepare} and C{start} took, except what persists. The VM must be gone. Idempotent."""

    async def list() -> Sequence[Domain]:
        """What runs on this node, and what left something behind, whoever started it."""

    def watch(exited: Callable[[VMId], None]) -> Callable[[], None]:
        """Call C{exited} whenever a VM is gone, whoever ended it; also for VMs found by C{list}. Return a
        function that ends this."""


class IGuest(Interface):
    """The agent of one running VM. Each call has a deadline of its own and raises
    L{qvd.model.errors.GuestError} when the agent says no, nonsense or nothing."""

    async def ping() -> None:
        """The agent answers."""

    async def x_start(parameters: Mapping[str, str]) -> str:
        """Start or resume the X session."""

    async def x_state() -> str:
        """State of the X session: see C{qvd.model.xsession.XState}."""

    async def x_suspend() -> str:
        """Suspend the X session."""

    async def poweroff() -> None:
        """Ask for an orderly power-off."""

    async def expire(parameters: Mapping[str, str]) -> None:
        """Tell the user that the VM is too old, or soon will be. An agent that does not answer in time has heard it:
        its hook may wait for the user.

        @param parameters: C{vm.expiration.soft} and C{vm.expiration.hard}, those that there are, in UTC.
        """

    async def message(text: str) -> None:
        """Show a text in the desktop, to whoever is connected."""


class IGuestDialer(Interface):
    """Makes L{IGuest}s."""

    def dial(guest: Guest) -> IGuest:
        """No connection is made yet."""
