# -*- test-case-name: tests.admin.test_jobs -*-
"""
Runs jobs: claims rows, keeps them with a lease, and writes what became of them.

A look every few seconds finds jobs without a bell, and so does each bell. Once a second what is new of the running
ones is written, and it is read whether they are to be cancelled. Whoever cannot renew a lease ends the job before
another one can have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from qvd.admin.jobs.kinds import LEASE, JobCancelled, JobContext, JobKind
from qvd.admin.problems import Problem, problem_of
from qvd.admin.services import Services
from qvd.interfaces import IBells
from qvd.interfaces.jobs import ClaimedJob, Claims
from qvd.model.errors import DatabaseUnavailable, OwnershipLost, QVDError

CHANNEL = "qvd_jobs"
TURN, LOOK, TIDY = 1.0, 5.0, 3600.0
"""Seconds between writing what is new; between looks for jobs; between deletions of old ones."""
PATIENCE = 10.0
"""Seconds for a job to end by itself when its cancellation is wanted."""
ATTEMPTS = 5
KEPT_DAYS = 30.0


@define
class Run:
    """One job that runs here.

    @ivar renewed: our time at which its lease was asked for last, successfully.
    @ivar given_up: it ends without a word, as it is not ours any more; or C{back}: another one goes on with it.
    """

    context: JobContext
    renewed: float
    working: Deferred[Any] = field(factory=Deferred)
    ended: Deferred[None] = field(factory=Deferred)
    given_up: str = ""
    cancelled_at: float | None = None


class JobRunner:
    """Runs jobs of some kinds, from L{start} to L{stop}.

    @param holder: name of this process, for whoever looks at a job.
    @ivar waiting: jobs that nobody runs, at the last look.
    """

    log = Logger()

    def __init__(
        self,
        services: Services,
        kinds: Sequence[JobKind],
        clock: IReactorTime,
        holder: str,
        bells: IBells | None = None,
    ) -> None:
        self._services = services
        self._kinds: Mapping[str, JobKind] = {kind.name: kind for kind in kinds}
        self._clock = clock
        self._bells = bells
        self._claims = Claims(
            holder=holder,
            at_once={kind.name: kind.at_once for kind in kinds},
            restartable=[kind.name for kind in kinds if kind.restartable],
            seconds=LEASE,
            attempts=ATTEMPTS,
        )
        self._runs: dict[int, Run] = {}
        self._running = False
        self._deafen: Callable[[], None] | None = None
        self._timer: IDelayedCall | None = None
        self._turning: Deferred[None] | None = None
        self._tidying: Deferred[None] | None = None
        self._rung = False
        self._looked = self._forgot = float("-inf")
        self.waiting = 0

    @property
    def running(self) -> int:
        """Jobs that run here."""
        return len(self._runs)

    def start(self) -> None:
        """Look for jobs now, and from now on."""
        self._running = True
        if self._bells is not None:
            self._deafen = self._bells.listen(CHANNEL, lambda _: self._ring())
        self._ring()

    async def stop(self) -> None:
        """End. Jobs that run go back to the queue, and another one goes on where they are."""
        self._running = False
        if self._deafen is not None:
            self._deafen()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turning is not None:
            await self._turning
        if self._tidying is not None:
            self._tidying.cancel()
        runs = list(self._runs.values())
        for run in runs:
            self._give_up(run, "back")
        await DeferredList([run.ended for run in runs])

    def _ring(self) -> None:
        self._rung = True
        if self._turning is None and self._running:
            if self._timer is not None:
                self._timer.cancel()
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._timer = None
        turning = self._turning = Deferred.fromCoroutine(self._turn())
        turning.addErrback(lambda failure: self.log.failure("Looking at jobs", failure))
        turning.addCallback(self._end_turn)

    def _end_turn(self, _: object) -> None:
        self._turning = None
        if self._running:
            self._timer = self._clock.callLater(0.0 if self._rung else TURN, self._begin_turn)

    async def _turn(self) -> None:
        now, rung = self._clock.seconds(), self._rung
        self._rung = False
        for run in list(self._runs.values()):
            await self._tell(run)
        try:
            if rung or now - self._looked >= LOOK:
                await self._look()
                self._looked = now
            if now - self._forgot >= TIDY:
                await self._services.jobs.forget(KEPT_DAYS)
                self._forgot = now
        except QVDError as error:
            self.log.warn("Looking for jobs: {reason}", reason=error.text)

    async def _look(self) -> None:
        asked = self._clock.seconds()
        for job in await self._services.jobs.claim(self._claims):
            if job.job_id in self._runs:
                # Its lease was over before we could renew it: what runs here has lost it, and must not go on beside it.
                self._give_up(self._runs[job.job_id], "lost")
            self._begin(job, asked)
        self.waiting = await self._services.jobs.waiting()
        if self._tidying is None:
            tidying = self._tidying = Deferred.fromCoroutine(self._tidy())
            tidying.addErrback(self._untidied).addCallback(self._end_tidying)

    async def _tidy(self) -> None:
        """Not within a turn: leases are renewed meanwhile."""
        for kind in self._kinds.values():
            if kind.tidy is not None:
                await kind.tidy(self._services)

    def _untidied(self, failure: Failure) -> None:
        if isinstance(failure.value, QVDError):
            self.log.warn("What jobs have left stays: {reason}", reason=failure.value.text)
        elif not isinstance(failure.value, CancelledError):
            self.log.failure("Putting in order what jobs have left", failure)

    def _end_tidying(self, _: object) -> None:
        self._tidying = None

    # One job.

    def _begin(self, job: ClaimedJob, asked: float) -> None:
        run = Run(JobContext.of(job, self._services), asked)
        self._runs[job.job_id] = run
        self.log.info(
            "job {job_id} ({kind}): begun, attempt {attempt}", job_id=job.job_id, kind=job.kind, attempt=job.attempts
        )
        run.working = Deferred.fromCoroutine(self._guarded(run))
        ending = Deferred.fromCoroutine(self._end(run))
        ending.addErrback(lambda failure: self.log.failure("job {job_id}", failure, job_id=job.job_id))
        ending.addCallback(lambda _: self._ended(run))

    async def _guarded(self, run: Run) -> Any:
        return await self._kinds[run.context.job.kind].run(run.context)

    async def _tell(self, run: Run) -> None:
        """Write what is new, renew the lease, read whether to cancel."""
        context, now = run.context, self._clock.seconds()
        if run.given_up or run.working.called:
            return
        if run.cancelled_at is not None and now - run.cancelled_at >= PATIENCE:
            run.working.cancel()
            return
        try:
            await context.note()
            run.renewed = now
        except OwnershipLost:
            self._give_up(run, "lost")
        except QVDError as error:
            self.log.warn("job {job_id}: {reason}", job_id=context.job.job_id, reason=error.text)
            if self._clock.seconds() - run.renewed >= LEASE - 2 * TURN:
                self._give_up(run, "lost")
        if context.cancelled and run.cancelled_at is None:
            run.cancelled_at = now

    def _give_up(self, run: Run, why: str) -> None:
        run.given_up = run.given_up or why
        run.working.cancel()

    async def _end(self, run: Run) -> None:
        """Wait for its end, and write what became of it."""
        context = run.context
        state, result = "failed", None
        problem: Problem | None = None
        try:
            result = await run.working
            state = "partial" if context.partial else "succeeded"
        except JobCancelled as cancelled:
            state, result = "cancelled", cancelled.result
        except CancelledError:
            state = "cancelled"
        except OwnershipLost:
            run.given_up = run.given_up or "lost"
        except DatabaseUnavailable:
            run.given_up = run.given_up or "back"
        except Problem as error:
            problem = error
        except QVDError as error:
            problem = problem_of(error)
        except Exception:  # noqa: BLE001  whatever it is, somebody has to hear of it
            self.log.failure("job {job_id} ({kind}) failed", job_id=context.job.job_id, kind=context.job.kind)
            problem = Problem("internal", "The service failed; its log has the details under the job's number")
        await self._write(run, state, result, problem)

    async def _write(self, run: Run, state: str, result: Any, problem: Problem | None) -> None:
        context, jobs = run.context, self._services.jobs
        document = None if problem is None else problem.document(context.job.request_id, "")
        try:
            if run.given_up == "back" and state not in ("succeeded", "partial"):
                await jobs.give_back(context.job, context.noted())
                state = "queued"
            elif run.given_up == "lost":
                state = "another one's"
            else:
                await jobs.finish(context.job, state, result, document, context.noted())
        except QVDError as error:
            # Its lease will be over, and another one goes on with it.
            self.log.warn("job {job_id}: {reason}", job_id=context.job.job_id, reason=error.text)
        self.log.info("job {job_id}: {state}", job_id=context.job.job_id, state=state)

    def _ended(self, run: Run) -> None:
        job_id = run.context.job.job_id
        if self._runs.get(job_id) is run:
            del self._runs[job_id]
        run.ended.callback(None)
        # There may be one that waits for its place.
        self._ring()
