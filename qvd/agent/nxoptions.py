# -*- test-case-name: tests.unit.test_agent_nxoptions -*-
"""
What a session's parameters make of nxagent: its options file.

The parameters come from the client, by way of the node. Nothing in them may end an option, or add one that opens a
port, names a file or a program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qvd.model.errors import InvalidRequest

PLAIN = re.compile(r"[A-Za-z0-9_/+-]+\Z")
DEFAULTS = {"keyboard": "pc105/us", "client": "linux", "link": "adsl", "geometry": "", "fullscreen": ""}
"""NX option to its value where the client says nothing about it; an empty one leaves it to nxagent."""
PARAMETER = {
    "keyboard": "qvd.client.keyboard",
    "client": "qvd.client.os",
    "link": "qvd.client.link",
    "geometry": "qvd.client.geometry",
    "fullscreen": "qvd.client.fullscreen",
}
EXTRA = "qvd.client.nxagent.extra_args"
EXTRA_OPTION = re.compile(r"([a-z][a-z0-9_]*)=([A-Za-z0-9_.+-]*)\Z")
LONGEST_VALUE = 256
RESERVED = frozenset(
    "accept aux client connect cookie cups errors font fullscreen geometry http keyboard link listen log loopback media"
    " options proxy root session slave smb stats tolerancechecks".split()
)
"""Options that are set by us, or that would make ports, files or programs the client's choice."""


def options_line(parameters: Mapping[str, str], display: int, *, loopback: bool, tolerance: str) -> str:
    """The content of the options file.

    @param loopback: bind the NX port to the loopback interface only.
    @raise InvalidRequest: a value could be mistaken for something else; the text names its parameter.
    """
    options = [(name, chosen(parameters, name)) for name in DEFAULTS]
    options += [("tolerancechecks", tolerance), ("loopback", "1" if loopback else "")]
    words = [f"{name}={value}" for name, value in options if value]
    return f"nx/nx,{','.join([*words, *extra_options(parameters.get(EXTRA, ''))])}:{display}\n"


def chosen(parameters: Mapping[str, str], name: str) -> str:
    """The client's value of an option, or its default; empty where the client says "empty"."""
    key = PARAMETER[name]
    value = parameters.get(key, DEFAULTS[name])
    if value and not (PLAIN.match(value) and len(value) <= LONGEST_VALUE):
        raise InvalidRequest(f"invalid characters in parameter {key}")
    return value


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
