# -*- test-case-name: tests.unit.test_hkd_drivers,tests.integration.test_node -*-
"""The drivers of a node, each made of the settings, and with what it needs around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qvd.hkd import configured
from qvd.hkd.capacity import Meter
from qvd.hkd.hypervisor import signals as supervised_signals
from qvd.hkd.hypervisor.kvm import signals as kvm_signals
from qvd.hkd.hypervisor.kvm import virttype
from qvd.hkd.hypervisor.lxc.driver import LxcDriver
from qvd.hkd.hypervisor.sandbox.driver import SandboxDriver
from qvd.hkd.network.dhcp import Dhcp
from qvd.hkd.network.service import VMNetwork
from qvd.interfaces import IDriver
from qvd.model.errors import SettingsError
from qvd.model.network import AddressPlan
from qvd.model.settings import Settings
from qvd.sim.listening import listening_driver

SIGNALS: Mapping[str, Path] = {
    "kvm": Path(kvm_signals.__file__).resolve(),
    **dict.fromkeys(("lxc", "sandbox"), Path(supervised_signals.__file__).resolve()),
}
"""By driver whose VMs outlive this process: the file that tells the watchdog how they are ended."""
IN_PROCESS = frozenset({"simulated"})
"""Drivers whose VMs live in this process. Each driver is in one of the two: a VM without a watchdog may run twice."""
KNOWN = sorted(IN_PROCESS | SIGNALS.keys())
NETWORKED = frozenset({"kvm", "lxc"})
"""Drivers whose VMs have addresses of their own."""


def make_network(settings: Settings, reactor: Any) -> VMNetwork | None:
    """L{None}: this node has none, and needs none.

    @raise SettingsError: the driver needs one, and none is configured.
    """
    driver, terms = settings.text("vm.hypervisor"), configured.network_terms(settings)
    if driver not in NETWORKED:
        return None
    if terms is None:
        raise SettingsError(
            f"{settings.source}: vm.network.bridge: the driver {driver} needs a VM network; name a bridge"
        )
    run = configured.run_folder(settings)

    def make_dhcp(plan: AddressPlan) -> Dhcp:
        return Dhcp(reactor, terms.bridge, run, plan, terms.gateway)

    return VMNetwork(reactor, terms, make_dhcp)


def make_driver(settings: Settings, reactor: Any, network: VMNetwork | None) -> IDriver:
    """@raise SettingsError: there is no such driver, or it lacks something."""
    name = settings.text("vm.hypervisor")
    match name:
        case "kvm":
            return make_kvm_driver(settings, reactor, network)
        case "lxc":
            roots = configured.container_roots(settings, reactor)
            return LxcDriver(reactor, configured.lxc_layout(settings), network, roots)
        case "sandbox":
            return SandboxDriver(reactor, configured.sandbox_layout(settings))
        case "simulated":
            return listening_driver(reactor, Meter().measure().memory)
        case _:
            raise SettingsError(
                f"{settings.source}: vm.hypervisor: there is no driver {name!r}; there are: {', '.join(KNOWN)}"
            )


def make_kvm_driver(settings: Settings, reactor: Any, network: VMNetwork | None) -> IDriver:
    """@raise SettingsError: libvirt's library is not there. No other driver needs it."""
    try:
        from qvd.hkd.hypervisor.kvm.driver import KvmDriver, KvmTerms
    except ImportError as error:
        raise SettingsError(
            f"{settings.source}: vm.hypervisor: the driver kvm needs Python's libvirt library, which cannot be loaded"
            f" ({error}); install libvirt-python (qvd[kvm]), or python3-libvirt"
        ) from None
    terms = KvmTerms(
        settings.text("vm.kvm.uri"),
        virttype.choose(configured.wanted_virt_type(settings), virttype.look()),
        settings.number("vm.kvm.cpus"),
        settings.flag("vm.kvm.vnc"),
        settings.flag("vm.kvm.ballooning"),
    )
    return KvmDriver(reactor, configured.kvm_layout(settings), terms, network)
