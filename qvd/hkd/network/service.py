# -*- test-case-name: tests.machines.test_network_service -*-
"""The VM network of this node, from the start of the daemon to its end."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from qvd.hkd.network.bridge import Bridge, device_name
from qvd.hkd.network.commands import ICommandReactor
from qvd.hkd.network.firewall import Firewall, tracks_bridged
from qvd.hkd.network.rules import Member, Policy
from qvd.interfaces import IAddressPlans, IDhcp, INetwork
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.network import AddressPlan, node_fault
from qvd.model.records import Nic

FORWARDING = "/proc/sys/net/ipv4/ip_forward"


@frozen
class NetworkTerms:
    """What the settings say of the VM network.

    @ivar bridge: its name.
    @ivar create: make it where it is missing.
    @ivar address: of the node.
    @ivar prefix: how the names of VMs' interfaces begin.
    @ivar guest_ports: see L{Policy}, and so C{login_port}, C{isolated}, C{nat_interface} and C{nat_except}.
    @ivar dhcp: this node answers.
    """

    bridge: str
    create: bool
    address: str
    prefix: str
    guest_ports: tuple[str, ...]
    login_port: int | None
    isolated: bool
    dhcp: bool
    nat_interface: str | None
    nat_except: tuple[str, ...] = ()

    @property
    def gateway(self) -> str | None:
        """Of VMs, where the range has none of its own: this node, if it takes them outside."""
        return None if self.nat_interface is None else self.address

    def policy(self, plan: AddressPlan, tracked: bool) -> Policy:
        return Policy(
            plan=plan,
            bridge=self.bridge,
            prefix=self.prefix,
            guest_ports=self.guest_ports,
            login_port=self.login_port,
            isolated=self.isolated,
            dhcp=self.dhcp,
            nat_interface=self.nat_interface,
            nat_except=self.nat_except,
            tracked=tracked,
        )


@implementer(INetwork)
class VMNetwork:
    """Bridge, filters and DHCP of one node. Before L{start} no VM can be attached.

    @param make_dhcp: of a plan; not called where this node does not answer.
    @ivar gateway: see L{NetworkTerms}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: ICommandReactor,
        terms: NetworkTerms,
        make_dhcp: Callable[[AddressPlan], IDhcp],
    ) -> None:
        self._reactor = reactor
        self._terms = terms
        self._make_dhcp = make_dhcp
        self._bridge: Bridge | None = None
        self._firewall: Firewall | None = None
        self._dhcp: IDhcp | None = None
        self._cards: dict[VMId, Nic] = {}
        self.bridge = terms.bridge
        self.gateway = terms.gateway

    def device(self, vm_id: VMId) -> str:
        return device_name(self._terms.prefix, vm_id)

    async def start(self, plans: IAddressPlans) -> None:
        """@raise PermanentError: there is no range, or this node does not fit into it.
        @raise TransientError: bridge or filters could not be set.
        """
        plan = await plans.current()
        if plan is None:
            raise PermanentError("There is no range of addresses for VMs: set one with 'qvd-db network'")
        wrong = node_fault(plan, self._terms.address)
        if wrong is not None:
            raise PermanentError(wrong)
        self._check_forwarding()
        address = f"{self._terms.address}/{plan.network.prefixlen}"
        bridge = Bridge(self._reactor, self._terms.bridge, address, self._terms.create)
        tracked = await tracks_bridged(self._reactor)
        firewall = Firewall(self._reactor, self._terms.policy(plan, tracked))
        interfaces = await bridge.interfaces()
        # Those of a daemon that was here before: their VMs go on.
        members = [member for member in await firewall.known() if member.device in interfaces]
        await firewall.begin(members)
        await bridge.ensure()
        if self._terms.dhcp and self._dhcp is None:
            self._dhcp = self._make_dhcp(plan)
            self._cards |= dict(card_of(member, plan, self._terms) for member in members)
            self._tell_dhcp()
            await self._dhcp.start()
        self._bridge, self._firewall = bridge, firewall
        self.log.info(
            "the VM network {network} is up on {bridge}; connections between its ports are {how}",
            network=str(plan.network),
            bridge=self._terms.bridge,
            how="tracked" if tracked else "told by their flags",
        )

    async def stop(self, remove: bool) -> None:
        """@param remove: nobody needs it any more: no VM, and no other daemon of this node."""
        if self._dhcp is not None:
            await self._dhcp.stop()
            self._dhcp = None
        if self._firewall is None or self._bridge is None or not remove:
            return
        if await self._firewall.known():
            return  # VMs that go on without us
        await self._firewall.remove()
        await self._bridge.remove()

    async def attach(self, vm_id: VMId, nic: Nic) -> None:
        firewall = self._running()
        await firewall.admit(Member(self.device(vm_id), nic.mac, nic.address))
        self._cards[vm_id] = nic
        self._tell_dhcp()

    async def detach(self, vm_id: VMId) -> None:
        firewall, bridge = self._running(), self._bridge
        await firewall.dismiss(self.device(vm_id))
        if self._cards.pop(vm_id, None) is not None:
            self._tell_dhcp()
        if bridge is not None:
            await bridge.delete(self.device(vm_id))

    def _tell_dhcp(self) -> None:
        if self._dhcp is not None:
            self._dhcp.set_hosts(dict(self._cards))

    def _running(self) -> Firewall:
        if self._firewall is None:
            raise TransientError("The VM network of this node is not up yet")
        return self._firewall

    def _check_forwarding(self) -> None:
        if self._terms.nat_interface is None:
            return
        with open(FORWARDING, encoding="ascii") as file:
            if file.read().strip() != "1":
                raise PermanentError(
                    "vm.network.nat_interface is set, and this node does not forward: sysctl -w net.ipv4.ip_forward=1"
                )


def card_of(member: Member, plan: AddressPlan, terms: NetworkTerms) -> tuple[VMId, Nic]:
    """Which VM's it is, and what the database had said of it."""
    vm_id = VMId(int(member.device.removeprefix(terms.prefix)))
    gateway = plan.gateway and str(plan.gateway)
    return vm_id, Nic(member.address, plan.network.prefixlen, member.mac, gateway or terms.gateway)
