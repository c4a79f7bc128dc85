# -*- test-case-name: tests.admin.test_login,tests.unit.test_admin_proofs -*-
"""What proves somebody: long random texts in cookies and headers. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from qvd.model.secret import Secret

COOKIE = "__Host-qvd"
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
TOKEN_MARK = "qvd_"
"""Begins tokens of the API, so that programs that look for leaked ones know them."""
VALUE = re.compile(r"[A-Za-z0-9_-]{1,200}")


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
    """The session in a C{Cookie} header (RFC 6265, section 5.4).

    What others have set on the same host is passed over, however odd: the library finds nothing at all in a
    header that holds a space or a quote somewhere. No browser sends two of ours; where there are two, neither counts.
    """
    found = {value.strip() for name, _, value in (part.partition("=") for part in header.split(";")) if is_ours(name)}
    if len(found) != 1:
        return None
    value = found.pop()
    return Secret(value) if VALUE.fullmatch(value) else None


def is_ours(name: str) -> bool:
    """Whether a cookie of that name is."""
    return name.strip() == COOKIE
