"""All screens of the panel: what pictures are taken of, and what axe looks at."""

from __future__ import annotations

from attrs import frozen

from tests.browser.farm import Farm


@frozen
class Screen:
    """A screen.

    @ivar path: with C{{vm}} and the like for an object of that kind.
    @ivar who: who looks at it; empty: nobody who has logged in.
    @ivar kept: its picture is in the documentation.
    """

    name: str
    path: str
    who: str = "root"
    kept: bool = False

    def at(self, farm: Farm) -> str:
        """Where it is in that farm."""
        return self.path.format(**farm.examples())


SCREENS = (
    Screen("login", "/panel/login", ""),
    Screen("home", "/panel/", kept=True),
)
