# -*- test-case-name: tests.admin.test_jobs -*-
"""Durable jobs: who runs which, how far it has got, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.interfaces.jobs import ClaimedJob, Claims, IJobs, NewJob, Noted
from qvd.model.errors import OwnershipLost

LONGEST_LOG = 200
LOCK = 0x7176646A
"""Of those who claim: how many of a kind run is counted and changed by one at a time."""
LAPSED = "state = 'running' AND lease_until < clock_timestamp()"
MINE = "id = %(job)s AND token = %(token)s::uuid AND state = 'running'"
ENDED = "token = NULL, lease_until = NULL, holder = '', ended_at = clock_timestamp()"
FREED = "token = NULL, lease_until = NULL, holder = ''"
LINES = f"""
    log = (log || ARRAY(SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS ') || line
        FROM unnest(%(lines)s::text[]) AS line))
        [greatest(1, cardinality(log) + cardinality(%(lines)s::text[]) - {LONGEST_LOG - 1}):]
"""
NOTED = f"""
    done = %(done)s, total = %(total)s, {LINES},
    cursor = CASE WHEN %(save)s THEN %(cursor)s::jsonb ELSE cursor END
"""
FREE = f"""
    SELECT id FROM jobs WHERE kind = %(kind)s AND (state = 'queued' OR ({LAPSED})) ORDER BY id
    LIMIT greatest(0, %(at_once)s
        - (SELECT count(*) FROM jobs WHERE kind = %(kind)s AND state = 'running' AND lease_until >= clock_timestamp()))
    FOR UPDATE SKIP LOCKED
"""
CLAIM = f"""
    UPDATE jobs SET state = 'running', token = gen_random_uuid(), holder = %(holder)s, attempts = attempts + 1,
        lease_until = clock_timestamp() + %(seconds)s * interval '1 second',
        started_at = coalesce(started_at, clock_timestamp())
    WHERE id IN ({FREE})
    RETURNING id AS job_id, kind, token::text, administrator_id, acls, request_id, client_address, arguments,
        object_id, cursor, done, total, attempts
"""
# What nobody can go on with: somebody has to hear of it, who can have it tried again.
GIVE_UP = f"""
    UPDATE jobs SET {ENDED},
        state = CASE WHEN cancel_wanted THEN 'cancelled' ELSE 'failed' END,
        problem = CASE WHEN cancel_wanted THEN NULL ELSE jsonb_build_object('type', '/problems/interrupted', 'detail',
            'The service that ran it (' || holder || ') ended in the middle'
            || CASE WHEN kind = ANY(%(restartable)s) THEN ', ' || attempts || ' times: it is not tried again by itself'
                    ELSE ', and a job of this kind cannot go on from there' END) END
    WHERE {LAPSED} AND kind = ANY(%(kinds)s)
        AND (cancel_wanted OR attempts >= %(attempts)s OR NOT kind = ANY(%(restartable)s))
"""
SETTLE = """
    UPDATE job_items i SET status = %(status)s, problem = %(problem)s::jsonb FROM jobs j
    WHERE i.job_id = %(job)s AND i.object_id = %(object)s AND i.status IS NULL
        AND j.id = i.job_id AND j.token = %(token)s::uuid
"""
RETRIED = ("failed", "cancelled", "partial")


@implementer(IJobs)
@frozen
class Jobs:
    """L{IJobs} over PostgreSQL."""

    db: IDatabase

    async def create(self, new: NewJob, tx: ITransaction) -> int:
        row = await tx.fetch_one(
            "INSERT INTO jobs (kind, tenant_id, administrator_id, administrator_name, acls, request_id, client_address,"
            " object_kind, object_id, object_name, arguments, cursor, total, unit)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s) RETURNING id",
            (
                new.kind,
                new.principal.tenant_id,
                new.principal.administrator_id,
                new.principal.name,
                sorted(new.principal.acls),
                new.request_id,
                new.client_address,
                new.object_kind,
                new.object_id,
                new.object_name,
                as_json(new.arguments),
                as_json(new.cursor),
                len(new.items),
                new.unit,
            ),
        )
        assert row is not None
        if new.items:
            await tx.execute(
                "INSERT INTO job_items (job_id, object_id) SELECT %s, unnest(%s::integer[]) ON CONFLICT DO NOTHING",
                (row["id"], list(new.items)),
            )
        return int(row["id"])

    async def claim(self, claims: Claims) -> Sequence[ClaimedJob]:
        kinds = list(claims.at_once)
        waiting = await self.db.fetch_one(
            f"SELECT 1 FROM jobs WHERE kind = ANY(%s) AND (state = 'queued' OR ({LAPSED})) LIMIT 1", (kinds,)
        )
        if waiting is None:
            return []

        async def work(tx: ITransaction) -> Sequence[ClaimedJob]:
            await tx.fetch("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            parameters = {"kinds": kinds, "restartable": list(claims.restartable), "attempts": claims.attempts}
            await tx.execute(GIVE_UP, parameters)
            found: list[Row] = []
            for kind, at_once in claims.at_once.items():
                mine = {"kind": kind, "at_once": at_once, "holder": claims.holder, "seconds": claims.seconds}
                found += await tx.fetch(CLAIM, mine)
            return [ClaimedJob(**{**row, "acls": frozenset(row["acls"])}) for row in found]

        return await self.db.transact("claim_jobs", work)

    async def note(self, job: ClaimedJob, seconds: float, noted: Noted) -> bool:
        row = await self.db.fetch_one(
            f"UPDATE jobs SET lease_until = clock_timestamp() + %(seconds)s * interval '1 second', {NOTED}"
            f" WHERE {MINE} AND lease_until > clock_timestamp() RETURNING cancel_wanted",
            parameters_of(job, noted, seconds=seconds),
        )
        if row is None:
            raise OwnershipLost(f"Job {job.job_id} is not ours any more")
        return bool(row["cancel_wanted"])

    async def hold(self, job: ClaimedJob, tx: ITransaction) -> None:
        mine = await tx.fetch_one(f"SELECT 1 FROM jobs WHERE {MINE} FOR SHARE", {"job": job.job_id, "token": job.token})
        if mine is None:
            raise OwnershipLost(f"Job {job.job_id} is not ours any more")

    async def waiting(self) -> int:
        row = await self.db.fetch_one(f"SELECT count(*) FROM jobs WHERE state = 'queued' OR ({LAPSED})")
        return 0 if row is None else int(row["count"])

    async def finish(self, job: ClaimedJob, state: str, result: Any, problem: Any, noted: Noted) -> None:
        touched = await self.db.execute(
            f"UPDATE jobs SET {ENDED}, {NOTED}, state = %(state)s, result = %(result)s::jsonb,"
            f" problem = %(problem)s::jsonb WHERE {MINE}",
            parameters_of(job, noted, state=state, result=as_json(result), problem=as_json(problem)),
        )
        if not touched:
            raise OwnershipLost(f"Job {job.job_id} is not ours any more")

    async def give_back(self, job: ClaimedJob, noted: Noted) -> None:
        await self.db.execute(
            f"UPDATE jobs SET {FREED}, {NOTED}, attempts = attempts - 1,"
            " state = CASE WHEN cancel_wanted THEN 'cancelled' ELSE 'queued' END,"
            f" ended_at = CASE WHEN cancel_wanted THEN clock_timestamp() END WHERE {MINE}",
            parameters_of(job, noted),
        )

    async def left(self, job: ClaimedJob, most: int) -> Sequence[int]:
        rows = await self.db.fetch(
            "SELECT object_id FROM job_items WHERE job_id = %s AND status IS NULL ORDER BY object_id LIMIT %s",
            (job.job_id, most),
        )
        return [row["object_id"] for row in rows]

    async def settle(
        self, job: ClaimedJob, object_id: int, status: int, problem: Any, tx: ITransaction | None = None
    ) -> bool:
        values = {"job": job.job_id, "token": job.token, "object": object_id, "status": status}
        return bool(await (tx or self.db).execute(SETTLE, {**values, "problem": as_json(problem)}))

    async def outcomes(self, job: ClaimedJob, most: int) -> Mapping[str, Any]:
        counts = await self.db.fetch_one(
            "SELECT count(*) FILTER (WHERE status < 400) AS succeeded, count(*) FILTER (WHERE status >= 400) AS failed,"
            ' count(*) FILTER (WHERE status IS NULL) AS "left" FROM job_items WHERE job_id = %s',
            (job.job_id,),
        )
        assert counts is not None
        failures = await self.db.fetch(
            "SELECT object_id AS id, status, problem FROM job_items WHERE job_id = %s AND status >= 400"
            " ORDER BY object_id LIMIT %s",
            (job.job_id, most),
        )
        return {**counts, "results": [dict(row) for row in failures]}

    async def cancel(self, job_id: int, tx: ITransaction) -> bool:
        return bool(
            await tx.execute(
                "UPDATE jobs SET cancel_wanted = true,"
                " state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,"
                " ended_at = CASE state WHEN 'queued' THEN clock_timestamp() END"
                " WHERE id = %s AND state IN ('queued', 'running')",
                (job_id,),
            )
        )

    async def retry(self, job_id: int, tx: ITransaction) -> bool:
        touched = await tx.execute(
            f"UPDATE jobs SET {FREED}, state = 'queued', cancel_wanted = false, attempts = 0, result = NULL,"
            " problem = NULL, ended_at = NULL WHERE id = %s AND state = ANY(%s)",
            (job_id, list(RETRIED)),
        )
        if touched:
            await tx.execute(
                "UPDATE job_items SET status = NULL, problem = NULL WHERE job_id = %s AND status >= 400", (job_id,)
            )
        return bool(touched)

    async def forget(self, days: float) -> int:
        return await self.db.execute(
            "DELETE FROM jobs WHERE ended_at < clock_timestamp() - %s * interval '1 day'", (days,)
        )


def parameters_of(job: ClaimedJob, noted: Noted, **more: Any) -> dict[str, Any]:
    return {
        "job": job.job_id,
        "token": job.token,
        "done": noted.done,
        "total": noted.total,
        "lines": list(noted.lines)[-LONGEST_LOG:],
        "save": noted.save,
        "cursor": as_json(noted.cursor),
        **more,
    }


def as_json(value: Any) -> str | None:
    """L{None} is the database's null. PostgreSQL's JSON holds no NUL."""
    if value is None:
        return None
    return msgspec.json.encode(value, enc_hook=str).decode().replace("\\u0000", "\\ufffd")
