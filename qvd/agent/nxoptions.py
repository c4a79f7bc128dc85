# -*- test-case-name: tests.unit.test_agent_nxoptions -*-
"""
What a session's parameters make of nxagent: its options file.

The parameters come from the client, by way of the node. Nothing in them may end an option, or add one that opens a
port, names a file or a program.
"""

from __future__ import annotations

from collections.abc import Mapping

from qvd.model.nxparameters import EXTRA, PARAMETER, check_value, extra_options

DEFAULTS = {"keyboard": "pc105/us", "client": "linux", "link": "adsl", "geometry": "", "fullscreen": ""}
"""NX option to its value where the client says nothing about it; an empty one leaves it to nxagent."""


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
    check_value(key, value)
    return value
