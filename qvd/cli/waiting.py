# -*- test-case-name: tests.cli.test_waiting -*-
"""C{--wait}: until what was begun is done. What it is, the answer says: a job, or an object that shall be otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from typing import Any

from attrs import define

from qvd.apiclient import Reply
from qvd.cli.exits import CommandError, Exit
from qvd.cli.session import Session

LONGEST = 300.0
PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between two looks; the last for all that follow."""
JOB = re.compile(r"(?:/api/v1)?(/jobs/[0-9]+)")
RUNNING = ("queued", "running")
STATE = ("state", "desired_state", "order_pending", "restarting", "failures", "last_error")


@define
class Patience:
    """How long somebody waits."""

    session: Session
    seconds: float
    ends: float
    looks: int = 0

    @classmethod
    def of(cls, session: Session, seconds: float) -> Patience:
        return cls(session, seconds, monotonic() + seconds)

    def pause(self, what: str) -> None:
        """@raise CommandError: it is over."""
        left = self.ends - monotonic()
        if left <= 0:
            raise CommandError(f"{what}, after {self.seconds:g} seconds", Exit.TIMEOUT)
        self.session.pause(min(PAUSES[min(self.looks, len(PAUSES) - 1)], left))
        self.looks += 1


def follow(session: Session, reply: Reply, path: str, seconds: float) -> None:
    """Wait for what an answer began."""
    patience = Patience.of(session, seconds)
    job = JOB.fullmatch(reply.headers.get("location", ""))
    if reply.status == 202 and job is not None:
        follow_job(patience, job[1])
    elif isinstance(reply.body, dict) and "desired_state" in reply.body:
        follow_object(patience, path.rpartition("/")[0], reply.body)


def follow_job(patience: Patience, path: str, shown: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """@param shown: is told how much is done, of how much.
    @raise CommandError: it failed, or takes longer."""
    session, told = patience.session, None
    while True:
        job: dict[str, Any] = session.call("GET", path).body
        progress = job.get("progress") or {}
        far = f"{progress.get('done')} of {progress.get('total')} {progress.get('unit') or ''}".strip()
        if job["state"] not in RUNNING:
            break
        if shown is not None and progress.get("total"):
            shown(progress.get("done") or 0, progress["total"])
        elif far != told and progress.get("total"):
            session.screen.say(f"Job {job['id']}: {far}")
            told = far
        patience.pause(f"Job {job['id']} is still {job['state']}")
    if job["state"] != "succeeded":
        why = (job.get("problem") or {}).get("detail") or f"it is {job['state']}"
        exit = Exit.PARTIAL if job["state"] == "partial" else Exit.FAILED
        raise CommandError(f"Job {job['id']}: {why}; qvd job show {job['id']} says more", exit)
    session.screen.say(f"Job {job['id']} is done.")
    return job


def follow_object(patience: Patience, path: str, begun: dict[str, Any]) -> None:
    """Until it is in the state that was ordered.

    @param begun: as it was when the order was given.
    @raise CommandError: it will not be, or not within the time.
    """
    wanted, name = begun["desired_state"], begun.get("name", path)
    while True:
        row = patience.session.call("GET", path, query={"fields": ",".join(STATE)}).body
        if row["failures"] > begun.get("failures", 0):
            raise CommandError(f"{name}: {row['last_error'] or 'it failed'}")
        if row["desired_state"] != wanted:
            why = f": {row['last_error']}" if row["last_error"] else ""
            raise CommandError(f"{name} shall be {row['desired_state']} meanwhile, and is {row['state']}{why}")
        if row["state"] == wanted and not row["order_pending"] and not row["restarting"]:
            patience.session.screen.say(f"{name} is {row['state']}.")
            return
        patience.pause(f"{name} is still {row['state']}")
