# -*- test-case-name: tests.doctor.test_broken -*-
"""The ports of a daemon: free, or its own already."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil

from qvd.doctor.checks.tls import certificates_of, dialled, served
from qvd.doctor.findings import About, Finding, failure, not_applicable, ok
from qvd.doctor.place import Place


def look_at_ports(place: Place) -> Iterator[Finding]:
    """All of its ports."""
    keys = [place.prefix]
    if place.about is About.NODE:
        keys.append("admin")
    for key in keys:
        port, address = place.settings.number(f"{key}.port"), place.settings.text(f"{key}.address")
        if port:
            yield look_at_port(place, key, address, port)
        else:
            yield not_applicable(f"{key}.port of {place.path}", "it is 0: off, or chosen by the system")


def look_at_port(place: Place, key: str, address: str, port: int) -> Finding:
    looked_at = f"{key}.port {port} at {'all addresses' if address == '*' else address}"
    wrong = refusal(address, port)
    if wrong is None:
        return ok(looked_at, f"it is free: {place.daemon} can have it")
    match wrong.errno:
        case errno.EADDRINUSE:
            return occupied(place, key, looked_at, port)
        case errno.EACCES:
            return failure(
                looked_at,
                f"Ports below 1024 are for root, or whoever may have them: {place.daemon} cannot start",
                f"give the service CAP_NET_BIND_SERVICE, or set {key}.port to another",
            )
        case _:
            return failure(
                looked_at,
                f"Nobody can listen there ({wrong.strerror}): {place.daemon} cannot start",
                f"set {key}.address to an address that this machine has ('ip address'), or to *",
            )


def refusal(address: str, port: int) -> OSError | None:
    """Why the port cannot be had just now."""
    any_address = address in ("*", "")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if any_address else address, port))
        except OSError as error:
            return error
    return None


def occupied(place: Place, key: str, looked_at: str, port: int) -> Finding:
    """Somebody has it: it should be the daemon itself."""
    holder = holder_of(port)
    if holder is not None and place.daemon in holder[1]:
        return ok(looked_at, f"{place.daemon} (process {holder[0]}) listens there")
    if holder is None and key == place.prefix:
        _, found = certificates_of(place)
        shown = served(dialled(place), port)
        if shown is not None and not isinstance(found, Finding):
            return ok(looked_at, "somebody listens there who speaks TLS (tls.served says with which certificate)")
    who = "Another program" if holder is None else f"The process {holder[0]} ({holder[1][:80]})"
    return failure(
        looked_at,
        f"{who} has it: {place.daemon} cannot start",
        f"end that program (ss -ltnp shows it), or set {key}.port to another port",
    )


def holder_of(port: int) -> tuple[int, str] | None:
    """Process and command line of whoever listens; L{None}: that cannot be seen."""
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return each.pid, " ".join(psutil.Process(each.pid).cmdline())
    return None
