# -*- test-case-name: tests.cli.test_bulk -*-
"""
The same for many objects, in one call. Those that a filter finds are shown before anything is done to them, and what is
done is done to these: an object that comes to match while somebody thinks is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qvd.apiclient import ApiProblem, Reply
from qvd.cli import listing
from qvd.cli.description import Collection
from qvd.cli.exits import CommandError, Exit, usage
from qvd.cli.filters import search_filter
from qvd.cli.finding import number_of
from qvd.cli.session import Session
from qvd.cli.waiting import LONGEST, Patience, follow_job, follow_object

if TYPE_CHECKING:
    from qvd.cli.derived import Derived

SHOWN = 10
"""Objects that a preview names."""


def is_meant(given: Mapping[str, Any]) -> bool:
    """Whether it is about more than one object, or is a rehearsal, which single calls have not."""
    return bool(given.get("condition") or given.get("dry_run") or len(given["path_id"]) > 1)


def perform(session: Session, command: Derived, given: Mapping[str, Any], body: Any, waits: bool) -> None:
    """Do it, and write what became of each."""
    collection = command.collection
    assert collection is not None
    op = command.operation.action.partition(".")[2]
    if given.get("condition") and given["path_id"]:
        raise usage("Say which with names or with --filter, not with both")
    if given.get("condition"):
        names = matching(session, collection, given["condition"])
        if not names:
            session.screen.say("Nothing matches the filter.")
            return
        if not given.get("dry_run"):
            session.screen.say(preview(names))
            session.confirm(f"{command.name} {len(names)} of {collection.collection}?")
    else:
        names = {number_of(session, collection, each): each for each in given["path_id"]}
    if not names:
        raise usage("Say which: numbers, names, or --filter")
    asked = {"op": op, "ids": list(names), "arguments": body, "dry_run": bool(given.get("dry_run"))}
    reply = session.call("POST", f"/{collection.collection}/bulk", body=asked)
    seconds = given.get("wait_for") or LONGEST
    if reply.status == 202:
        job_begun(session, reply, Patience.of(session, seconds) if waits else None)
        return
    if waits and not asked["dry_run"]:
        done = [each["id"] for each in reply.body["results"] if each["status"] < 400]
        follow_all(session, collection, done, seconds)
    show(session, names, reply.body)


def matching(session: Session, collection: Collection, condition: str) -> dict[int, str]:
    """Names by number."""
    query = {"fields": collection.known_by or "id"}
    rows = listing.search(session, collection.collection, search_filter(condition, collection), query)
    return {row["id"]: str(row.get(collection.known_by, row["id"])) for row in rows}


def preview(names: Mapping[int, str]) -> str:
    listed = [f"  {number}  {name}" for number, name in list(names.items())[:SHOWN]]
    if len(names) > SHOWN:
        listed.append(f"  and {len(names) - SHOWN} more")
    return "\n".join(listed)


def job_begun(session: Session, reply: Reply, patience: Patience | None) -> None:
    """Many are done by a job."""
    number = reply.body["id"]
    if patience is None:
        session.screen.document(reply.body)
        session.screen.say(f"Job {number} does it: qvd job show {number}")
        return
    session.screen.document(follow_job(patience, f"/jobs/{number}"), ["id", "state", "result"])


def follow_all(session: Session, collection: Collection, numbers: Sequence[int], seconds: float) -> None:
    """Wait for each, within the same time."""
    patience = Patience.of(session, seconds)
    for number in numbers:
        path = f"/{collection.collection}/{number}"
        try:
            row = session.call("GET", path).body
        except ApiProblem as problem:
            if problem.status == 404:
                continue
            raise
        if "desired_state" in row:
            follow_object(patience, path, row)


def show(session: Session, names: Mapping[int, str], told: Mapping[str, Any]) -> None:
    """@raise CommandError: some failed."""
    rows, failed = [], []
    for each in told["results"]:
        problem = each.get("problem") or {}
        detail = problem.get("detail") or problem.get("title", "")
        rows.append({"id": each["id"], "name": names.get(each["id"], ""), "status": each["status"], "problem": detail})
        if each["status"] >= 400:
            failed.append(f"{names.get(each['id'], each['id'])}: {detail}")
    good = [row for row in rows if row["status"] < 400]
    session.screen.rows(good if session.screen.quiet else rows)
    count = len(good)
    session.screen.say(f"{count} of {len(rows)} {'would be' if told['dry_run'] else 'are'} done.")
    if failed:
        more = failed if session.screen.quiet else []
        raise CommandError("\n".join([f"{len(failed)} of {len(rows)} failed", *more]), Exit.PARTIAL)
