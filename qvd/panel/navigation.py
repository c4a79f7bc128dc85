# -*- test-case-name: tests.panel.test_skeleton -*-
"""What the menu offers: of what there is, what the caller may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qvd.panel.texts import N_

if TYPE_CHECKING:
    from qvd.panel.visit import Visit


@frozen
class Entry:
    """A page of the menu.

    @ivar needs: an operation of the API without which the page has nothing to show; empty: everybody has it.
    """

    text: str
    path: str
    needs: str = ""


MENUS: Sequence[tuple[str, Sequence[Entry]]] = (
    ("", (Entry(N_("Home"), "/panel/"),)),
    (
        N_("Platform"),
        (
            Entry(N_("Users"), "/panel/users", "/users"),
            Entry(N_("VMs"), "/panel/vms", "/vms"),
            Entry(N_("Nodes"), "/panel/hosts", "/hosts"),
            Entry(N_("OSFs"), "/panel/osfs", "/osfs"),
            Entry(N_("Disk images"), "/panel/images", "/images"),
        ),
    ),
    (
        N_("Administration"),
        (
            Entry(N_("Tenants"), "/panel/tenants", "/tenants"),
            Entry(N_("Administrators"), "/panel/administrators", "/administrators"),
            Entry(N_("Roles"), "/panel/roles", "/roles"),
            Entry(N_("Properties"), "/panel/properties", "/properties"),
            Entry(N_("Configuration"), "/panel/config", "/config"),
        ),
    ),
    (
        N_("Activity"),
        (
            Entry(N_("Jobs"), "/panel/jobs", "/jobs"),
            Entry(N_("Audit log"), "/panel/log", "/log"),
            Entry(N_("Doctor"), "/panel/doctor", "/doctor"),
        ),
    ),
)


def menus(visit: Visit) -> Sequence[tuple[str, Sequence[Entry]]]:
    """Those with something in them, for whoever asks."""
    if not visit.session or visit.session["must_change_password"]:
        return ()
    found = []
    for title, entries in MENUS:
        shown = [entry for entry in entries if not entry.needs or visit.may("GET", entry.needs)]
        if shown:
            found.append((title, shown))
    return found
