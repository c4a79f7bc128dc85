"""One-time secrets of administrators: C{qvd-db init} and C{qvd-db admin-secret}."""

from __future__ import annotations

import re
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from qvd.auth.local import check
from qvd.db import cli

SECRET = re.compile(r"\b(?:[a-z2-9]{6}-){3}[a-z2-9]{6}\b")


def ask(dsn: str, sql: str) -> list[dict[str, Any]]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


ADMINISTRATORS = "SELECT a.*, password_expires_at - now() AS rest FROM administrators a ORDER BY id"


def test_the_first_administrator(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--dsn", empty_database]) == 0
    [secret] = SECRET.findall(capsys.readouterr().out)
    [made] = ask(empty_database, ADMINISTRATORS)
    assert (made["name"], made["tenant_id"], made["must_change_password"]) == ("admin", 0, True)
    assert 6 <= made["rest"].days <= 7
    assert check(made["password"], secret) and not check(made["password"], secret[:-1])
    [row] = ask(empty_database, "SELECT action, object_id, entry::text AS text FROM audit")
    assert (row["action"], row["object_id"]) == ("administrator.create", made["id"])
    assert secret not in row["text"]


def test_let_in_again(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask(
        database,
        """
        INSERT INTO tenants (name) VALUES ('Acme');
        INSERT INTO administrators (tenant_id, name, password, blocked)
            SELECT id, 'ana', 'old', true FROM tenants WHERE name IN ('Acme', '*');
        INSERT INTO administrator_sessions (hash, administrator_id, client_address, client)
            SELECT name::bytea, 0 + id, '', '' FROM (SELECT id, id::text AS name FROM administrators) a;
        INSERT INTO administrator_tokens (administrator_id, name, hash, scopes, expires_at)
            SELECT id, '', id::text::bytea, '{}', now() FROM administrators;
        INSERT INTO administrator_totp (administrator_id, secret) SELECT id, 'A' FROM administrators;
        """,
    )
    assert cli.main(["admin-secret", "--dsn", database, "Ana@acme", "--hours", "2"]) == 0
    shown = capsys.readouterr()
    assert "ana@Acme" in shown.err and shown.out.strip() not in shown.err
    rows = {row["tenant_id"]: row for row in ask(database, ADMINISTRATORS)}
    boss, ana = rows.pop(0), rows.popitem()[1]
    assert (boss["password"], boss["blocked"], boss["must_change_password"]) == ("old", True, False)
    assert (ana["blocked"], ana["must_change_password"]) == (False, True)
    assert 7000 < ana["rest"].total_seconds() <= 7200
    assert check(ana["password"], shown.out.strip())
    for table in ("administrator_sessions", "administrator_tokens"):
        assert [row["of"] for row in ask(database, f"SELECT administrator_id AS of FROM {table}")] == [boss["id"]]
    assert len(ask(database, "SELECT administrator_id FROM administrator_totp")) == 2
    assert cli.main(["admin-secret", "--dsn", database, "ana", "--without-code"]) == 0
    assert [row["of"] for row in ask(database, "SELECT administrator_id AS of FROM administrator_totp")] == [ana["id"]]
    trail = ask(database, "SELECT action, object_id, tenant_id, entry::text AS text FROM audit ORDER BY id")
    assert [(row["object_id"], row["tenant_id"]) for row in trail] == [(ana["id"], ana["tenant_id"]), (boss["id"], 0)]
    assert shown.out.strip() not in str(trail)


@pytest.mark.parametrize("more", [["nobody"], ["ana@nowhere"], ["ana", "--hours", "0"], ["ana", "--hours", "nan"]])
def test_refusals(database: str, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ask(database, "INSERT INTO administrators (tenant_id, name, password) VALUES (0, 'ana', 'old')")
    assert cli.main(["admin-secret", "--dsn", database, *more]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("qvd-db: ")
    assert ask(database, "SELECT password FROM administrators") == [{"password": "old"}]
    assert ask(database, "SELECT id FROM audit") == []
