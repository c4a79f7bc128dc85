"""All screens of the panel: what pictures are taken of, and what axe looks at."""

from __future__ import annotations

from attrs import frozen

from tests.browser.farm import Farm


@frozen
class Screen:
    """A screen.

    @ivar path: with C{{vm}} and the like for an object of that kind.
    @ivar who: who looks at it; empty: nobody who has logged in.
    """

    name: str
    path: str
    who: str = "root"

    def at(self, farm: Farm) -> str:
        """Where it is in that farm."""
        return self.path.format(**farm.examples())


SPECIAL = (
    Screen("login", "/panel/login", ""),
    Screen("home", "/panel/"),
    Screen("account", "/panel/me"),
    Screen("password", "/panel/password"),
    Screen("image-new", "/panel/images/new"),
    Screen("image-life", "/panel/images/{image}/life"),
    Screen("image-tag", "/panel/images/{image}/life?operation=tag:default"),
    Screen("role-permissions", "/panel/roles/{role}/permissions?q=vm.update"),
    Screen("role-new", "/panel/roles/new"),
    Screen("administrator-new", "/panel/administrators/new"),
    Screen("administrator-roles", "/panel/administrators/{administrator}/roles"),
    Screen("configuration", "/panel/config"),
    Screen("configuration-key", "/panel/config/stats.expiring.days"),
    Screen("jobs", "/panel/jobs"),
    Screen("job", "/panel/jobs/{job}"),
    Screen("log", "/panel/log"),
    Screen("log-entry", "/panel/log/{entry}"),
    Screen("nowhere", "/panel/nowhere"),
)
OBJECTS = (
    Screen("users", "/panel/users", "anna"),
    Screen("user", "/panel/users/{user}", "anna"),
    Screen("user-new", "/panel/users/new", "anna"),
    Screen("user-change", "/panel/users/{user}/edit", "anna"),
    Screen("user-delete", "/panel/users/{user}/do/delete", "anna"),
    Screen("vms", "/panel/vms?columns=name,state,user_name,osf_name,host_name", "anna"),
    Screen("vms-filtered", "/panel/vms?state=running&sort=-name", "anna"),
    Screen("vm", "/panel/vms/{vm}"),
    Screen("vm-new", "/panel/vms/new", "anna"),
    Screen("nodes", "/panel/hosts"),
    Screen("node", "/panel/hosts/{host}"),
    Screen("osfs", "/panel/osfs", "anna"),
    Screen("osf", "/panel/osfs/{osf}", "anna"),
    Screen("osf-new", "/panel/osfs/new", "anna"),
    Screen("images", "/panel/images", "anna"),
    Screen("image", "/panel/images/{image}", "anna"),
    Screen("tenants", "/panel/tenants"),
    Screen("tenant", "/panel/tenants/{tenant}"),
    Screen("tenant-purge", "/panel/tenants/{tenant}/do/purge"),
    Screen("administrators", "/panel/administrators"),
    Screen("administrator", "/panel/administrators/{administrator}"),
    Screen("roles", "/panel/roles"),
    Screen("role", "/panel/roles/{role}"),
    Screen("properties", "/panel/properties", "anna"),
    Screen("property", "/panel/properties/{property}", "anna"),
    Screen("search", "/panel/search?q=student", "anna"),
)
SCREENS = (*SPECIAL, *OBJECTS)
