"""A daemon with its own gate, and an administrator who can log in there."""

from __future__ import annotations

import argon2

from tests.admin.world import ApiWorld

PASSWORD = "correct canary staple"
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def let_anna_in(api: ApiWorld) -> None:
    """With a password, and with what the owner of a tenant may do."""
    anna = api.anna.administrator_id
    api.ask("UPDATE administrators SET password = %s WHERE id = %s", HASHER.hash(PASSWORD), anna)
    api.ask(
        "INSERT INTO administrator_roles (administrator_id, tenant_id, role_id, role_tenant_id)"
        " SELECT %s, %s, id, tenant_id FROM roles WHERE name = 'Tenant owner'",
        anna,
        api.acme,
    )
