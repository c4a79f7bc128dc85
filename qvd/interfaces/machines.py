"""Ports: what drivers of containers and virtual machines need around them: the VM network, root file systems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from zope.interface import Attribute, Interface

from qvd.model.ids import VMId
from qvd.model.network import AddressPlan
from qvd.model.records import Nic, VMSpec
from qvd.model.rootplan import RootPlan


class IAddressPlans(Interface):
    """Where the installation keeps the address plan of the VM network."""

    async def current() -> AddressPlan | None:
        """L{None}: no range was set."""


class IDhcp(Interface):
    """Gives VMs the addresses that the database gave them."""

    async def start() -> None:
        """Answer from now on."""

    async def stop() -> None:
        """Answer nobody any more."""

    def set_hosts(nics: Mapping[VMId, Nic]) -> None:
        """Answer these and no others."""


class INetwork(Interface):
    """The VM network, as this node has it: a bridge, filters, and DHCP.

    A driver gives the node's end of each VM's interface the name that L{device} says, and joins it to L{bridge}.
    """

    bridge: str = Attribute("Name of the bridge.")

    def device(vm_id: VMId) -> str:
        """Name of the node's end of the VM's network interface: at most 15 characters."""

    async def attach(vm_id: VMId, nic: Nic) -> None:
        """Let the VM's interface speak, with its own MAC and address and no others, and tell DHCP of it. Before the VM
        runs: until then all that comes from the interface is dropped. Idempotent.

        @raise TransientError: the filters could not be set.
        """

    async def detach(vm_id: VMId) -> None:
        """Undo it. The interface itself goes with the VM; one that was left over is removed. Idempotent."""


class IRoots(Interface):
    """Root file systems of containers, in shared storage. Nothing blocks the reactor; a storage that is full, read-only
    or does not answer is a L{qvd.model.errors.DriverError} that says so."""

    async def prepare(spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Check the image, and unpack it unless that was done, by this node or another one.

        @param progress: told how far it is: "Unpacking the image, 40 %".
        @raise PermanentError: the image is none that can be used; the sentence says why.
        """

    async def lay_out(spec: VMSpec) -> RootPlan:
        """Make the writable layer of one run: a new one, or the one that persists. The image must be prepared."""

    async def clean(vm_id: VMId) -> None:
        """Remove what does not persist of the VM's layer. The VM must be gone. Idempotent."""

    async def left() -> Collection[VMId]:
        """VMs that have something here that does not persist, and that this node made."""
