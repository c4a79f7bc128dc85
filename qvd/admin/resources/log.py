# -*- test-case-name: tests.admin.test_log -*-
"""
The audit trail, to read. Administrators of a tenant see what was done to its objects and by its administrators; of
those over all tenants they see what these did, not who they are or where they sat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Need, Parameter, acl
from qvd.admin.problems import Problem
from qvd.admin.queries import LIST_PARAMETERS, Wanted, list_query, search_query, sees, shown_fields
from qvd.admin.resources.common import id_field
from qvd.admin.resources.nested import INSTALLATION
from qvd.model.declared import Field, Kind, Principal, Resource, Values
from qvd.model.filters import All, Comparison, Filter, Operator

FOREIGN = "(a.entry ->> 'administrator_tenant_id')::integer = 0"
NAMELESS = f"'{INSTALLATION}'"
WHO, DETAILS = ("log.see.administrator",), ("log.see-details.",)
LARGE = ("arguments", "before", "after")
"""Fields that lists leave out where nobody asked for them."""
FACETS = ("action", "outcome", "kind", "administrator_name")
WINDOW = timedelta(days=90)
MOST_VALUES, MOST_BUCKETS = 50, 1000
BUCKETS = ("hour", "day", "week", "month")


def log_resource(whole: bool) -> Resource:
    """The trail as it is for who sees all of it; or for one of several tenants."""

    def told(path: str, kind: str = "", instead: str = "NULL") -> str:
        sql = f"(a.entry ->> '{path}')::{kind}" if kind else f"a.entry ->> '{path}'"
        return sql if whole else f"CASE WHEN {FOREIGN} THEN {instead} ELSE {sql} END"

    def text(name: str, sql: str, meaning: str, see: tuple[str, ...] = (), nullable: bool = False) -> Field:
        return Field(name=name, kind=Kind.TEXT, text=meaning, sql=sql, see=see, nullable=nullable)

    def document(name: str, meaning: str, see: tuple[str, ...], sql: str = "") -> Field:
        sql = sql or f"a.entry -> '{name}'"
        return Field(
            name=name, kind=Kind.OBJECT, text=meaning, sql=sql, see=see, nullable=True, filters=False, sorts=False
        )

    arguments = "a.entry -> 'arguments'"
    return Resource(
        name="log",
        collection="log",
        title="Log",
        table="audit",
        alias="a",
        source="audit a",
        keys={"audit": "id"},
        joins={"tenant": "LEFT JOIN tenants t ON t.id = a.tenant_id"},
        tenant="" if whole else "a.tenant_id",
        read=("log.see-main.",),
        known_by="action",
        columns=("at", "action", "outcome", "problem", "kind", "object_name", "administrator_name", "client_address"),
        fields=(
            id_field("a"),
            Field(name="at", kind=Kind.TIME, text="When", sql="a.at"),
            text("action", "a.action", "What was done, or was to be"),
            Field(
                name="outcome",
                kind=Kind.TEXT,
                text="Whether it was done, denied, or tried and failed",
                sql="a.outcome",
                choices=("done", "denied", "failed"),
            ),
            Field(
                name="status",
                kind=Kind.INTEGER,
                text="HTTP status of the answer",
                sql="(a.entry ->> 'status')::integer",
                nullable=True,
            ),
            text("problem", "coalesce(a.entry ->> 'problem', '')", "Name of the problem, where it was not done"),
            text("kind", "a.kind", "Kind of the object", nullable=True),
            Field(
                name="object_id",
                kind=Kind.INTEGER,
                text="Number of the object",
                sql="a.object_id",
                nullable=True,
            ),
            text("object_name", "coalesce(a.entry ->> 'object_name', '')", "Name that the object had"),
            Field(
                name="administrator_id",
                kind=Kind.INTEGER,
                text="Number of who did it",
                sql=told("administrator_id", "integer"),
                see=WHO,
                nullable=True,
            ),
            text(
                "administrator_name",
                f"coalesce({told('administrator_name', instead=NAMELESS)}, '')",
                "Who did it",
                WHO,
            ),
            text("client_address", told("client_address"), "Where from", ("log.see.address",), nullable=True),
            text("request_id", told("request_id"), "As in the answer and in the service's own log", DETAILS, True),
            document(
                "arguments",
                "What was sent, without secrets",
                ("log.see.call-arguments",),
                arguments if whole else f"CASE WHEN NOT coalesce({FOREIGN}, false) THEN {arguments} END",
            ),
            document("before", "The object as it was", DETAILS),
            document("after", "The object as it became", DETAILS),
            Field(
                name="tenant_id",
                kind=Kind.INTEGER,
                text="Tenant whose administrators see it",
                sql="a.tenant_id",
                superadmin=True,
                nullable=True,
            ),
            Field(
                name="tenant_name",
                kind=Kind.TEXT,
                text="Name of that tenant",
                sql="t.name",
                joins=("tenant",),
                superadmin=True,
                nullable=True,
            ),
        ),
    )


class Count(msgspec.Struct, forbid_unknown_fields=True):
    """How many rows have a value."""

    value: Any
    count: int


class Facets(msgspec.Struct, forbid_unknown_fields=True):
    """By field, values and how many rows have them."""

    facets: dict[str, list[Count]]


class Histogram(msgspec.Struct, forbid_unknown_fields=True):
    """How many rows there are of each stretch of time, in order. Those without any are left out."""

    bucket: str
    items: list[Count]


class Trail(Collection):
    """Rows, each without what its reader may not see of the object itself."""

    def brief(self, principal: Principal) -> Sequence[str]:
        return [field.name for field in shown_fields(self.resource, principal, ()) if field.name not in LARGE]

    def completed(self, wanted: Wanted) -> Wanted:
        """With the kind of the object, by which it is known who may see what of it."""
        kind = self.resource.get("kind")
        assert kind is not None
        return evolve(wanted, fields=tuple({field.name: field for field in (*wanted.fields, kind)}.values()))

    def document(self, principal: Principal, row: Values, wanted: Wanted) -> dict[str, Any]:
        document, kind = super().document(principal, row, wanted), str(row["kind"])
        for name in ("before", "after"):
            if isinstance(document.get(name), Mapping):
                document[name] = self.seen_of(principal, kind, document[name])
        arguments = document.get("arguments")
        if isinstance(arguments, Mapping) and isinstance(arguments.get("body"), Mapping):
            document["arguments"] = {**arguments, "body": self.seen_of(principal, kind, arguments["body"])}
        return document

    def seen_of(self, principal: Principal, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What somebody may see of an object of a kind."""
        if kind == "config" and not principal.holds("config.qvd."):
            return {}
        peer = next((each for each in self.peers.values() if each.resource.name == kind), None)
        hidden = set() if principal.holds(f"{kind}.see.properties") else {"properties"}
        for field in peer.resource.fields if peer is not None else ():
            if field.sql and not sees(principal, field):
                hidden.add(field.name)
        return {name: value for name, value in values.items() if name not in hidden}


class OfTenant(Trail):
    """The trail as one of several tenants sees it."""

    resource = log_resource(whole=False)


class Log(Trail):
    """The trail."""

    resource = log_resource(whole=True)

    def view(self, principal: Principal) -> Collection:
        """All of it, for who is over all tenants, or where there is one."""
        return self if principal.superadmin or not principal.multitenant else OfTenant(self.peers)

    def endpoints(self) -> Sequence[Endpoint]:
        more: Mapping[str, Mapping[str, Any]] = {
            "GET /log": {"answers": {200: self.page_type}},
            "POST /log/search": {"answers": {200: self.page_type}},
            "GET /log/{id}": {"need": Need(DETAILS)},
        }
        return [evolve(each, **more.get(each.route, {})) for each in super().endpoints()]

    def more_endpoints(self) -> Sequence[Endpoint]:
        common: dict[str, Any] = {"need": acl("log.see-main."), "open_query": True, "tag": "log"}
        bucket = Parameter("bucket", {"type": "string", "enum": list(BUCKETS)}, "How long each stretch of time is")
        return [
            Endpoint(
                method="GET",
                path="/log/facets",
                action="log.facets",
                handler=self.facets,
                summary="Log: how many rows match, by action, outcome, kind, administrator; without at, of 90 days",
                answers={200: Facets},
                **common,
            ),
            Endpoint(
                method="GET",
                path="/log/histogram",
                action="log.histogram",
                handler=self.histogram,
                summary="Log: how many rows match, by time, 1000 stretches at most; without at, of 90 days",
                answers={200: Histogram},
                parameters=(bucket,),
                **common,
            ),
        ]

    async def read_page(self, call: Call) -> Answer:
        return await self.listed(call, None)

    async def listed(self, call: Call, more: Filter | None) -> Answer:
        """A page, the latest rows first where nothing else is said, and not counted: there may be very many.

        @param more: a condition besides those of the query string.
        """
        view = self.view(call.principal)
        defaults = {"sort": ["-id"], "count": ["false"], "fields": [",".join(view.brief(call.principal))]}
        wanted = list_query(view.resource, evolve(call, query={**defaults, **call.query}))
        where = [part for part in (wanted.query.where, more) if part is not None]
        query = evolve(wanted.query, where=All(tuple(where)) if where else None)
        return await view.page_of(call, view.completed(evolve(wanted, query=query)))

    async def search(self, call: Call) -> Answer:
        view, body = self.view(call.principal), call.body
        fields = body.fields or list(view.brief(call.principal))
        asked = evolve(call, body=msgspec.structs.replace(body, sort=body.sort or "-id", fields=fields))
        return await view.page_of(call, view.completed(search_query(view.resource, asked)))

    async def read(self, call: Call) -> Answer:
        view = self.view(call.principal)
        wanted = view.completed(list_query(view.resource, call))
        row = await view.find(call, call.number(), wanted.fields)
        return Answer(200, view.document(call.principal, row, wanted))

    async def facets(self, call: Call) -> Answer:
        view = self.view(call.principal)
        where = lately(call, view.resource, list_query(view.resource, call).query.where)
        found = {}
        for name in FACETS:
            field = view.resource.get(name)
            assert field is not None
            if sees(call.principal, field):
                counts = await call.services.records.tally(view.resource, field, call.scope, where, MOST_VALUES)
                found[name] = [Count(value, count) for value, count in counts]
        return Answer(200, Facets(found))

    async def histogram(self, call: Call) -> Answer:
        view, bucket = self.view(call.principal), call.one("bucket", "day")
        if bucket not in BUCKETS:
            raise Problem("malformed-request", f"bucket is one of {', '.join(BUCKETS)}")
        others = {name: values for name, values in call.query.items() if name != "bucket"}
        where = lately(call, view.resource, list_query(view.resource, evolve(call, query=others)).query.where)
        stretch = Field(name="bucket", kind=Kind.TIME, text="", sql=f"date_trunc('{bucket}', a.at, 'UTC')")
        records = call.services.records
        counts = await records.tally(view.resource, stretch, call.scope, where, MOST_BUCKETS, latest=True)
        return Answer(200, Histogram(bucket, [Count(value, count) for value, count in reversed(counts)]))


UNLOGGED = ("log", "property", "job")
"""Kinds without a list of what was done to one: no permission is about that."""


class ObjectLogs:
    """What was done to one object: C{/users/{id}/log}, and so for each kind."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self.peers = peers

    def endpoints(self) -> Sequence[Endpoint]:
        """Of each kind."""
        return [self.of(peer) for peer in self.peers.values() if peer.resource.name not in UNLOGGED]

    def of(self, peer: Collection) -> Endpoint:
        """Of one kind."""
        resource, log = peer.resource, self.peers["log"]
        assert isinstance(log, Log)

        async def handle(call: Call) -> Answer:
            await peer.find(call, call.number())
            kind, object_id = log.resource.get("kind"), log.resource.get("object_id")
            assert kind is not None and object_id is not None
            same_kind = Comparison(kind, Operator.EQ, resource.name)
            return await log.listed(call, All((same_kind, Comparison(object_id, Operator.EQ, call.number()))))

        return Endpoint(
            method="GET",
            path=f"/{resource.collection}/{{id}}/log",
            action=f"{resource.name}.log",
            need=acl(f"{resource.name}.see.log", superadmin=resource.superadmin_reads),
            handler=handle,
            summary=f"{resource.title}: what was done to one",
            answers={200: log.page_type},
            parameters=LIST_PARAMETERS,
            open_query=True,
            tag=resource.collection,
        )


def lately(call: Call, resource: Resource, where: Filter | None) -> Filter:
    """What is counted where nobody says of when: not years of rows."""
    at = resource.get("at")
    assert at is not None
    if any(name.partition("[")[0] == "at" for name in call.query):
        return where or All(())
    since = datetime.fromtimestamp(call.services.reactor.seconds(), UTC) - WINDOW
    recent = Comparison(at, Operator.GE, since)
    return All((recent,) if where is None else (where, recent))
