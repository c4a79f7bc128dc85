"""Services that run jobs, as many as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock

from qvd.admin.api import COLLECTIONS, all_jobs
from qvd.admin.collections import Collection
from qvd.admin.jobs.runner import JobRunner
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import until


class Hands:
    """@ivar clock: of all of them; it stands still unless the test moves it."""

    def __init__(self, api: ApiWorld, kinds: Sequence[type[Collection]] = COLLECTIONS) -> None:
        self.api = api
        self.kinds = kinds
        self.clock = Clock()
        self.runners: list[JobRunner] = []

    def start(self) -> JobRunner:
        name = f"hand {len(self.runners)}"
        runner = JobRunner(self.api.services, all_jobs(self.kinds), self.clock, name)
        self.runners.append(runner)
        runner.start()
        return runner

    async def stop(self) -> None:
        for runner in self.runners:
            await runner.stop()
        self.runners.clear()

    async def until_state(self, job_id: int, state: str) -> None:
        await until(
            lambda: self.api.ask("SELECT 1 FROM jobs WHERE id = %s AND state = %s", job_id, state),
            f"job {job_id} {state}",
        )
