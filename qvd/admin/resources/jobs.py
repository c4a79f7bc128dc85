# -*- test-case-name: tests.admin.test_jobs -*-
"""Jobs, for whoever asked for them, and for who may look after those of others in the tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import LOGGED_IN, Endpoint
from qvd.admin.problems import Problem, not_found
from qvd.admin.resources.common import id_field, tenant_fields, tenant_join
from qvd.interfaces import ITransaction
from qvd.model.declared import Creates, Field, Kind, Principal, Resource, Values
from qvd.model.filters import All, Comparison, Filter, Operator

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "partial")
RATE = "nullif(j.done, 0) / nullif(extract(epoch FROM coalesce(j.ended_at, clock_timestamp()) - j.started_at), 0)"
PROGRESS = f"""jsonb_build_object('done', j.done, 'total', j.total, 'unit', j.unit,
    'rate', round({RATE}, 2), 'eta', CASE WHEN j.state = 'running' THEN ceil((j.total - j.done) / ({RATE})) END)"""


def told(name: str, kind: Kind, text: str, sql: str = "", **more: Any) -> Field:
    """A field that nobody sets."""
    return Field(name=name, kind=kind, text=text, sql=sql or f"j.{name}", **more)


def document(name: str, kind: Kind, text: str, sql: str = "", nullable: bool = False) -> Field:
    return told(name, kind, text, sql, nullable=nullable, filters=False, sorts=False)


def tenant_of_job() -> tuple[Field, ...]:
    return tuple(evolve(each, creates=Creates.NEVER, refers="") for each in tenant_fields("j"))


JOBS = Resource(
    name="job",
    collection="jobs",
    title="Jobs",
    table="jobs",
    alias="j",
    source="jobs j",
    keys={"jobs": "id"},
    joins=tenant_join("j"),
    tenant="j.tenant_id",
    columns=("kind", "state", "object_kind", "object_name", "administrator_name", "created_at", "ended_at"),
    read=(),
    fields=(
        id_field("j"),
        told("kind", Kind.TEXT, "What it does"),
        told("state", Kind.TEXT, "How it is with it", choices=STATES),
        document("progress", Kind.OBJECT, "How far it is: done of total; rate, in a second; eta, in seconds", PROGRESS),
        told("administrator_id", Kind.INTEGER, "Whose it is; null: the account is gone", nullable=True),
        told("administrator_name", Kind.TEXT, "That one's name"),
        told("object_kind", Kind.TEXT, "Kind of what it is about"),
        told("object_id", Kind.INTEGER, "What it is about, where that is one thing", nullable=True),
        told("object_name", Kind.TEXT, "That one's name"),
        document("arguments", Kind.OBJECT, "What it was asked for with"),
        document("result", Kind.OBJECT, "What came of it", nullable=True),
        document("problem", Kind.OBJECT, "Why it failed", nullable=True),
        document("log", Kind.LIST, "What it has said, the last 200 lines; times are UTC", "to_jsonb(j.log)"),
        told("cancel_wanted", Kind.BOOLEAN, "Whether it is to end soon"),
        told("holder", Kind.TEXT, "Who runs it", superadmin=True),
        told("attempts", Kind.INTEGER, "How often somebody has begun it or gone on with it"),
        told("request_id", Kind.TEXT, "Of the call that asked for it"),
        told("created_at", Kind.TIME, "When it was asked for"),
        told("started_at", Kind.TIME, "When it was begun", nullable=True),
        told("ended_at", Kind.TIME, "When it ended", nullable=True),
        *tenant_of_job(),
    ),
)
OWNER = next(field for field in JOBS.fields if field.name == "administrator_id")
SEE, CANCEL = "job.see-main.", "job.cancel."


class Jobs(Collection):
    """Jobs."""

    resource = JOBS

    def only(self, principal: Principal) -> Filter | None:
        return None if principal.holds(SEE) else Comparison(OWNER, Operator.EQ, principal.administrator_id)

    async def page_of(self, call: Call, wanted: Any) -> Answer:
        mine = self.only(call.principal)
        if mine is not None:
            where = mine if wanted.query.where is None else All((mine, wanted.query.where))
            wanted = evolve(wanted, query=evolve(wanted.query, where=where))
        return await super().page_of(call, wanted)

    async def find(
        self,
        call: Call,
        object_id: int,
        fields: Sequence[Field] = (),
        tx: ITransaction | None = None,
        lock: bool = False,
    ) -> Values:
        row = await super().find(call, object_id, (*fields, OWNER), tx, lock)
        if not is_own(call.principal, row) and not call.principal.holds(SEE):
            raise not_found(self.resource.name)
        return row

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        if not is_own(principal, row) and not principal.holds(CANCEL):
            return []
        match row["state"]:
            case "queued" | "running":
                return ["cancel"]
            case "failed" | "cancelled" | "partial":
                return ["retry"]
            case _:
                return []

    def more_endpoints(self) -> Sequence[Endpoint]:
        common: dict[str, Any] = {"need": LOGGED_IN, "answers": {200: self.item}, "tag": "jobs"}
        return [
            Endpoint(
                method="DELETE",
                path="/jobs/{id}",
                action="job.cancel",
                handler=self.cancel,
                summary="Jobs: end one soon, as far as it is",
                **common,
            ),
            Endpoint(
                method="POST",
                path="/jobs/{id}/retry",
                action="job.retry",
                handler=self.retry,
                summary="Jobs: go on with one that has failed, in whole or in part, or was cancelled",
                **common,
            ),
        ]

    async def cancel(self, call: Call) -> Answer:
        return await self._order(call, call.services.jobs.cancel, "It has ended already")

    async def retry(self, call: Call) -> Answer:
        return await self._order(call, call.services.jobs.retry, "It is not over, or has succeeded")

    async def _order(self, call: Call, order: Any, unless: str) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            if not is_own(call.principal, current) and not call.principal.holds(CANCEL):
                raise Problem("forbidden", f"It is somebody else's: you need the permission {CANCEL}", acl=CANCEL)
            if not await order(current["id"], tx):
                raise Problem("conflict", f"{unless}: its state is {current['state']}")
            call.subject = self.subject(current, await self.whole(call, current["id"], tx))
            return Answer(200, await self.shown(call, current["id"], tx))

        return await self.changing(call, work)


def is_own(principal: Principal, row: Values) -> bool:
    return bool(row["administrator_id"] == principal.administrator_id)
