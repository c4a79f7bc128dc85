# -*- test-case-name: tests.admin.test_purge -*-
"""
Emptying a tenant: each kind of object after those that depend on it, each object by the code of the single deletion,
with a row of its own in the audit trail. What is deleted is gone, so whoever goes on begins with what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from attrs import evolve

from qvd.admin.call import Call
from qvd.admin.dispatch import Dispatcher
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.jobs.kinds import JobContext, JobKind
from qvd.admin.jobs.stops import stop_all
from qvd.interfaces import ITransaction
from qvd.interfaces.administration import IRecords
from qvd.model.declared import Principal, Resource, Scope
from qvd.model.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from qvd.admin.collections import Collection

PURGE = "tenant.purge"
Part: TypeAlias = Literal["vms", "users", "images", "osfs", "roles", "administrators", "properties", "config"]
ORDER: Sequence[Part] = get_args(Part)
"""Collections, each before those that it depends on."""
BATCH, TOLD = 200, 100
"""Objects of one look; failures in the result."""


def parts(peers: Mapping[str, Collection]) -> Sequence[Collection]:
    """Collections of what a tenant may have, in the order in which they are emptied."""
    return [peers[name] for name in ORDER if name in peers]


def strictly(resource: Resource) -> Resource:
    """The tenant's own objects: what all tenants share is not the tenant's."""
    return evolve(resource, shared=False)


async def contents(
    records: IRecords, peers: Mapping[str, Collection], tenant_id: int, tx: ITransaction | None = None
) -> dict[str, int]:
    """What a tenant has: numbers by collection."""
    scope = Scope(tenant_id)
    return {
        part.resource.collection: await records.count(strictly(part.resource), scope, None, tx) for part in parts(peers)
    }


class Purge:
    """The job.

    @param peers: all collections by name.
    """

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self.peers = peers
        self._deletions: dict[str, Endpoint] = {}

    def _deletion(self, part: Collection) -> Endpoint:
        """The single deletion, for who may purge."""
        name = part.resource.collection
        if name not in self._deletions:
            [found] = [each for each in part.endpoints() if (each.method, each.path) == ("DELETE", f"/{name}/{{id}}")]
            self._deletions[name] = evolve(found, need=acl("tenant.purge.", superadmin=True))
        return self._deletions[name]

    @property
    def kind(self) -> JobKind:
        return JobKind(PURGE, self.run)

    async def run(self, context: JobContext) -> Mapping[str, Any]:
        """Empty what is left of it."""
        tenant_id, arguments = context.job.object_id, context.arguments
        assert tenant_id is not None
        if arguments["stop_vms"]:
            await stop_all(context, None, tenant_id, f"the tenant is purged, request {context.job.request_id}")
        chosen = [part for part in parts(self.peers) if part.resource.collection in arguments["kinds"]]
        records, scope = context.services.records, Scope(tenant_id)
        counts = [await records.count(strictly(part.resource), scope, None) for part in chosen]
        tally = Tally(context, context.cursor or {}, sum(counts))
        for part in chosen:
            await self._empty(context, part, scope, tally)
        if arguments["delete_tenant"] and not tally.failures:
            await self._delete(context, self.peers["tenants"], tenant_id, tally)
        context.partial = bool(tally.failures)
        return tally.result()

    async def _empty(self, context: JobContext, part: Collection, scope: Scope, tally: Tally) -> None:
        name = part.resource.collection
        failed: set[int] = set()
        while True:
            # Those that failed stay, and come again.
            most = BATCH + len(failed)
            found = await context.services.records.ids(strictly(part.resource), scope, None, most)
            left = [each for each in found if each not in failed]
            if not left:
                break
            for object_id in left:
                context.check(tally.result())
                if not await self._delete(context, part, object_id, tally):
                    failed.add(object_id)
            await context.save(tally.deleted)
        context.log(f"{name}: {tally.deleted.get(name, 0)} deleted, {len(failed)} left")

    async def _delete(self, context: JobContext, part: Collection, object_id: int, tally: Tally) -> bool:
        """By the code of the single deletion. C{tenant.purge.} is permission enough: the caller need not hold those
        of all kinds."""
        name, job = part.resource.collection, context.job
        principal = await tally.principal()
        endpoint = self._deletion(part)
        call = Call(
            endpoint=endpoint,
            services=context.services,
            request_id=job.request_id,
            client_address=job.client_address,
            method="DELETE",
            uri=f"/api/v1/{name}/{object_id}",
            caller=principal,
            path={"id": str(object_id)},
            headers={"if-match": "*"},
        )
        answer = await Dispatcher(context.services).repeat(call, b"")
        if answer.status in (204, 404):
            tally.done(name)
            return True
        if answer.status == 503 and answer.body["type"] == "/problems/database-unavailable":
            raise DatabaseUnavailable(answer.body["detail"])
        tally.fail(name, object_id, answer.body["detail"])
        return False


class Tally:
    """What was done.

    @param deleted: numbers by collection, of those who did it before.
    @param left: objects that there are.
    """

    def __init__(self, context: JobContext, deleted: Mapping[str, int], left: int) -> None:
        self._context = context
        self._principal: Principal | None = None
        self._asked = 0
        self.deleted = dict(deleted)
        self.failures: list[dict[str, Any]] = []
        self.failed = 0
        self._total = sum(deleted.values()) + left
        context.progress(sum(deleted.values()), self._total)

    async def principal(self) -> Principal:
        """Whose job it is: looked at again every so many objects."""
        if self._principal is None or self._asked % BATCH == 0:
            self._principal = evolve(await self._context.principal(), fresh=True)
        self._asked += 1
        return self._principal

    def done(self, name: str) -> None:
        self.deleted[name] = self.deleted.get(name, 0) + 1
        self._context.progress(sum(self.deleted.values()) + self.failed, self._total)

    def fail(self, name: str, object_id: int, detail: str) -> None:
        self.failed += 1
        if len(self.failures) < TOLD:
            self.failures.append({"kind": name, "id": object_id, "detail": detail})
        self._context.log(f"{name} {object_id}: {detail}")

    def result(self) -> Mapping[str, Any]:
        return {"deleted": self.deleted, "failed": self.failed, "failures": self.failures}
