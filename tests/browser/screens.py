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


SPECIAL = (
    Screen("login", "/panel/login", ""),
    Screen("home", "/panel/", kept=True),
    Screen("account", "/panel/me"),
    Screen("password", "/panel/password"),
    Screen("image-new", "/panel/images/new", kept=True),
    Screen("image-life", "/panel/images/{image}/life"),
    Screen("image-tag", "/panel/images/{image}/life?operation=tag:default", kept=True),
    Screen("role-permissions", "/panel/roles/{role}/permissions?q=vm.update", kept=True),
    Screen("role-new", "/panel/roles/new"),
    Screen("administrator-new", "/panel/administrators/new"),
    Screen("administrator-roles", "/panel/administrators/{administrator}/roles"),
    Screen("configuration", "/panel/config"),
    Screen("configuration-key", "/panel/config/stats.expiring.days"),
    Screen("jobs", "/panel/jobs"),
    Screen("job", "/panel/jobs/{job}"),
    Screen("log", "/panel/log"),
    Screen("log-entry", "/panel/log/{entry}", kept=True),
    Screen("nowhere", "/panel/nowhere"),
)
SCREENS = SPECIAL
