# -*- test-case-name: tests.unit.test_agent_xauthority -*-
"""
The file that lets programs of the session, and nobody else, talk to its X server.

Format: Xsecurity(7), libXau: for each entry the family, then address, display, protocol and data, each a big-endian
16-bit length and so many bytes.
"""

from __future__ import annotations

import struct

PROTOCOL = b"MIT-MAGIC-COOKIE-1"
COOKIE_BYTES = 16
FAMILY_WILD = 0xFFFF
"""Any host: the guest's name may change while the session runs."""


def encode_entry(display: int, cookie: bytes) -> bytes:
    """The file's content: one entry for all addresses of a display."""
    if len(cookie) != COOKIE_BYTES:
        raise ValueError(f"a cookie has {COOKIE_BYTES} bytes")
    parts = (b"", str(display).encode("ascii"), PROTOCOL, cookie)
    return struct.pack(">H", FAMILY_WILD) + b"".join(struct.pack(">H", len(part)) + part for part in parts)
