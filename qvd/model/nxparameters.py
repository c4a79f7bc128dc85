# -*- test-case-name: tests.unit.test_agent_nxoptions -*-
"""
The values of a session's parameters that become NX options: what may stand in them.

The guest's agent checks them where they are used; the administration where they are set, so that nobody is kept from a
desktop by a value that somebody else has mistyped.
"""

from __future__ import annotations

import re

from qvd.model.errors import InvalidRequest

PLAIN = re.compile(r"[A-Za-z0-9_/+-]+\Z")
PARAMETER = {
    "keyboard": "qvd.client.keyboard",
    "client": "qvd.client.os",
    "link": "qvd.client.link",
    "geometry": "qvd.client.geometry",
    "fullscreen": "qvd.client.fullscreen",
}
"""By NX option."""
EXTRA = "qvd.client.nxagent.extra_args"
EXTRA_OPTION = re.compile(r"([a-z][a-z0-9_]*)=([A-Za-z0-9_.+-]*)\Z")
LONGEST_VALUE = 256
RESERVED = frozenset(
    "accept aux client connect cookie cups errors font fullscreen geometry http keyboard link listen log loopback media"
    " options proxy root session slave smb stats tolerancechecks".split()
)
"""Options that are set by us, or that would make ports, files or programs the client's choice."""


def check_value(key: str, value: str) -> None:
    """@raise InvalidRequest: it could be mistaken for something else."""
    if value and not (PLAIN.match(value) and len(value) <= LONGEST_VALUE):
        raise InvalidRequest(f"invalid characters in parameter {key}")


def extra_options(text: str) -> list[str]:
    """Check a list C{name=value,name=value}.

    @raise InvalidRequest: it is none, or has an option that is not the client's to set.
    """
    found = []
    for option in text.strip().strip(",").split(",") if text.strip(" ,") else []:
        match = EXTRA_OPTION.match(option) if len(option) <= LONGEST_VALUE else None
        if match is None:
            raise InvalidRequest(f"invalid characters in parameter {EXTRA}")
        if match[1] in RESERVED:
            raise InvalidRequest(f"option {match[1]} is not allowed in parameter {EXTRA}")
        found.append(option)
    return found
