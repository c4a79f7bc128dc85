# -*- test-case-name: tests.admin.test_bulk -*-
"""
The job behind one operation on many objects.

Each object is marked as done in the transaction that changes it, under the job's lease: whoever goes on with the job
does none a second time, whenever the one before was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from qvd.admin.bulk import BULK, Bulk, operations
from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint
from qvd.admin.jobs.kinds import JobContext, JobKind
from qvd.admin.problems import Problem
from qvd.interfaces import ITransaction
from qvd.interfaces.jobs import ClaimedJob
from qvd.model.declared import Principal
from qvd.model.errors import DatabaseUnavailable, OwnershipLost

if TYPE_CHECKING:
    from qvd.admin.collections import Collection

TOGETHER = 4
"""Objects that are done at the same time. Audit rows are written one after the other, whoever writes them."""
BATCH = 200
"""Objects between two looks at who the administrator is by now."""
TOLD = 100
"""Failures in the job's result."""


class BulkJobs:
    """L{JobKind} of all collections.

    @param peers: all collections by name.
    """

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self._peers = peers
        self._operations: dict[str, Mapping[str, Endpoint]] = {}

    @property
    def kind(self) -> JobKind:
        return JobKind(BULK, self.run)

    def _bulk(self, arguments: Mapping[str, Any]) -> Bulk:
        collection = self._peers[arguments["collection"]]
        name = collection.resource.collection
        if name not in self._operations:
            self._operations[name] = operations(collection, collection.endpoints())
        return Bulk(collection, self._operations[name][arguments["op"]])

    async def run(self, context: JobContext) -> Mapping[str, Any]:
        """Do what is left of it."""
        jobs, job = context.services.jobs, context.job
        bulk = self._bulk(context.arguments)
        raw = bulk.raw_arguments(context.arguments["arguments"])
        counts = await jobs.outcomes(job, 0)
        done = counts["succeeded"] + counts["failed"]
        context.log(f"{bulk.single.action}: {counts['left']} of {done + counts['left']} to do")
        while left := await jobs.left(job, BATCH):
            # It was fresh when it was asked for: see L{Bulk.answer}.
            principal = evolve(await context.principal(), fresh=True)
            batch = Batch(context, bulk, raw, principal, deque(left), done)
            await gatherResults(
                [Deferred.fromCoroutine(batch.work()) for _ in range(TOGETHER)], consumeErrors=True
            ).addErrback(batch.first_error)
            done = batch.done
            if context.cancelled:
                context.check(await jobs.outcomes(job, TOLD))
        outcomes = await jobs.outcomes(job, TOLD)
        context.partial = bool(outcomes["failed"])
        context.log(f"{outcomes['succeeded']} done, {outcomes['failed']} failed")
        return outcomes


class Batch:
    """Some objects of a job, done by several at a time."""

    def __init__(
        self, context: JobContext, bulk: Bulk, raw: bytes, principal: Principal, ids: deque[int], done: int
    ) -> None:
        self._context = context
        self._bulk = bulk
        self._raw = raw
        self._principal = principal
        self._ids = ids
        self.done = done

    def first_error(self, failure: Any) -> Any:
        """What one of them failed with ends the others as well."""
        self._ids.clear()
        failure.trap(Exception)
        return getattr(failure.value, "subFailure", failure)

    async def work(self) -> None:
        while self._ids and not self._context.cancelled:
            await self._do(self._ids.popleft())
            self.done += 1
            self._context.progress(self.done)

    async def _do(self, object_id: int) -> None:
        context, job, jobs = self._context, self._context.job, self._context.services.jobs
        kept = False

        async def keep(result: Any, tx: ITransaction) -> None:
            nonlocal kept
            status = result.status if isinstance(result, Answer) else 200
            if not await jobs.settle(job, object_id, status, None, tx):
                raise Problem("conflict", f"Another service goes on with job {job.job_id}, which this is a part of")
            kept = True

        answer = await self._bulk.do(self._call(), self._principal, object_id, self._raw, keep)
        if answer.status == 503 and answer.body["type"] == "/problems/database-unavailable":
            # Not the object's fault: the job goes on later, or elsewhere.
            raise DatabaseUnavailable(answer.body["detail"])
        if answer.status >= 400:
            context.log(f"{object_id}: {answer.body['detail']}")
        if not kept or answer.status >= 400:
            problem = answer.body if answer.status >= 400 else None
            if not await jobs.settle(job, object_id, answer.status, problem):
                raise OwnershipLost(f"Job {job.job_id} is not ours any more")

    def _call(self) -> Call:
        """In whose name each object's call is made."""
        job: ClaimedJob = self._context.job
        return Call(
            endpoint=self._bulk.single,
            services=self._context.services,
            request_id=job.request_id,
            client_address=job.client_address,
            uri=f"/api/v1/{self._bulk.collection.resource.collection}/bulk",
        )
