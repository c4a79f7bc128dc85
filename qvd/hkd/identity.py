# -*- test-case-name: tests.unit.test_hkd_identity -*-
"""
What this machine, and no other one of the same name, shows at its registration: C{node.identity} in node.conf.

It is made when the machine is enrolled. A machine without the file may be a node whose row asks for none.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret

LONGEST = 1024


def read(path: Path) -> Secret | None:
    """L{None}: there is no such file.

    @raise SettingsError: it cannot be read, or there is nothing in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST).decode("ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise SettingsError(f"{path} holds no identity: remove it, and enrol this machine again")
    return Secret(text)


def make(path: Path) -> Secret:
    """Write a new one, for its owner's eyes only. It is on the disk when this returns.

    @raise SettingsError: it cannot be written, or there is one.
    """
    identity = Secret(secrets.token_urlsafe(32))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(identity.reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    return identity
