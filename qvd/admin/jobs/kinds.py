# -*- test-case-name: tests.admin.test_jobs -*-
"""What a kind of job is, and what its code gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field, frozen

from qvd.admin.call import Answer, Call
from qvd.admin.problems import Problem
from qvd.admin.services import Services
from qvd.interfaces import ITransaction
from qvd.interfaces.jobs import ClaimedJob, NewJob, Noted
from qvd.model.declared import Principal

LEASE = 30.0
MOST_LINES = 200


class JobCancelled(Exception):
    """Ends a job whose cancellation is wanted.

    @ivar result: what it has done until then.
    """

    def __init__(self, result: Any = None) -> None:
        super().__init__("cancelled")
        self.result = result


@define
class JobContext:
    """What the code of a job gets.

    @ivar cursor: what it saved last; L{None}: it begins.
    @ivar cancelled: it is to end soon: see L{check}.
    @ivar partial: set by the code: it was done for some objects, and failed for others.
    """

    job: ClaimedJob
    services: Services
    cursor: Any = None
    cancelled: bool = False
    partial: bool = False
    _done: int = 0
    _total: int = 0
    _lines: list[str] = field(factory=list)

    @classmethod
    def of(cls, job: ClaimedJob, services: Services) -> JobContext:
        return cls(job, services, job.cursor, done=job.done, total=job.total)

    @property
    def arguments(self) -> Any:
        return self.job.arguments

    def progress(self, done: int, total: int | None = None) -> None:
        """Tell how far it is. It is written within a second."""
        self._done, self._total = done, self._total if total is None else total

    def log(self, text: str) -> None:
        """A line for whoever looks at the job; no secrets. The last 200 are kept."""
        self._lines = [*self._lines, text][-MOST_LINES:]

    def check(self, result: Any = None) -> None:
        """@raise JobCancelled: that is wanted."""
        if self.cancelled:
            raise JobCancelled(result)

    async def save(self, cursor: Any) -> None:
        """Write where another one would go on.

        @raise OwnershipLost: another one has: this one must end.
        """
        self.cursor = cursor
        await self.note(save=True)

    async def note(self, save: bool = False) -> None:
        """Write what is new, and renew the lease."""
        noted = self.noted(save)
        self._lines = []
        if await self.services.jobs.note(self.job, LEASE, noted):
            self.cancelled = True

    def noted(self, save: bool = False) -> Noted:
        return Noted(
            done=self._done,
            total=self._total,
            lines=tuple(self._lines),
            cursor=self.cursor if save else None,
            save=save,
        )

    async def principal(self) -> Principal:
        """Whose job it is, as they are by now. What was to be shown for it was shown when it was asked for.

        @raise Problem: they may not do anything any more.
        """
        found = await self.services.principals.now(self.job.administrator_id, self.job.acls)
        if found is None:
            raise Problem("forbidden", "The administrator whose job it is has no account any more, or is blocked")
        return found


@frozen
class JobKind:
    """A kind of job.

    @ivar run: does it, and returns its result: what JSON can hold. It ends soon when C{cancelled} is set, saves its
        cursor often, and begins at the cursor that it gets.
    @ivar at_once: how many may run at the same time, whoever runs them.
    @ivar restartable: another one can go on where it was.
    @ivar tidy: puts in order what jobs of the kind have left that ended without their code: cancelled while they
        waited, or given up. Called now and then, by each service; beside the jobs, so it may take long.
    """

    name: str
    run: Callable[[JobContext], Awaitable[Any]]
    at_once: int = 2
    restartable: bool = True
    tidy: Callable[[Services], Awaitable[None]] | None = None


async def ask_for(call: Call, tx: ITransaction, kind: str, arguments: Any, **more: Any) -> Answer:
    """Put a job in the queue, in the transaction of the call that asks for it; return that call's answer.

    @param more: further members of L{NewJob}.
    """
    new = NewJob(
        kind=kind,
        principal=call.principal,
        request_id=call.request_id,
        client_address=call.client_address,
        arguments=arguments,
        **more,
    )
    job_id = await call.services.jobs.create(new, tx)
    body = {"id": job_id, "kind": kind, "state": "queued", "total": len(new.items)}
    return Answer(202, body, {"Location": f"/api/v1/jobs/{job_id}"})


ACCEPTED = {
    "type": "object",
    "required": ["id", "kind", "state", "total"],
    "properties": {
        "id": {"type": "integer"},
        "kind": {"type": "string"},
        "state": {"type": "string"},
        "total": {"type": "integer"},
    },
    "additionalProperties": False,
}
"""JSON schema of that answer's body."""
