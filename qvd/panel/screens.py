"""All screens of the panel, in one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qvd.panel.entrance import entrance
from qvd.panel.home import home
from qvd.panel.site import Panel, Route
from qvd.panel.special import SPECIAL

SCREENS: Sequence[Callable[[Panel], Sequence[Route]]] = (entrance, home, *SPECIAL)
