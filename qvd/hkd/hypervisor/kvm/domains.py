# -*- test-case-name: tests.unit.test_kvm_connection -*-
"""What is asked of libvirt about one VM: for threads, each with a connection; and its errors, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

import libvirt

from qvd.hkd.hypervisor.kvm.domain import display_socket, domain_name
from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.ids import VMId

FORGET_TRIES, FORGET_PAUSE = 100, 0.05
"""How often, and with how many seconds between, libvirt is asked whether it has noticed a VM's end."""
BUSY = 'Failed to get "write" lock', 'Failed to get shared "write" lock'
"""QEMU, of a disk that another process has."""
PASSING = ("No space left", "Cannot allocate memory", "Resource temporarily unavailable", "Read-only file system")
PAUSED = {
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: "it is paused, because its storage is full or fails",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: "it is paused by its watchdog",
}
STOPPED = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "it has crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU has failed",
}


def find(vm_id: VMId, connection: libvirt.virConnect) -> libvirt.virDomain | None:
    try:
        return connection.lookupByName(domain_name(vm_id))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def wait_until_forgotten(vm_id: VMId, connection: libvirt.virConnect) -> None:
    """libvirt hears of the end of a VM a little later than we do.

    @raise TransientError: it still knows it.
    """
    for _ in range(FORGET_TRIES):
        if find(vm_id, connection) is None:
            return
        time.sleep(FORGET_PAUSE)  # noqa: TID251
    raise TransientError(f"VM {vm_id} is running already, by libvirt's account")


def create(connection: libvirt.virConnect, xml: str) -> str | None:
    """Boot it.

    @return: where its screen is.
    """
    domain = connection.createXML(xml, 0)
    try:
        return display_socket(domain.XMLDesc(0))
    except libvirt.libvirtError:
        # It may have ended at once.
        return None


def press_button(vm_id: VMId, connection: libvirt.virConnect) -> None:
    """That of ACPI."""
    ask(vm_id, connection, lambda domain: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))


def end(vm_id: VMId, connection: libvirt.virConnect) -> None:
    """At once. QEMU gets TERM, and KILL if it needs it."""
    ask(vm_id, connection, lambda domain: domain.destroy())


def ask(vm_id: VMId, connection: libvirt.virConnect, what: Callable[[libvirt.virDomain], object]) -> None:
    """No effect on a VM that is gone, or goes just now."""
    domain = find(vm_id, connection)
    if domain is None:
        return
    try:
        what(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise


def sentence(vm_id: VMId, error: libvirt.libvirtError) -> DriverError:
    """An error of libvirt, for people."""
    said = str(error.get_error_message() or error)
    if any(words in said for words in BUSY):
        return PermanentError(f"A disk of VM {vm_id} is in use by another process: it runs already, here or elsewhere")
    kind = TransientError if any(words in said for words in PASSING) else PermanentError
    return kind(f"VM {vm_id}: libvirt says: {said[:500]}")


def trouble_of(event: int, detail: int) -> str | None:
    """What an operator should know of a lifecycle event; L{None}: nothing."""
    if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
        return PAUSED.get(detail)
    return STOPPED.get(detail) if event == libvirt.VIR_DOMAIN_EVENT_STOPPED else None
