# -*- test-case-name: tests.unit.test_hypervisor_vmspec -*-
"""What drivers check in a L{VMSpec}, or read out of it."""

from __future__ import annotations

import re

from qvd.model.errors import PermanentError
from qvd.model.records import VMSpec

LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


def require(condition: bool, text: str) -> None:
    """@raise PermanentError: with C{text}, unless C{condition} holds."""
    if not condition:
        raise PermanentError(text)


def check_login(spec: VMSpec) -> None:
    """@raise PermanentError: no account can have that name, or none but the guest's own."""
    require(
        LOGIN.fullmatch(spec.login) is not None and spec.login != "root",
        f"The login {spec.login!r} cannot be the name of a Unix account",
    )


def host_name(name: str) -> str:
    """A VM's name as a host name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "desktop"
