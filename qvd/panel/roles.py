# -*- test-case-name: tests.panel.test_roles_screen -*-
"""What roles give: the tree of permissions, with those granted, inherited and excluded; and what they inherit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer
from qvd.panel.acltree import BY, found_in, tree
from qvd.panel.calls import Reply
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit, together

ROLES = "/panel/roles"
MOST = {"limit": "500", "sort": "name"}
STATES = (N_("effective"), N_("granted"), N_("inherited"), N_("excluded"), N_("none"))
DONE = {
    "made": N_("The role is there. Now choose what it gives."),
    "acls": N_("The permissions are changed. Whoever holds the role has them from now on."),
    "parents": N_("What it inherits is changed."),
}


def roles(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", f"{ROLES}/new", show_new),
        Route("POST", f"{ROLES}/new", make),
        Route("GET", f"{ROLES}/<id>/permissions", show),
        Route("POST", f"{ROLES}/<id>/permissions", change),
        Route("POST", f"{ROLES}/<id>/parents", change_parents),
        Route("POST", f"{ROLES}/<id>/clone", clone),
    ]


async def show_new(visit: Visit) -> Answer:
    return await new_page(visit, None)


async def new_page(visit: Visit, problem: Reply | None) -> Answer:
    """Name, and what it inherits; what it gives itself is chosen in the tree."""
    known, tenants = await together(visit.api("GET", "/roles", MOST), tenants_of(visit))
    return visit.page(
        "role_new.html",
        200 if problem is None else problem.status,
        known=known.body["items"] if known.ok else [],
        tenants=tenants.body["items"] if tenants.ok else [],
        chosen=visit.form.all("roles"),
        form=visit.form,
        problem=problem,
        done="",
    )


async def tenants_of(visit: Visit) -> Reply:
    """Whose it may be; nobody else than administrators over all tenants has a choice."""
    if not visit.session["superadmin"]:
        return Reply(403, None)
    return await visit.api("GET", "/tenants", {"fields": "id,name", **MOST})


async def make(visit: Visit) -> Answer:
    form = visit.form
    body: dict[str, Any] = {"name": form.one("name"), "description": form.one("description")}
    if chosen := numbers(form.all("roles")):
        body["roles"] = chosen
    if form.one("tenant_id"):
        body["tenant_id"] = int(form.one("tenant_id"))
    reply = await visit.api("POST", "/roles", None, body)
    if not reply.ok:
        return await new_page(visit, reply)
    return visit.go(f"{ROLES}/{reply.body['id']}/permissions", {"done": "made"})


def numbers(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 10]


async def show(visit: Visit) -> Answer:
    return await tree_page(visit, None)


async def tree_page(visit: Visit, problem: Reply | None) -> Answer:
    """The whole tree, or what a search leaves of it."""
    path = f"/roles/{segment(visit.path['id'])}"
    role = await visit.get(path)
    catalogue = await visit.get("/acls")
    effective = await visit.get(f"{path}/acls", {"view": "effective"})
    by = visit.query.one("by")
    branches = tree(catalogue["items"], effective["items"], role, visit.viewer.language, by if by in BY else BY[0])
    text, only = visit.query.one("q"), visit.query.one("only")
    known = await visit.api("GET", "/roles", MOST) if visit.may("PUT", "/roles/{id}/parents/{role_id}") else None
    holders = await visit.api("GET", f"{path}/administrators") if visit.may("GET", "/administrators") else None
    tenants = await tenants_of(visit) if role["fixed"] else Reply(403, None)
    return visit.page(
        "permissions.html",
        200 if problem is None else problem.status,
        role=role,
        branches=found_in(branches, text, only if only in STATES else ""),
        effective=sum(branch.effective for branch in branches),
        total=sum(len(branch.leaves) for branch in branches),
        narrowed=bool(text or only),
        tenants=tenants.body["items"] if tenants.ok else [],
        q=text,
        only=only,
        by=by,
        states=STATES,
        editable=not role["fixed"] and visit.may("PATCH", "/roles/{id}/acls"),
        known=others(role, known.body["items"]) if known is not None and known.ok else [],
        holders=holders.body if holders is not None and holders.ok else None,
        problem=problem,
        done=DONE.get(visit.query.one("done"), ""),
    )


def others(role: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Roles that it could inherit besides those that it does."""
    inherited = {each["id"] for each in role.get("roles", ())} | {role["id"]}
    return [each for each in known if each["id"] not in inherited]


async def change(visit: Visit) -> Answer:
    """Permissions that were ticked and were not in effect, and the other way round: of those that the page showed."""
    form, role_id = visit.form, segment(visit.path["id"])
    shown, was, ticked = set(form.all("shown")), set(form.all("was")), set(form.all("acl"))
    grant, revoke = sorted((ticked - was) & shown), sorted((was - ticked) & shown)
    if grant or revoke:
        reply = await visit.api("PATCH", f"/roles/{role_id}/acls", None, {"grant": grant, "revoke": revoke})
        if not reply.ok:
            return await tree_page(visit, reply)
    query = {name: visit.query.one(name) for name in ("q", "only", "by") if visit.query.one(name)}
    return visit.go(f"{ROLES}/{role_id}/permissions", {**query, "done": "acls"})


async def change_parents(visit: Visit) -> Answer:
    """Inherit one more role, or one less."""
    role_id, form = segment(visit.path["id"]), visit.form
    method, parent = ("DELETE", form.one("remove")) if form.one("remove") else ("PUT", form.one("add"))
    reply = await visit.api(method, f"/roles/{role_id}/parents/{segment(parent)}")
    if not reply.ok:
        return await tree_page(visit, reply)
    return visit.go(f"{ROLES}/{role_id}/permissions", {"done": "parents"})


async def clone(visit: Visit) -> Answer:
    """One that can be changed, of one that cannot."""
    role_id = segment(visit.path["id"])
    body: dict[str, Any] = {"name": visit.form.one("name")}
    if visit.form.one("tenant_id"):
        body["tenant_id"] = int(visit.form.one("tenant_id"))
    reply = await visit.api("POST", f"/roles/{role_id}/clone", None, body)
    if not reply.ok:
        return await tree_page(visit, reply)
    return visit.go(f"{ROLES}/{reply.body['id']}/permissions", {"done": "made"})
