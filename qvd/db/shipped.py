# -*- test-case-name: tests.contract.test_db_roles -*-
"""The roles that come with the product, as SQL: what their migration and the repair write."""

from __future__ import annotations

from qvd.model.declared import COMMON
from qvd.model.shipped_roles import ALL, GRAPH

MARK = "-- The roles that come with the product, by qvd.db.shipped."
WIDTH = 118


def seed_sql() -> str:
    """Statements that make the shipped roles, in a database where they have no permissions and no parents."""
    names = [f"({each.role_id}, {COMMON}, '{each.name}', {boolean(not each.assignable)}, true)" for each in ALL]
    acls = [
        f"({role.role_id}, '{name}', {boolean(positive)})"
        for role in GRAPH.values()
        for positive, held in ((True, role.positives), (False, role.negatives))
        for name in sorted(held)
    ]
    parents = [
        f"({role.role_id}, {COMMON}, {parent}, {COMMON})" for role in GRAPH.values() for parent in sorted(role.parents)
    ]
    return "\n".join(
        (
            MARK,
            f"INSERT INTO roles (id, tenant_id, name, internal, fixed) VALUES\n{wrapped(names)}",
            "ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, name = excluded.name,"
            " internal = excluded.internal,\n    fixed = true;",
            f"INSERT INTO role_acls (role_id, acl, positive) VALUES\n{wrapped(acls)};",
            f"INSERT INTO role_parents (role_id, tenant_id, parent_id, parent_tenant_id) VALUES\n{wrapped(parents)};\n",
        )
    )


def boolean(value: bool) -> str:
    return "true" if value else "false"


def wrapped(rows: list[str]) -> str:
    """Rows of a statement, as many on a line as fit."""
    lines, line = [], "   "
    for index, row in enumerate(rows):
        text = row if index == len(rows) - 1 else f"{row},"
        if len(line) + 1 + len(text) > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {text}"
    return "\n".join([*lines, line])
