"""All screens of the panel, in one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qvd.panel.acts import act_screens
from qvd.panel.bulk import bulk_screens
from qvd.panel.changes import change_screens
from qvd.panel.details import detail_screens
from qvd.panel.entrance import entrance
from qvd.panel.home import home
from qvd.panel.kinds import kinds_of
from qvd.panel.lists import list_screens
from qvd.panel.references import reference_screens
from qvd.panel.search import search
from qvd.panel.site import Panel, Route
from qvd.panel.special import SPECIAL


def objects(panel: Panel) -> Sequence[Route]:
    """Of all kinds of objects that the API declares."""
    kinds = kinds_of(panel.calls.endpoints)
    parts = (list_screens, reference_screens, bulk_screens, change_screens, act_screens, detail_screens)
    return [route for part in parts for route in part(kinds)(panel)]


SCREENS: Sequence[Callable[[Panel], Sequence[Route]]] = (entrance, home, search, *SPECIAL, objects)
"""Where two have a page at the same path, the first counts."""
