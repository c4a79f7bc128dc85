# -*- test-case-name: tests.panel.test_administrators_screen -*-
"""Administrators: making one with roles, the roles of one, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer
from qvd.panel.acltree import BY, found_in, tree
from qvd.panel.calls import Reply
from qvd.panel.roles import MOST, numbers, tenants_of
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Refused, Visit, together

ADMINISTRATORS = "/panel/administrators"
STATES = (N_("effective"), N_("none"))
DONE = {"roles": N_("The roles are changed."), "made": N_("The administrator is there.")}


def administrators(panel: Panel) -> Sequence[Route]:
    """The pages."""
    return [
        Route("GET", f"{ADMINISTRATORS}/new", show_new),
        Route("POST", f"{ADMINISTRATORS}/new", make),
        Route("GET", f"{ADMINISTRATORS}/<id>/roles", show),
        Route("POST", f"{ADMINISTRATORS}/<id>/roles", change),
    ]


async def known_roles(visit: Visit) -> Sequence[Mapping[str, Any]]:
    """Those that are meant for people, and may be seen."""
    if not visit.may("GET", "/roles"):
        return ()
    reply = await visit.api("GET", "/roles", {"templates": "false", **MOST})
    return reply.body["items"] if reply.ok else ()


async def show_new(visit: Visit) -> Answer:
    return await new_page(visit, None)


async def new_page(visit: Visit, problem: Reply | None) -> Answer:
    tenants = await tenants_of(visit)
    return visit.page(
        "administrator_new.html",
        200 if problem is None else problem.status,
        known=await known_roles(visit) if "administrator.update.assign-role" in visit.acls else (),
        tenants=tenants.body["items"] if tenants.ok else [],
        chosen=visit.form.all("roles"),
        form=visit.form,
        problem=problem,
        done="",
    )


async def make(visit: Visit) -> Answer:
    form = visit.form
    body: dict[str, Any] = {name: form.one(name) for name in ("name", "password", "description")}
    if chosen := numbers(form.all("roles")):
        body["roles"] = chosen
    if form.one("tenant_id"):
        body["tenant_id"] = int(form.one("tenant_id"))
    reply = await visit.api("POST", "/administrators", None, body)
    if not reply.ok:
        return await new_page(visit, reply)
    return visit.go(f"{ADMINISTRATORS}/{reply.body['id']}/roles", {"done": "made"})


async def show(visit: Visit) -> Answer:
    return await roles_page(visit, None)


async def roles_page(visit: Visit, problem: Reply | None) -> Answer:
    """Roles to tick, and all that they give."""
    path = f"/administrators/{segment(visit.path['id'])}"
    read = await visit.api("GET", path)
    if not read.ok:
        raise Refused(read)
    found, by = read.body, visit.query.one("by")
    branches = []
    if visit.may("GET", "/administrators/{id}/acls") and visit.may("GET", "/acls"):
        catalogue, held = await together(visit.api("GET", "/acls"), visit.api("GET", f"{path}/acls"))
        if catalogue.ok and held.ok:
            language = visit.viewer.language
            whole = tree(catalogue.body["items"], held.body["items"], None, language, by if by in BY else BY[0])
            only = visit.query.one("only")
            branches = list(found_in(whole, visit.query.one("q"), "effective" if only == "effective" else only))
    return visit.page(
        "administrator_roles.html",
        200 if problem is None else problem.status,
        found=found,
        version=read.headers.get("ETag", ""),
        known=await known_roles(visit),
        chosen={each["id"] for each in found.get("roles", ())},
        editable=visit.may("PUT", "/administrators/{id}/roles"),
        branches=branches,
        narrowed=bool(visit.query.one("q") or visit.query.one("only")),
        q=visit.query.one("q"),
        only=visit.query.one("only"),
        by=by,
        states=STATES,
        problem=problem,
        done=DONE.get(visit.query.one("done"), ""),
    )


async def change(visit: Visit) -> Answer:
    """The whole set, for the version that the page showed."""
    administrator, form = segment(visit.path["id"]), visit.form
    body, version = {"roles": numbers(form.all("roles"))}, {"if-match": form.one("version")}
    reply = await visit.api("PUT", f"/administrators/{administrator}/roles", None, body, version)
    if not reply.ok:
        return await roles_page(visit, reply)
    return visit.go(f"{ADMINISTRATORS}/{administrator}/roles", {"done": "roles"})
