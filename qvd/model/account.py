# -*- test-case-name: tests.unit.test_model_account -*-
"""The Unix account of a user inside a guest."""

from __future__ import annotations

import re

LONGEST = 32


def unix_name(login: str) -> str:
    """A name that C{useradd} takes, for any login: lower case, foreign characters as C{_}, never empty.

    Both the driver that writes a guest's accounts and the L7R that names the session's user call this, so that they
    mean the same account. Two logins that fall together never share a guest: each VM has one user.
    """
    name = re.sub(r"[^a-z0-9_.-]", "_", login.lower())[:LONGEST]
    if name and re.match(r"[a-z_]", name):
        return "_root" if name == "root" else name
    return f"_{name}"[:LONGEST]
