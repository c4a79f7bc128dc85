# -*- test-case-name: tests.admin.test_login -*-
"""Passwords of administrators: whether one is right, also by a hash of QVD 4.2, and whether one is good enough."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from qvd.admin.problems import Fault, Problem
from qvd.interfaces import IHasher
from qvd.model.secret import Secret

LEGACY = re.compile(r"[A-Za-z0-9+/]{43}")
SHORTEST, LONGEST = 10, 1024
COMMON = frozenset(
    "1234567890 0123456789 12345678910 qwertyuiop passwordpassword password123 password1234 administrator"
    " administrador contraseña superadmin changeme123 letmeinplease".split()
)


def is_legacy(stored: str) -> bool:
    """Whether it is a hash of QVD 4.2."""
    return LEGACY.fullmatch(stored) is not None


def legacy_hash(salt: str, password: str) -> str:
    """As QVD 4.2 made it."""
    told = hashlib.sha256((salt + password).encode("utf-8", "surrogatepass")).digest()
    return base64.b64encode(told).decode("ascii").rstrip("=")


async def is_right(hasher: IHasher, stored: Secret | None, password: Secret, salt: str) -> bool:
    """Compare. It takes as long whatever is stored; L{None}: nothing is."""
    if stored is not None and is_legacy(stored.reveal()):
        await hasher.verify(None, password.reveal())
        return hmac.compare_digest(legacy_hash(salt, password.reveal()), stored.reveal())
    return await hasher.verify(None if stored is None else stored.reveal(), password.reveal())


def check_quality(password: Secret, name: str) -> None:
    """@raise Problem: it is easily guessed."""
    text = password.reveal().lower()
    if len(text) < SHORTEST:
        reason = f"has fewer than {SHORTEST} characters"
    elif text in COMMON or len(set(text)) < 4:
        reason = "is one of those that are tried first"
    elif len(name) > 3 and name.lower() in text:
        reason = "holds the account's name"
    else:
        return
    raise Problem("invalid-value", f"The new password {reason}", [Fault("/new", reason)])
