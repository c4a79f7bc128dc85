# -*- test-case-name: tests.admin.test_bulk -*-
"""
One operation on many objects: each is done by the code of the single call, with its checks, in a transaction of its
own. Up to fifty are done at once; more become a job.

In the audit trail there is one row for the call itself, C{user.bulk}, and one for each object, of the single
operation's action (C{user.block}), all with the request's id. A rehearsal (C{dry_run}) does each object's transaction
and undoes it, so it leaves the row of the call alone.

An operation that takes a secret must not be offered here: the arguments are kept with the job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from attrs import evolve, frozen

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.dispatch import Dispatcher, refusal
from qvd.admin.endpoint import Endpoint, Need
from qvd.admin.jobs.kinds import ACCEPTED, ask_for
from qvd.admin.problems import Problem
from qvd.admin.queries import DEEPEST, WIDEST, tree
from qvd.admin.resources.property_values import refuse_secrets
from qvd.admin.schema import LARGEST, decoder
from qvd.interfaces import ITransaction
from qvd.interfaces.administration import AuditEntry, IChanges
from qvd.model.declared import Principal

if TYPE_CHECKING:
    from qvd.admin.collections import Collection

T = TypeVar("T")
AT_ONCE, MOST = 50, 100_000
"""Objects that a call does itself; and that one can be about."""
BULK = "bulk"
"""The kind of job that does the others."""


class Outcome(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What became of one object. C{status} is that of the single call."""

    id: int
    status: int
    problem: dict[str, Any] | None = None


class Outcomes(msgspec.Struct, forbid_unknown_fields=True):
    """What became of them all."""

    results: list[Outcome]
    succeeded: int
    failed: int
    dry_run: bool


class Rehearsed(Exception):
    """Undoes a transaction that did what it should."""


@frozen
class Rehearsal:
    """L{IChanges} that does everything and keeps nothing."""

    changes: IChanges

    async def transact(self, name: str, cause: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        done: list[T] = []

        async def rehearse(tx: ITransaction) -> T:
            done.append(await work(tx))
            raise Rehearsed

        try:
            return await self.changes.transact(name, cause, rehearse)
        except Rehearsed:
            return done[-1]

    async def record(self, entry: AuditEntry) -> None:
        """Nothing has happened."""


def operations(collection: Collection, endpoints: Sequence[Endpoint]) -> Mapping[str, Endpoint]:
    """The operations on one object that a collection offers for many, by name: C{delete}, C{block}.

    @param endpoints: of the collection.
    """
    path = f"/{collection.resource.collection}/{{id}}"
    found = {
        endpoint.action.partition(".")[2]: endpoint
        for endpoint in endpoints
        if endpoint.audited and (endpoint.path == path or endpoint.path.startswith(f"{path}/"))
    }
    return {name: found[name] for name in collection.bulk}


def bulk_endpoint(collection: Collection, endpoints: Sequence[Endpoint]) -> Endpoint:
    """The operation of many objects."""
    resource, singles = collection.resource, operations(collection, endpoints)
    names = tuple(singles)
    body = msgspec.defstruct(
        f"{resource.name.title()}Bulk",
        [
            ("op", Literal[names]),
            ("ids", list[int] | None, None),
            ("filter", dict[str, Any] | None, None),
            ("arguments", dict[str, Any], msgspec.field(default_factory=dict)),
            ("dry_run", bool, False),
        ],
        forbid_unknown_fields=True,
        kw_only=True,
    )
    acls = tuple(dict.fromkeys(name for single in singles.values() for name in single.need.any_of))

    async def handle(call: Call) -> Answer:
        return await Bulk(collection, singles[call.body.op]).answer(call)

    return Endpoint(
        method="POST",
        path=f"/{resource.collection}/bulk",
        action=f"{resource.name}.bulk",
        need=Need(acls, superadmin=resource.superadmin),
        handler=handle,
        summary=f"{resource.title}: do the same with many; one row in the audit trail for the call, and one for each",
        body=body,
        answers={200: Outcomes, 202: ACCEPTED},
        tag=resource.collection,
    )


@frozen
class Bulk:
    """One operation of a collection, for many objects.

    @ivar single: the same for one.
    """

    collection: Collection
    single: Endpoint

    async def answer(self, call: Call) -> Answer:
        """Do it, or make a job of it."""
        if not self.single.need.is_met(call.principal):
            raise refusal(self.single, call)
        if self.single.dangerous and not call.principal.fresh:
            raise Problem("reauthentication-required", "Give your password again (POST /api/v1/auth/reauthenticate)")
        raw = self.raw_arguments(call.body.arguments)
        await refuse_secrets(call, call.body.arguments)
        ids = await self.ids(call)
        resource = self.collection.resource
        if len(ids) > AT_ONCE and not call.body.dry_run:
            arguments = {
                "collection": resource.collection,
                "op": call.body.op,
                "arguments": call.body.arguments,
            }

            async def work(tx: ITransaction) -> Answer:
                call.subject = Subject(resource.name)
                return await ask_for(
                    call, tx, BULK, arguments, object_kind=resource.name, items=ids, unit=resource.collection
                )

            return await call.change(work)
        if len(ids) > AT_ONCE * 20:
            raise Problem("payload-too-large", f"A rehearsal is about {AT_ONCE * 20} objects at most, not {len(ids)}")
        services = call.services
        if call.body.dry_run:
            services = evolve(services, changes=Rehearsal(services.changes))
        results = []
        for object_id in ids:
            made = evolve(call, services=services)
            results.append(outcome(object_id, await self.do(made, call.principal, object_id, raw)))
        failed = sum(each.status >= 400 for each in results)
        told = Outcomes(results, len(results) - failed, failed, call.body.dry_run)

        async def end(tx: ITransaction) -> Answer:
            after = {"succeeded": told.succeeded, "failed": told.failed, "dry_run": told.dry_run}
            call.subject = Subject(resource.name, after=after)
            return Answer(200, told)

        return await call.change(end)

    def raw_arguments(self, arguments: Mapping[str, Any]) -> bytes:
        """What the single call gets as its body.

        @raise Problem: it would not take it.
        """
        if self.single.body is None:
            if arguments:
                raise Problem("invalid-value", f"{self.single.action} takes no arguments")
            return b""
        raw = msgspec.json.encode(arguments)
        decoder(self.single.body)(raw)
        return raw

    async def ids(self, call: Call) -> Sequence[int]:
        """The objects that are meant. Those that are not there fail one by one."""
        body, resource = call.body, self.collection.resource
        if (body.ids is None) == (body.filter is None):
            raise Problem("invalid-value", "Say which are meant: ids or filter, one of them")
        if body.ids is not None:
            if not body.ids or len(body.ids) > MOST:
                raise Problem("invalid-value", f"ids are from 1 to {MOST} numbers")
            if not all(0 <= each <= LARGEST for each in body.ids):
                raise Problem("invalid-value", f"ids are numbers from 0 to {LARGEST}")
            return list(dict.fromkeys(body.ids))
        if not Need(resource.read, superadmin=resource.superadmin_reads).is_met(call.principal):
            raise Problem("forbidden-filter", f"You may not search {resource.collection}")
        where = tree(resource, call.principal, body.filter, DEEPEST, [WIDEST]) if body.filter else None
        found = await call.services.records.ids(resource, call.scope, where, MOST + 1)
        if not found:
            raise Problem("nothing-matched", "The filter matches nothing")
        if len(found) > MOST:
            raise Problem("payload-too-large", f"The filter matches more than {MOST}: narrow it")
        return [int(each) for each in found]

    async def do(
        self,
        call: Call,
        principal: Principal,
        object_id: int,
        raw: bytes,
        keep: Callable[[Any, ITransaction], Awaitable[None]] | None = None,
    ) -> Answer:
        """One object, as the single call does it.

        @param call: in whose name: its services, its request's id, its address.
        @param keep: run at the end of the object's transaction.
        """
        base = call.uri.partition("?")[0].removesuffix("/bulk")
        made = Call(
            endpoint=self.single,
            services=call.services,
            request_id=call.request_id,
            client_address=call.client_address,
            method=self.single.method,
            uri=f"{base}/{object_id}",
            caller=principal,
            path={"id": str(object_id)},
            # Whoever changes many accepts that they are as they are.
            headers={"if-match": "*"},
            keep=keep,
        )
        return await Dispatcher(call.services).repeat(made, raw)


def outcome(object_id: int, answer: Answer) -> Outcome:
    """What became of an object, of the answer to its call."""
    return Outcome(object_id, answer.status, answer.body if answer.status >= 400 else None)
