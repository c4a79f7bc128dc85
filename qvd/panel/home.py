# -*- test-case-name: tests.panel.test_skeleton -*-
"""The first page."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.admin.call import Answer
from qvd.panel.site import HOME, Panel, Route
from qvd.panel.visit import Visit


def home(panel: Panel) -> Sequence[Route]:
    """The page."""
    return [Route("GET", HOME, show_home)]


async def show_home(visit: Visit) -> Answer:
    return visit.page("home.html")
