# -*- test-case-name: tests.panel.test_forms -*-
"""Pages that make an object, or change one: forms of what the API declares that these take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from qvd.admin.call import Answer
from qvd.panel.acts import number_in
from qvd.panel.calls import Reply
from qvd.panel.forms import PROPERTY, WAS, Form, form_of, read_form
from qvd.panel.kinds import ObjectKind
from qvd.panel.problems import advice
from qvd.panel.propertyvalues import own_of, values_of
from qvd.panel.site import Panel, Route
from qvd.panel.visit import Fields, Refused, Visit
from qvd.panel.words import kind_words

TAG = "_version"


def change_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """The pages of all kinds."""

    def screens(panel: Panel) -> Sequence[Route]:
        found = []
        for kind in kinds.values():
            pages = Changing(kind)
            if kind.creation is not None:
                path = f"{kind.path}/new"
                found += [Route("GET", path, pages.show_new), Route("POST", path, pages.make)]
            if kind.change is not None:
                path = f"{kind.path}/<id>/edit"
                found += [Route("GET", path, pages.show_change), Route("POST", path, pages.change)]
        return found

    return screens


@frozen
class Changing:
    """Making and changing one kind of objects."""

    kind: ObjectKind

    async def show_new(self, visit: Visit) -> Answer:
        return self._page(visit, await self._new_form(visit))

    async def _new_form(self, visit: Visit) -> Form:
        assert self.kind.creation is not None
        given = {
            name: f"#{value}" if name.endswith("_id") and value.isdigit() else value
            for name, value in visit.query.pairs
        }
        return await form_of(visit, self.kind, self.kind.creation, given=given)

    async def make(self, visit: Visit) -> Answer:
        """Make it, and show it."""
        form = await self._new_form(visit)
        body, faults = await read_form(visit, form)
        if faults:
            return self._page(visit, form.typed(visit.form, faults), status=422)
        reply = await visit.api("POST", f"/{self.kind.collection}", None, body)
        if not reply.ok:
            return self._page(visit, form.typed(visit.form, reply.faults), reply)
        return visit.go(f"{self.kind.path}/{reply.body['id']}", {"done": "made"})

    async def show_change(self, visit: Visit) -> Answer:
        item, tag = await self._current(visit)
        return self._page(visit, await self._change_form(visit, item), item=item, tag=tag)

    async def _change_form(self, visit: Visit, item: Mapping[str, Any]) -> Form:
        assert self.kind.change is not None
        return await form_of(visit, self.kind, self.kind.change, current=item)

    async def change(self, visit: Visit) -> Answer:
        """Write what differs; if somebody else was faster, show both."""
        item, tag = await self._current(visit)
        form = await self._change_form(visit, item)
        body, faults = await read_form(visit, form)
        meant = visit.form.one(TAG, tag)
        if meant != tag:
            return self._page(visit, merged(form, visit.form), item=item, tag=tag, conflict=True, status=412)
        if faults:
            return self._page(visit, form.typed(visit.form, faults), item=item, tag=tag, status=422)
        body = differing(body, item)
        if not body:
            return visit.go(f"{self.kind.path}/{item['id']}")
        path = f"/{self.kind.collection}/{item['id']}"
        reply = await visit.api("PATCH", path, None, body, {"if-match": meant})
        if reply.kind == "precondition-failed":
            item, tag = await self._current(visit)
            form = merged(await self._change_form(visit, item), visit.form)
            return self._page(visit, form, item=item, tag=tag, conflict=True, status=412)
        if not reply.ok:
            return self._page(visit, form.typed(visit.form, reply.faults), reply, item=item, tag=tag)
        return visit.go(f"{self.kind.path}/{item['id']}", {"done": "changed"})

    async def _current(self, visit: Visit) -> tuple[Mapping[str, Any], str]:
        """The object, and its version."""
        reply = await visit.api("GET", f"/{self.kind.collection}/{number_in(visit)}")
        if not reply.ok:
            raise Refused(reply)
        values = await values_of(visit, self.kind, number_in(visit))
        return {**reply.body, "properties": own_of(self.kind, values)}, reply.headers.get("ETag", "*")

    def _page(
        self,
        visit: Visit,
        form: Form,
        problem: Reply | None = None,
        item: Mapping[str, Any] | None = None,
        tag: str = "",
        conflict: bool = False,
        status: int = 200,
    ) -> Answer:
        return visit.page(
            "form.html",
            status if problem is None else problem.status,
            kind=self.kind,
            words=kind_words(self.kind),
            item=item,
            name="" if item is None else str(item.get(self.kind.known_by) or item["id"]),
            tag=tag,
            form=form,
            problem=problem,
            elsewhere=faults_elsewhere(form, problem),
            conflict=conflict,
            advice=advice(problem.kind) if problem is not None else "",
            was=WAS,
        )


def faults_elsewhere(form: Form, problem: Reply | None) -> Sequence[str]:
    """What is wrong with members that the form has no inputs for."""
    if problem is None:
        return []
    names = {each.name for each in form.inputs} | {each.name.replace(".", "/") for each in form.inputs}
    return [f"{name}: {said}" for name, said in problem.faults.items() if name not in names]


def differing(body: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Members that are not as the object is already."""
    found = {name: value for name, value in body.items() if name == "password" or value != item.get(name)}
    if PROPERTY.rstrip(".") in body:
        known: Mapping[str, Any] = item.get("properties") or {}
        changed = {key: value for key, value in body["properties"].items() if value != known.get(key)}
        found.pop("properties", None)
        if changed:
            found["properties"] = changed
    return found


def merged(form: Form, typed: Fields) -> Form:
    """After somebody else's change: what was typed stays, what was not touched is as it is by now.

    @param form: of the object as it is now.
    """
    found = []
    for each in form.inputs:
        was = typed.one(f"{WAS}{each.name}")
        if each.type == "ticks":
            found.append(each)
            continue
        given = typed.one(each.name)
        touched = f"{each.name}:given" in typed and given.replace("\r\n", "\n") != was.replace("\r\n", "\n")
        if touched and given != each.value:
            found.append(evolve(each, value=given, now=(each.value or "—") if each.value != was else ""))
        else:
            found.append(each)
    return evolve(form, inputs=found)
