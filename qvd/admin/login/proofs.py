# -*- test-case-name: tests.admin.test_login,tests.unit.test_admin_proofs -*-
"""What proves somebody: long random texts in cookies and headers. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from qvd.model.secret import Secret

COOKIE = "__Host-qvd"
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
TOKEN_MARK = "qvd_"
"""Begins tokens of the API, so that programs that look for leaked ones know them."""
LONGEST = 200


def new_proof(mark: str = "") -> Secret:
    """256 random bits."""
    return Secret(mark + secrets.token_urlsafe(32))


def digest(proof: Secret) -> bytes:
    """What is stored of it."""
    return hashlib.sha256(proof.reveal().encode("utf-8", "surrogatepass")).digest()


def csrf_of(session: Secret) -> str:
    """What a page of ours sends along with the session's cookie, which it cannot read itself."""
    return hmac.new(session.reveal().encode("utf-8", "surrogatepass"), b"qvd csrf", hashlib.sha256).hexdigest()


def set_cookie(session: Secret) -> str:
    """Header that gives the client its session. It ends with the browser, or when the server says so."""
    return f"{COOKIE}={session.reveal()}; {ATTRIBUTES}"


def clear_cookie() -> str:
    """Header that takes it away."""
    return f"{COOKIE}=; Max-Age=0; {ATTRIBUTES}"


def read_cookie(header: str) -> Secret | None:
    """The session in a C{Cookie} header (RFC 6265, section 4.2).

    Other cookies may look as they like: one that the standard library cannot read would hide all after it.
    """
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return Secret(value) if 0 < len(value) <= LONGEST else None
    return None
