# -*- test-case-name: tests.unit.test_agent_marker -*-
"""
The file that a driver puts into its guests: which VM this is, and how the node is to reach and to know the agent.

An agent that provisions users must never run outside a guest, so without this file there is none.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret

SANDBOX = "sandbox"
KVM = "kvm"
LEAST_SECRET = 16
MOST_BYTES = 64 * 1024
MOST_DISPLAY = 55535
"""nxagent listens on 4000 and the X server on 6000 more than its display; neither may pass 65535."""

T = TypeVar("T", str, int)


@frozen
class GuestMarker:
    """What the driver tells the agent.

    @ivar driver: its name; in a C{sandbox} the agent is the user itself, and its end is the end of the guest.
    @ivar address: where to listen; empty is all interfaces.
    @ivar login: the account of the session's user, where the driver made it.
    @ivar x_session: program that replaces C{command.x-session}.
    @ivar home_disk: what is on a disk that the driver has given to it, and that it must not do without: C{homes}.
    """

    driver: str
    vm_id: int
    secret: Secret
    address: str
    vma_port: int
    display: int
    login: str | None
    home: str | None
    x_session: str | None
    home_disk: str | None = None

    @property
    def sandboxed(self) -> bool:
        return self.driver == SANDBOX

    @property
    def loopback(self) -> bool:
        """Nobody from another machine is to reach nxagent."""
        return bool(self.address) and ip_address(self.address).is_loopback


def read_marker(path: str, vma_port: int, display: int) -> GuestMarker:
    """Read and check the file.

    @param vma_port: where the file names none; so C{display}.
    @raise SettingsError: it is missing, or wrong; a sentence that names it.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES)
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}: this agent works only inside a VM, and the driver that starts one writes this"
            " file (key vma.guest_file)"
        ) from None
    return parse_marker(data, path, vma_port, display)


def parse_marker(data: bytes, source: str, vma_port: int, display: int) -> GuestMarker:
    """The checked content of the file.

    @raise SettingsError: it is wrong.
    """
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise SettingsError(f"{source}: no JSON") from None
    if not isinstance(table, dict):
        raise SettingsError(f"{source}: no JSON object")
    fields = _Fields(source, table)
    return GuestMarker(
        driver=fields.need("driver", str),
        vm_id=fields.need("vm_id", int),
        secret=fields.secret(),
        address=fields.address(),
        vma_port=fields.number("vma_port", vma_port, 65535),
        display=fields.number("display", display, MOST_DISPLAY),
        login=fields.get("login", str),
        home=fields.get("home", str),
        x_session=fields.get("x_session", str),
        home_disk=fields.get("home_disk", str),
    )


@frozen
class _Fields:
    """Typed access to the members of a JSON object."""

    source: str
    table: dict[str, object]

    def get(self, name: str, kind: type[T]) -> T | None:
        value = self.table.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SettingsError(f"{self.source}: {name}: expected {kind.__name__}, found {type(value).__name__}")
        return value

    def need(self, name: str, kind: type[T]) -> T:
        value = self.get(name, kind)
        if value is None:
            raise SettingsError(f"{self.source}: {name}: missing")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        value = self.get(name, int)
        if value is None:
            return default
        if not 0 < value <= most:
            raise SettingsError(f"{self.source}: {name}: {value} is not within 1 and {most}")
        return value

    def secret(self) -> Secret:
        value = self.need("secret", str)
        if len(value) < LEAST_SECRET:
            raise SettingsError(f"{self.source}: secret: shorter than {LEAST_SECRET} characters")
        return Secret(value)

    def address(self) -> str:
        value = self.get("address", str) or ""
        try:
            return str(ip_address(value)) if value else ""
        except ValueError:
            raise SettingsError(f"{self.source}: address: no IP address") from None
