"""The tables of roles, what is made of them, and their repair, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from importlib.resources import files
from random import Random
from threading import Thread
from typing import Any

import psycopg2
import pytest
from attrs import frozen
from psycopg2.extensions import make_dsn
from twisted.internet import reactor
from zope.interface.verify import verifyObject

from qvd.db import cli
from qvd.db.pool import Pool
from qvd.db.repair import repair
from qvd.db.roles import Authority, Roles
from qvd.db.shipped import seed_sql
from qvd.interfaces.administration import IAuthority
from qvd.interfaces.roles import IRoles
from qvd.model.acls import CATALOGUE, matching
from qvd.model.errors import InvalidRequest, NotFound
from qvd.model.roles import effective
from qvd.model.shipped_roles import GRAPH, ROOT, TENANT_OWNER
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture


@frozen
class Installation:
    """Two tenants with an administrator each, and one over them, as the owner of the schema sees them."""

    dsn: str
    connection: Any

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def insert(self, sql: str, *values: object) -> int:
        return int(self.ask(f"INSERT INTO {sql} RETURNING id", *values)[0][0])

    def role(self, tenant_id: int, name: str) -> int:
        return self.insert("roles (tenant_id, name) VALUES (%s, %s)", tenant_id, name)

    def administrator(self, tenant_id: int, name: str) -> int:
        return self.insert("administrators (tenant_id, name, password) VALUES (%s, %s, '')", tenant_id, name)

    def inherit(self, role_id: int, tenant_id: int, parent: int, parent_tenant: int) -> None:
        self.ask("INSERT INTO role_parents VALUES (%s, %s, %s, %s)", role_id, tenant_id, parent, parent_tenant)

    def hold(self, administrator_id: int, tenant_id: int, role_id: int, role_tenant: int) -> None:
        self.ask(
            "INSERT INTO administrator_roles VALUES (%s, %s, %s, %s)", administrator_id, tenant_id, role_id, role_tenant
        )


@pytest.fixture
def there(database: str) -> Iterator[Installation]:
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        yield Installation(database, connection)


@asynchronous_fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = Pool(reactor, make_dsn(database, user="qvd_api"), size=2, deadline=10.0, rng=Random(1))
    await made.start()
    yield made
    await made.stop()


def test_the_migration_makes_the_shipped_roles(there: Installation) -> None:
    """Where it does not: put what L{seed_sql} returns into the file, unless that was released already."""
    assert seed_sql() in (files("qvd.db.schema") / "0016_roles.sql").read_text()
    assert there.ask("SELECT count(*) FROM roles WHERE fixed AND tenant_id = -1") == [(len(GRAPH),)]


@pytest.mark.acceptance(19)
@asynchronous
async def test_shipped_roles_are_read_as_they_are_declared(pool: Pool) -> None:
    assert await Roles(pool).graph(GRAPH) == GRAPH
    assert set(await Roles(pool).graph([TENANT_OWNER])) < set(GRAPH)
    verifyObject(IRoles, Roles(pool))
    verifyObject(IAuthority, Authority(pool))


@asynchronous
async def test_who_may_do_what(there: Installation, pool: Pool) -> None:
    acme = there.insert("tenants (name) VALUES ('acme')")
    boss, anna, none = there.administrator(0, "boss"), there.administrator(acme, "anna"), there.administrator(acme, "n")
    there.hold(boss, 0, ROOT, -1)
    there.hold(anna, acme, ROOT, -1)
    authority = Authority(pool)
    assert await authority.acls(boss) == set(CATALOGUE)
    assert await authority.acls(anna) == set(CATALOGUE) - matching("tenant.*")
    assert await authority.acls(none) == await authority.acls(999999) == frozenset()
    there.ask(
        "UPDATE administrator_roles SET expires_at = now() - interval '1 second' WHERE administrator_id = %s", anna
    )
    assert await authority.acls(anna) == frozenset()
    assert await authority.multitenant()


@pytest.mark.parametrize(("value", "several"), [("1", True), ("true", True), ("0", False), ('"false"', False)])
@asynchronous
async def test_one_tenant(there: Installation, pool: Pool, value: str, several: bool) -> None:
    there.ask("DROP TABLE IF EXISTS configs; CREATE TABLE configs (tenant_id integer, key text, value text)")
    there.ask("GRANT SELECT ON configs TO qvd_api")
    there.ask("INSERT INTO configs VALUES (-1, 'wat.multitenant', %s)", value)
    boss = there.administrator(0, "boss")
    there.hold(boss, 0, ROOT, -1)
    assert await Authority(pool).multitenant() is several
    assert ("tenant.create." in await Authority(pool).acls(boss)) is several


def test_no_row_points_into_another_tenant(there: Installation) -> None:
    acme, rival = (there.insert("tenants (name) VALUES (%s)", name) for name in ("acme", "rival"))
    anna, mine, theirs = there.administrator(acme, "anna"), there.role(acme, "r"), there.role(rival, "r")
    for claimed in (acme, rival, -1):
        with pytest.raises(psycopg2.IntegrityError):
            there.hold(anna, acme, theirs, claimed)
        with pytest.raises(psycopg2.IntegrityError):
            there.inherit(mine, acme, theirs, claimed)
        with pytest.raises(psycopg2.IntegrityError):
            there.inherit(ROOT, -1, mine, claimed)
    with pytest.raises(psycopg2.IntegrityError):
        there.hold(anna, rival, theirs, rival)
    there.hold(anna, acme, mine, acme)
    there.inherit(mine, acme, ROOT, -1)
    with pytest.raises(psycopg2.IntegrityError):
        there.ask("DELETE FROM roles WHERE id = %s", mine)


def test_no_role_inherits_itself(there: Installation) -> None:
    first, second, third = (there.role(-1, name) for name in "abc")
    there.inherit(first, -1, second, -1)
    there.inherit(second, -1, third, -1)
    for child, parent in ((third, first), (second, first), (first, first)):
        with pytest.raises(psycopg2.errors.CheckViolation):
            there.inherit(child, -1, parent, -1)
    with pytest.raises(psycopg2.errors.CheckViolation):
        there.ask("UPDATE role_parents SET parent_id = %s WHERE role_id = %s", first, second)


@pytest.mark.acceptance(19)
def test_two_halves_of_a_circle_at_once(there: Installation) -> None:
    first, second = there.role(-1, "a"), there.role(-1, "b")
    failures: list[psycopg2.Error] = []

    def other() -> None:
        try:
            with closing(psycopg2.connect(there.dsn)) as link, link, link.cursor() as cursor:
                cursor.execute("INSERT INTO role_parents VALUES (%s, -1, %s, -1)", (second, first))
        except psycopg2.Error as error:
            failures.append(error)

    with closing(psycopg2.connect(there.dsn)) as link, link.cursor() as cursor:
        cursor.execute("INSERT INTO role_parents VALUES (%s, -1, %s, -1)", (first, second))
        thread = Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        link.commit()
        thread.join(30)
    assert [error.diag.constraint_name for error in failures] == ["role_cycle"]


def test_a_role_does_not_have_and_exclude_the_same(there: Installation) -> None:
    role_id = there.role(-1, "a")
    there.ask("INSERT INTO role_acls VALUES (%s, 'vm.spy.', true)", role_id)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        there.ask("INSERT INTO role_acls VALUES (%s, 'vm.spy.', false)", role_id)
    with pytest.raises(psycopg2.errors.CheckViolation):
        there.ask("INSERT INTO role_acls VALUES (%s, 'all', true)", role_id)


@pytest.mark.acceptance(28)
@asynchronous
async def test_repair(there: Installation, pool: Pool) -> None:
    """Acceptance 28: every role is damaged, and somebody gets it all back, for a while, in the audit trail."""
    boss = there.administrator(0, "boss")
    there.hold(boss, 0, TENANT_OWNER, -1)
    there.ask("UPDATE administrators SET blocked = true")
    there.ask("DELETE FROM role_acls; DELETE FROM role_parents; DELETE FROM roles WHERE id <> 68")
    there.ask("UPDATE roles SET name = 'Root', fixed = false")
    other = there.role(-1, "Auditor")
    there.inherit(TENANT_OWNER, -1, other, -1)
    assert await Authority(pool).acls(boss) == frozenset()
    assert repair(there.dsn, "boss", 2, "tester").administrator == "boss@*"
    assert await Roles(pool).graph(GRAPH) == GRAPH
    assert there.ask("SELECT name FROM roles WHERE id = %s", other) == [(f"Auditor ({other})",)]
    assert await Authority(pool).acls(boss) == set(CATALOGUE)
    assert there.ask("SELECT blocked FROM administrators") == [(False,)]
    [(left,)] = there.ask("SELECT expires_at - now() FROM administrator_roles WHERE role_id = %s", ROOT)
    assert 7100 < left.total_seconds() <= 7200
    [(entry,)] = there.ask("SELECT entry FROM audit")
    assert (entry["action"], entry["object_name"], entry["administrator_name"]) == ("role.repair", "boss@*", "tester")
    assert effective(GRAPH, [ROOT]) == set(CATALOGUE)


@pytest.mark.acceptance(28)
def test_repair_from_the_command_line(there: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    acme = there.insert("tenants (name) VALUES ('acme')")
    anna = there.administrator(acme, "anna")
    there.hold(anna, acme, ROOT, -1)
    assert cli.main(["repair-roles", "--dsn", there.dsn, "--administrator", "Anna@ACME", "--hours", "1"]) == 0
    assert "anna@acme holds Root for 1 hours" in capsys.readouterr().out
    # What was for good stays so.
    assert there.ask("SELECT expires_at FROM administrator_roles") == [(None,)]
    assert cli.main(["repair-roles", "--dsn", there.dsn]) == 0
    with pytest.raises(NotFound):
        repair(there.dsn, "anna", 1, "tester")
    with pytest.raises(InvalidRequest):
        repair(there.dsn, "", -1, "tester")
    assert there.ask("SELECT count(*) FROM audit") == [(2,)]
