# -*- test-case-name: tests.unit.test_admin_codes,tests.admin.test_mfa -*-
"""One-time codes of an authenticator (RFC 6238), and recovery codes in their place."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

import pyotp
from pyotp.utils import strings_equal

from qvd.model.secret import Secret

STEP, LEEWAY = 30, 1
"""Seconds that a code is shown, and how many steps a clock may be off."""
RECOVERY_CODES = 10
RECOVERY = re.compile(r"[A-Z2-7]{16}")


def new_secret() -> Secret:
    """160 random bits."""
    return Secret(pyotp.random_base32())


def uri_of(secret: Secret, account: str) -> str:
    """What authenticators read from a picture."""
    return pyotp.TOTP(secret.reveal()).provisioning_uri(name=account, issuer_name="QVD")


def counter_of(secret: Secret, code: str, now: float, last_counter: int) -> int | None:
    """Of which step the code is; L{None}: of none that is good and was not used.

    @param now: seconds since 1970.
    """
    totp = pyotp.TOTP(secret.reveal(), interval=STEP)
    present = int(now // STEP)
    found = None
    for counter in range(present - LEEWAY, present + LEEWAY + 1):
        if strings_equal(totp.generate_otp(counter), code) and counter > last_counter:
            found = counter
    return found


def new_recovery_codes() -> list[Secret]:
    """80 random bits each, in groups that can be typed."""
    made = [base64.b32encode(secrets.token_bytes(10)).decode("ascii") for _ in range(RECOVERY_CODES)]
    return [Secret("-".join(text[at : at + 4] for at in range(0, 16, 4))) for text in made]


def recovery_digest(code: str) -> bytes | None:
    """What is stored of it; L{None}: it does not look like one."""
    text = re.sub(r"[\s-]", "", code).upper()
    return hashlib.sha256(text.encode()).digest() if RECOVERY.fullmatch(text) else None
