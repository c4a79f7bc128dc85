"""Whether somebody who has the database notices nothing of what they did to the audit trail: they do not get away."""

from __future__ import annotations

import json
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import make_dsn

from qvd.db import audit, cli


class Trail:
    """The trail of a test, as the database's owner may treat it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        for number in range(1, 6):
            self.append({"action": "user.create", "object_id": number, "before": None, "after": {"näme": f"u{number}"}})

    def append(self, entry: dict[str, Any]) -> None:
        self.do("SELECT audit_append(%s::jsonb)", json.dumps(entry))

    def do(self, sql: str, *values: object, user: str | None = None) -> list[tuple[Any, ...]]:
        dsn = make_dsn(self.dsn, **({"user": user} if user else {}))
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall()) if cursor.description else []

    def broken(self, known: audit.Place | None = None) -> int | None:
        fault = audit.verify(self.dsn, known).fault
        return fault.row if fault else None

    def older(self, ids: str) -> None:
        """Make a trail in which the first rows are three years old: rows like these could only have been written so."""
        self.do("UPDATE audit SET at = at - interval '3 years' WHERE id IN (SELECT unnest(%s::bigint[]))", ids)
        self.do(
            "DO $$ DECLARE row audit; last bytea := ''; BEGIN"
            " FOR row IN SELECT * FROM audit ORDER BY id LOOP"
            " last := audit_hash(last, row.id, row.at, row.entry);"
            " UPDATE audit SET hash = last WHERE id = row.id; END LOOP;"
            " UPDATE audit_head SET hash = last; END $$"
        )


@pytest.fixture
def trail(database: str) -> Trail:
    return Trail(database)


def test_a_whole_trail(trail: Trail) -> None:
    verdict = audit.verify(trail.dsn)
    assert (verdict.rows, verdict.head.id, verdict.fault) == (5, 5, None)
    assert trail.broken(audit.parse_place(str(verdict.head))) is None


def test_an_empty_trail(database: str) -> None:
    assert audit.verify(database) == audit.Verdict(0, audit.START)


@pytest.mark.acceptance(22)
@pytest.mark.parametrize(
    ("sql", "row"),
    [
        ("UPDATE audit SET entry = entry || '{\"action\": \"user.read\"}' WHERE id = 3", 3),
        ("UPDATE audit SET at = at + interval '1 microsecond' WHERE id = 2", 2),
        ("UPDATE audit SET hash = audit_hash('', id, at, '{}'), entry = '{}' WHERE id = 4", 4),
        ("DELETE FROM audit WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id = 1", 1),
        ("DELETE FROM audit WHERE id > 3", 4),
        ("DELETE FROM audit", 1),
        ("INSERT INTO audit (id, at, entry, hash) VALUES (0, now(), '{}', '')", 1),
        ("INSERT INTO audit (id, at, entry, hash) SELECT 6, now(), '{}', audit_hash(hash, 6, now(), '{}')"
         " FROM audit WHERE id = 5", 6),
        ("UPDATE audit SET id = 9 WHERE id = 3", 3),
        ("UPDATE audit_head SET id = 4", 5),
        ("DELETE FROM audit_head", 1),
    ],
)  # fmt: skip
def test_what_was_done_to_it_is_noticed(trail: Trail, sql: str, row: int) -> None:
    trail.do(sql)
    assert trail.broken() == row


def test_a_moved_anchor_is_noticed(trail: Trail) -> None:
    """Whoever takes the first rows away and says that they were purged lacks the purge's own row."""
    trail.do("UPDATE audit_retention SET anchor_id = 2, anchor_hash = (SELECT hash FROM audit WHERE id = 2)")
    trail.do("DELETE FROM audit WHERE id <= 2")
    assert trail.broken() == 1


def test_a_trail_that_was_written_anew_is_not_the_one_that_was_noted_down(trail: Trail) -> None:
    known = audit.verify(trail.dsn).head
    trail.older("{1,2}")
    assert trail.broken() is None
    assert trail.broken(known) == 5
    trail.do("DELETE FROM audit WHERE id = 5")
    trail.do("UPDATE audit_head SET id = 4, hash = (SELECT hash FROM audit WHERE id = 4)")
    assert trail.broken() is None
    assert trail.broken(known) == 5


def test_a_purge_takes_the_oldest_and_leaves_a_whole_trail(trail: Trail) -> None:
    trail.older("{1,2,4}")
    assert audit.purge(trail.dsn, "test") == 2
    # The fourth is as old, but follows one that is not: the trail has no holes.
    assert [row[0] for row in trail.do("SELECT id FROM audit ORDER BY id")] == [3, 4, 5, 6]
    assert trail.broken() is None
    trail.append({"action": "user.delete"})
    assert audit.verify(trail.dsn).rows == 5
    trail.do("DELETE FROM audit WHERE id = 3")
    assert trail.broken() == 3


@pytest.mark.acceptance(22)
def test_nothing_is_purged_under_a_legal_hold_or_before_its_time(trail: Trail) -> None:
    assert audit.purge(trail.dsn, "test") == 0
    trail.older("{1,2}")
    trail.do("UPDATE audit_retention SET hold = true, hold_reason = 'a lawsuit'", user="qvd_api")
    assert audit.purge(trail.dsn, "test") == 0
    trail.do("UPDATE audit_retention SET hold = false, days = NULL", user="qvd_api")
    assert audit.purge(trail.dsn, "test") == 0
    trail.do("UPDATE audit_retention SET days = 400", user="qvd_api")
    assert audit.purge(trail.dsn, "test") == 2


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM audit",
        "UPDATE audit SET entry = '{}'",
        "UPDATE audit_head SET id = 1",
        "UPDATE audit_retention SET anchor_id = 1",
        "INSERT INTO audit (id, at, entry, hash) VALUES (9, now(), '{}', '')",
    ],
)
def test_the_role_of_the_api_cannot(trail: Trail, sql: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        trail.do(sql, user="qvd_api")


def test_the_least_time_is_the_databases_own_rule(trail: Trail) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        trail.do("UPDATE audit_retention SET days = 1", user="qvd_api")


def test_the_command(trail: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify-audit", "--dsn", trail.dsn]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 rows are as they were written")
    known = said.split()[-1]
    assert cli.main(["verify-audit", "--dsn", trail.dsn, "--known", known]) == 0
    assert cli.main(["verify-audit", "--dsn", trail.dsn, "--known", "nonsense"]) == 1
    assert cli.main(["purge-audit", "--dsn", trail.dsn]) == 0
    trail.do("UPDATE audit SET entry = '{}' WHERE id = 2")
    capsys.readouterr()
    assert cli.main(["verify-audit", "--dsn", trail.dsn]) == 1
    assert capsys.readouterr().out.startswith("Broken at row 2: ")


def test_it_holds_few_rows_at_once(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BATCH", 2)
    assert audit.verify(trail.dsn).rows == 5
