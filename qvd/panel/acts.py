# -*- test-case-name: tests.panel.test_details -*-
"""What can be done with one object: what its page offers, and the pages that ask before, or for more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from qvd.admin.call import Answer
from qvd.admin.endpoint import Endpoint
from qvd.panel.calls import Reply
from qvd.panel.forms import Form, form_of, read_form
from qvd.panel.kinds import ObjectKind
from qvd.panel.problems import advice
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Refused, Visit
from qvd.panel.words import action_label, kind_words

FORCE = "force-stop"
"""A stop that asks nobody."""
STATED: Mapping[str, frozenset[str]] = {
    "vms": frozenset({"start", "stop", "restart", "reset", "disconnect", "message", "block", "unblock"}),
    "hosts": frozenset({"block", "unblock", "drain", "undrain", "stop-vms", "declare-dead"}),
    "images": frozenset({"block", "unblock", "publish", "unpublish", "retire", "rollback"}),
    "jobs": frozenset({"cancel", "retry"}),
    "tenants": frozenset({"block", "unblock", "purge"}),
}
"""Operations that the API itself offers with an object, in the state that it is in. Others are there always."""
ELSEWHERE = frozenset({"change-acls", "roles", "expire_vms"})
"""Operations with pages of their own."""
DIRECT = frozenset(
    {
        "block",
        "no-expiration",
        "publish",
        "rollback",
        "set_default",
        "start",
        "unblock",
        "undrain",
        "unpublish",
        "retry",
    }
)
"""Nothing is lost, and nothing more has to be said: a click is enough."""
INTERRUPTS = frozenset({"stop", "restart", "disconnect"})
"""These take the desktop away from whoever is connected; without anybody, a click is enough."""
WARNINGS = {
    "cancel": N_("What is done stays done; what is not, is not done any more."),
    "close-sessions": N_("Whoever works with this account is logged out at once."),
    "declare-dead": N_(
        "Do this only if the machine is really off: its VMs are started elsewhere, and would run twice."
    ),
    "decommission": N_("The node is never used again under this name."),
    "delete": N_("It cannot be brought back."),
    "delete-mfa": N_("The account is protected by its password alone, until a new factor is set up."),
    "delete-tokens": N_("Programs that use them are refused from now on."),
    "disconnect": N_("The user is connected: the session is interrupted, and programs in it go on."),
    FORCE: N_("It is switched off without being asked: what is not saved in it is lost."),
    "purge": N_("All that is chosen below is deleted. It cannot be brought back."),
    "reset": N_("It is switched off without being asked: what is not saved in it is lost."),
    "restart": N_("The user is connected: the desktop closes, and what is not saved in it is lost."),
    "retire": N_("No VM starts from it any more."),
    "stop": N_("The user is connected: the desktop closes, and what is not saved in it is lost."),
    "stop-vms": N_("Whoever is connected to its VMs loses what is not saved."),
}

BESIDES = {"cascade": N_("What belongs to it is deleted with it"), "force": N_("Its values are deleted with it")}
"""Parameters that a page offers to tick."""


@frozen
class Act:
    """Something that a page offers.

    @ivar href: of a page that asks first; empty: it is done at once.
    """

    name: str
    label: str
    href: str
    harms: bool


def acts_of(visit: Visit, kind: ObjectKind, item: Mapping[str, Any]) -> Sequence[Act]:
    """What the caller may do with an object now."""
    stated: Sequence[str] = item.get("_actions", ())
    path = f"{kind.path}/{item['id']}"
    by_state = STATED.get(kind.collection, frozenset()) | {"update", "delete"}
    names = [name for name in stated if name == FORCE or name in kind.actions]
    if "blocked" in item and "block" not in by_state and "block" in kind.actions:
        names.append("unblock" if item["blocked"] else "block")
    idle = pointless(item)
    always = [name for name in kind.actions if name not in by_state | ELSEWHERE | {"block", "unblock"} | idle]
    names += [name for name in always if name not in names]
    found = []
    for name in names:
        endpoint = endpoint_of(kind, name)
        if endpoint is None or not endpoint.need.is_met(visit.principal):
            continue
        found.append(Act(name, action_label(name), "" if at_once(name, item) else page_path(path, name), harms(name)))
    return found


def pointless(item: Mapping[str, Any]) -> set[str]:
    """What would change nothing, so that a page does not offer it."""
    if "expiration_soft" not in item and "expiration_hard" not in item:
        return set()
    if item.get("expiration_soft") or item.get("expiration_hard"):
        return set()
    return {"no-expiration", "expiration"} if item.get("state") == "stopped" else {"no-expiration"}


def endpoint_of(kind: ObjectKind, name: str) -> Endpoint | None:
    return kind.actions.get("stop" if name == FORCE else name)


def page_path(path: str, name: str) -> str:
    match name:
        case "update":
            return f"{path}/edit"
        case _:
            return f"{path}/do/{name}"


def at_once(name: str, item: Mapping[str, Any]) -> bool:
    """Whether nothing has to be asked before."""
    if name in INTERRUPTS:
        return str(item.get("user_state", "disconnected")) == "disconnected"
    return name in DIRECT


def harms(name: str) -> bool:
    return name in WARNINGS and name not in ("cancel", *INTERRUPTS)


def act_screens(kinds: Mapping[str, ObjectKind]) -> Callable[[Panel], Sequence[Route]]:
    """The pages of all kinds."""

    def screens(panel: Panel) -> Sequence[Route]:
        found = []
        for kind in kinds.values():
            path = f"{kind.path}/<id>/do/<action>"
            found += [Route("GET", path, Acting(kind).ask), Route("POST", path, Acting(kind).act)]
        return found

    return screens


@frozen
class Acting:
    """Doing something with one object."""

    kind: ObjectKind

    async def ask(self, visit: Visit) -> Answer:
        """What it would mean; and what more has to be said."""
        name, item, _ = await self._begin(visit)
        endpoint = self._endpoint(name)
        form = await form_of(visit, self.kind, endpoint) if name != FORCE else Form([])
        return await self._page(visit, name, item, form)

    async def act(self, visit: Visit) -> Answer:
        """Do it."""
        name, item, tag = await self._begin(visit)
        endpoint = self._endpoint(name)
        form = await form_of(visit, self.kind, endpoint) if name != FORCE else Form([])
        body, faults = await read_form(visit, form)
        if faults:
            return await self._page(visit, name, item, form.typed(visit.form, faults))
        if name == FORCE:
            body = {"force": True}
        path = endpoint.path.replace("{id}", str(item["id"]))
        headers = {"if-match": tag} if endpoint.if_match else {}
        query = {one: value for one, value, _ in besides(endpoint) if visit.form.one(one) == value}
        reply = await visit.api(endpoint.method, path, query, body if endpoint.body is not None else None, headers)
        if not reply.ok:
            return await self._page(visit, name, item, form.typed(visit.form, reply.faults), reply)
        return self._after(visit, name, item, reply)

    async def _begin(self, visit: Visit) -> tuple[str, Mapping[str, Any], str]:
        """What is wanted, and with what."""
        name = visit.path["action"]
        if endpoint_of(self.kind, name) is None:
            raise Refused(Reply(404, {"type": "/problems/not-found", "title": N_("There is no such operation")}))
        reply = await visit.api("GET", f"/{self.kind.collection}/{number_in(visit)}")
        if not reply.ok:
            raise Refused(reply)
        return name, reply.body, reply.headers.get("ETag", "*")

    def _endpoint(self, name: str) -> Endpoint:
        found = endpoint_of(self.kind, name)
        assert found is not None
        return found

    async def _page(
        self, visit: Visit, name: str, item: Mapping[str, Any], form: Form, problem: Reply | None = None
    ) -> Answer:
        dependents = await self._dependents(visit, item) if name in ("delete", "purge") else []
        tried = await self._tried(visit, item) if name == "delete" and problem is None else None
        shown = problem or tried
        offered = besides(self._endpoint(name))
        confirms = form.get("confirm") is not None
        return visit.page(
            "act.html",
            200 if problem is None else problem.status,
            kind=self.kind,
            words=kind_words(self.kind),
            item=item,
            name=str(item.get(self.kind.known_by) or item["id"]),
            act=name,
            action=action_label(name),
            warning=WARNINGS.get(name, ""),
            form=form,
            confirms=confirms,
            problem=shown,
            besides=offered,
            impossible=tried is not None and not (tried.kind == "has-dependents" and offered),
            advice=advice(shown.kind) if shown is not None else "",
            dependents=dependents,
            harms=harms(name),
        )

    async def _dependents(self, visit: Visit, item: Mapping[str, Any]) -> Sequence[tuple[str, int, str]]:
        """How much there is that belongs to it: its kind, its number, and where it is shown."""
        found = []
        for collection, endpoint in self.kind.related.items():
            if collection == "log" or not endpoint.need.is_met(visit.principal):
                continue
            reply = await visit.api("GET", endpoint.path.replace("{id}", str(item["id"])), {"limit": "1"})
            total = reply.body["page"].get("total") if reply.ok else None
            if total:
                found.append((collection, int(total), f"/panel/{collection}?{self.kind.name}_id={item['id']}"))
        return found

    async def _tried(self, visit: Visit, item: Mapping[str, Any]) -> Reply | None:
        """Why it cannot be deleted; L{None}: it can, or the API does not try it out."""
        if "delete" not in self.kind.bulk_names:
            return None
        body = {"op": "delete", "ids": [item["id"]], "dry_run": True}
        # A look changes nothing, so no form has to have asked for it.
        headers = {"x-csrf-token": str(visit.session["csrf_token"] or "")}
        reply = await visit.api("POST", f"/{self.kind.collection}/bulk", None, body, headers)
        [result] = reply.body["results"] if reply.ok else [{"status": 200}]
        return Reply(result["status"], result["problem"]) if result["status"] >= 400 else None

    def _after(self, visit: Visit, name: str, item: Mapping[str, Any], reply: Reply) -> Answer:
        """Where to go on."""
        if name == "delete":
            return visit.go(self.kind.path, {"done": name})
        made = reply.headers.get("Location", "").removeprefix("/api/v1")
        if made:
            return visit.go(f"/panel{made}", {"done": name})
        if reply.status == 202 and isinstance(reply.body, dict) and "id" in reply.body and "kind" in reply.body:
            return visit.go(f"/panel/jobs/{reply.body['id']}", {"done": name})
        return visit.go(f"{self.kind.path}/{item['id']}", {"done": name})


def besides(endpoint: Endpoint) -> Sequence[tuple[str, str, str]]:
    """What an operation does besides where its query string says so: name, value, and words."""
    found = []
    for each in endpoint.parameters:
        values = [value for value in each.schema.get("enum", ()) if value != "false"]
        if each.name in BESIDES and len(values) == 1:
            found.append((each.name, str(values[0]), BESIDES[each.name]))
    return found


def number_in(visit: Visit) -> str:
    """The number of the path, as it may stand in a path of the API."""
    number = visit.path["id"]
    if not (number.isascii() and number.isdigit()):
        raise Refused(Reply(404, {"type": "/problems/not-found", "title": N_("There is no such object")}))
    return number
