# -*- test-case-name: tests.panel.test_bulk -*-
"""The same done to many objects: first what it would do, as the API tries it out, then the deed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.filters import Condition, chip, conditions_of, tree_of
from qvd.panel.forms import Form, form_of, read_form
from qvd.panel.kinds import ObjectKind
from qvd.panel.lists import page_for
from qvd.panel.problems import advice
from qvd.panel.site import Panel, Route
from qvd.panel.visit import Fields, Visit
from qvd.panel.words import action_label, kind_words

WHERE = "where:"
TRIED = 100
"""Objects of a selection that are tried out: each takes a transaction."""
SURE = "sure"


@frozen
class Selection:
    """@ivar ids: those that were picked; L{None}: all that match."""

    ids: Sequence[int] | None
    conditions: Sequence[Condition]

    @property
    def body(self) -> Mapping[str, Any]:
        """Which are meant, for the API."""
        return {"filter": tree_of(self.conditions)} if self.ids is None else {"ids": list(self.ids)}

    @property
    def hidden(self) -> Sequence[tuple[str, str]]:
        """The same, for the next form."""
        where = [(f"{WHERE}{each.key}", each.value) for each in self.conditions]
        return [*where, ("all", "1")] if self.ids is None else [("ids", str(each)) for each in self.ids]


def selection_of(form: Fields) -> Selection:
    """What somebody selected in a list."""
    where = Fields(tuple((name[len(WHERE) :], value) for name, value in form.pairs if name.startswith(WHERE)))
    ids = [int(each) for each in form.all("ids") if each.isascii() and each.isdigit() and len(each) < 11]
    return Selection(None if form.one("all") else ids, conditions_of(where))


def bulk_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """The page of each kind that has operations over many."""

    def screens(panel: Panel) -> Sequence[Route]:
        return [
            Route("POST", f"{kind.path}/bulk", page_for(kind, do_many)) for kind in kinds.values() if kind.bulk_names
        ]

    return screens


async def do_many(visit: Visit, kind: ObjectKind) -> Answer:
    """Show what it would do; or do it, once somebody has seen that."""
    op, selection = visit.form.one("op"), selection_of(visit.form)
    if op not in kind.bulk_names or op not in kind.actions:
        return visit.go(kind.path)
    if selection.ids is not None and not selection.ids:
        return await preview(visit, kind, op, selection, nothing=True)
    changes = kind.actions[op] is kind.change
    form = await form_of(visit, kind, kind.actions[op], many=changes)
    if not visit.form.one(SURE):
        says_enough = not changes and not any(each.required for each in form.inputs)
        return await preview(visit, kind, op, selection, form, {} if says_enough else None)
    arguments, faults = await read_form(visit, form)
    if faults:
        return await preview(visit, kind, op, selection, form, faults=faults)
    body = {"op": op, "arguments": arguments, **selection.body}
    if visit.form.one(SURE) == "look":
        return await preview(visit, kind, op, selection, form, arguments)
    reply = await visit.api("POST", f"/{kind.collection}/bulk", None, body)
    if not reply.ok:
        return await preview(visit, kind, op, selection, form, arguments, problem=reply)
    if reply.status == 202:
        return visit.go(f"/panel/jobs/{reply.body['id']}")
    return await outcome_page(visit, kind, op, reply)


async def preview(
    visit: Visit,
    kind: ObjectKind,
    op: str,
    selection: Selection,
    form: Form | None = None,
    arguments: Mapping[str, Any] | None = None,
    problem: Reply | None = None,
    faults: Mapping[str, str] | None = None,
    nothing: bool = False,
) -> Answer:
    """What is affected, and what would become of it."""
    total, sample = (0, Selection([], ())) if nothing else await sampled(visit, kind, selection)
    asks = form is not None and bool(form.inputs)
    tried: Reply | None = None
    if sample.ids and (not asks or arguments is not None) and problem is None:
        body = {"op": op, "arguments": arguments or {}, "dry_run": True, **sample.body}
        tried = await visit.api("POST", f"/{kind.collection}/bulk", None, body)
        problem = None if tried.ok else tried
    values = form.typed(visit.form, faults or (problem.faults if problem else {})) if form is not None else None
    return visit.page(
        "bulk.html",
        200 if problem is None else problem.status,
        kind=kind,
        many=kind_words(kind)[0],
        op=op,
        action=action_label(op),
        selection=selection,
        chips=[chip(visit.viewer, kind, each) for each in selection.conditions] if selection.ids is None else [],
        total=total,
        sampled=len(sample.ids or ()),
        form=values,
        asks=asks and arguments is None,
        problem=problem,
        advice=advice(problem.kind) if problem else "",
        result=await told(visit, kind, tried) if tried is not None and tried.ok else None,
        loses=op in ("delete", "stop", "disconnect", "drain"),
    )


async def sampled(visit: Visit, kind: ObjectKind, selection: Selection) -> tuple[int, Selection]:
    """How many are meant, and the first of them."""
    if selection.ids is not None:
        return len(selection.ids), Selection(selection.ids[:TRIED], ())
    query: dict[str, list[str]] = {"fields": ["id"], "limit": [str(TRIED)]}
    for each in selection.conditions:
        query.setdefault(each.key, []).append(each.value)
    found = await visit.get(f"/{kind.collection}", query)
    return int(found["page"]["total"] or 0), Selection([each["id"] for each in found["items"]], ())


async def outcome_page(visit: Visit, kind: ObjectKind, op: str, reply: Reply) -> Answer:
    """What became of them."""
    return visit.page(
        "outcome.html",
        kind=kind,
        many=kind_words(kind)[0],
        action=action_label(op),
        result=await told(visit, kind, reply),
    )


async def told(visit: Visit, kind: ObjectKind, reply: Reply) -> Mapping[str, Any]:
    """What became of many, by what was wrong with them; each with its name."""
    results = reply.body["results"]
    names = await names_of(visit, kind, [each["id"] for each in results])
    reasons: dict[str, list[tuple[int, str]]] = {}
    for each in results:
        if each["status"] >= 400:
            problem = each.get("problem") or {}
            reason = str(problem.get("detail") or problem.get("title") or each["status"])
            reasons.setdefault(reason, []).append((each["id"], names.get(each["id"], str(each["id"]))))
    good = [(each["id"], names.get(each["id"], str(each["id"]))) for each in results if each["status"] < 400]
    counted = Counter({reason: len(those) for reason, those in reasons.items()})
    return {
        "succeeded": reply.body["succeeded"],
        "failed": reply.body["failed"],
        "good": good,
        "reasons": [(reason, reasons[reason]) for reason, _ in counted.most_common()],
    }


async def names_of(visit: Visit, kind: ObjectKind, ids: Sequence[int]) -> Mapping[int, str]:
    """What people call them."""
    found: dict[int, str] = {}
    for begin in range(0, len(ids), TRIED):
        some = ",".join(str(each) for each in ids[begin : begin + TRIED])
        query = {"id[in]": some, "fields": kind.known_by, "limit": str(TRIED), "count": "false"}
        reply = await visit.api("GET", f"/{kind.collection}", query)
        if reply.ok:
            found |= {each["id"]: str(each.get(kind.known_by) or each["id"]) for each in reply.body["items"]}
    return found
