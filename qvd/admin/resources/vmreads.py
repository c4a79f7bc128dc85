# -*- test-case-name: tests.admin.test_vm_reads -*-
"""What is told of one VM: how it runs, why it is where it is, what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.problems import Problem, not_found
from qvd.admin.queries import DEFAULT_LIMIT, MOST, sees, whole
from qvd.admin.resources.vmfields import RUNTIME
from qvd.admin.schema import PageInfo
from qvd.interfaces.orders import Happened, IOrders
from qvd.model.declared import Principal
from qvd.model.explanation import explain
from qvd.model.ids import VMId

RUNNING_FIELDS = (
    "state",
    "user_state",
    "host_id",
    "host_name",
    "di_version_in_use",
    "ip_in_use",
    "expiration_soft",
    "expiration_hard",
    *(field.name for field in RUNTIME),
)
HOST_KEYS = ("host_id", "host_epoch")
PAGE = (
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, "Events of a page"),
    Parameter("cursor", {"type": "string", "pattern": "^[0-9]{1,18}$"}, "Where to go on, as the answer before said"),
)


class VmNodeVerdict(msgspec.Struct, forbid_unknown_fields=True):
    """What the last placement found of a node. C{rejection} is what follows the node's name."""

    name: str
    taken: bool
    rejection: str | None
    score: float | None


class VmExplanation(msgspec.Struct, forbid_unknown_fields=True):
    """Why a VM is where it is: in lines for people, and what the last placement found."""

    lines: list[str]
    last_error: str | None
    problem: str | None
    nodes: list[VmNodeVerdict]


class VmEvent(msgspec.Struct, forbid_unknown_fields=True):
    """Something that happened to a VM."""

    id: int
    at: datetime
    kind: str
    host_id: int | None
    session_id: str | None
    user_id: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    cause: str | None


class VmEventPage(msgspec.Struct, forbid_unknown_fields=True):
    """The newest first."""

    items: list[VmEvent]
    page: PageInfo


def reads(vms: Collection) -> Sequence[Endpoint]:
    """The operations.

    @param vms: their collection.
    """

    async def runtime(call: Call) -> Answer:
        fields = [field for name in RUNNING_FIELDS if (field := vms.resource.get(name)) is not None]
        shown = [field for field in fields if sees(call.principal, field)]
        row = await vms.find(call, call.number(), shown)
        return Answer(200, {"id": row["id"]} | {field.name: row[field.name] for field in shown})

    async def explanation(call: Call) -> Answer:
        if not call.principal.holds("vm.see.host"):
            raise Problem("forbidden", "You need the permission vm.see.host as well", acl="vm.see.host")
        await vms.find(call, call.number())
        orders: IOrders = call.services.orders
        known = await orders.explain(VMId(call.number()))
        if known is None:
            raise not_found("vm")
        lines = explain(known, figures=call.principal.holds("host.see.capacity"))
        placement = known.placement or {"problem": None, "nodes": []}
        nodes = [verdict_of(each, placement.get("taken")) for each in placement["nodes"]]
        return Answer(200, VmExplanation(lines, known.vm.last_error, placement.get("problem"), nodes))

    async def events(call: Call) -> Answer:
        await vms.find(call, call.number())
        limit = whole(call, "limit") or min(call.principal.page_size or DEFAULT_LIMIT, MOST)
        if limit > MOST:
            raise Problem("malformed-request", f"limit is a number from 1 to {MOST}")
        orders: IOrders = call.services.orders
        found = await orders.history(VMId(call.number()), cursor_of(call), limit + 1)
        rows = found[:limit]
        following = str(rows[-1].id) if len(found) > limit else None
        items = [event_item(call.principal, row) for row in rows]
        return Answer(200, VmEventPage(items, PageInfo(limit, following, None, None, False)))

    return [
        Endpoint(
            method="GET",
            path="/vms/{id}/runtime",
            action="vm.runtime",
            need=acl("vm.see.runtime"),
            handler=runtime,
            summary="VMs: how one runs, or why it does not",
            answers={200: vms.item},
            tag="vms",
        ),
        Endpoint(
            method="GET",
            path="/vms/{id}/explain",
            action="vm.explain",
            need=acl("vm.see.runtime"),
            handler=explanation,
            summary="VMs: why one is in its state, and on its node or on none",
            answers={200: VmExplanation},
            tag="vms",
        ),
        Endpoint(
            method="GET",
            path="/vms/{id}/events",
            action="vm.events",
            need=acl("vm.see.log"),
            handler=events,
            summary="VMs: what happened to one, the newest first",
            answers={200: VmEventPage},
            parameters=PAGE,
            tag="vms",
        ),
    ]


def cursor_of(call: Call) -> int | None:
    """Number of an event, which may be larger than that of any object."""
    text = call.one("cursor")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Problem("malformed-request", "The cursor is not one of this list: begin again without it")
    return int(text) if text else None


def verdict_of(document: Any, taken: str | None) -> VmNodeVerdict:
    rejection = document["rejection"]
    return VmNodeVerdict(
        document["name"], document["name"] == taken, rejection, None if rejection else float(document["score"])
    )


def event_item(principal: Principal, row: Happened) -> VmEvent:
    """As this caller may see it."""
    sees_hosts = principal.holds("vm.see.host")

    def told(columns: dict[str, Any] | None) -> dict[str, Any] | None:
        if columns is None or sees_hosts:
            return columns
        return {name: value for name, value in columns.items() if name not in HOST_KEYS}

    return VmEvent(
        id=row.id,
        at=row.at,
        kind=row.kind,
        host_id=row.host_id if sees_hosts else None,
        session_id=row.session_id,
        user_id=row.user_id if principal.holds("vm.see.user") else None,
        before=told(row.before),
        after=told(row.after),
        cause=row.cause,
    )
