"""The demo's tenant: a user with two desktops, an administrator, and the node that runs them."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import argon2
import psycopg2

from qvd.db.repair import assign
from qvd.demo.tls import write_private
from qvd.model.shipped_roles import TENANT_OWNER

TENANT, USER, ADMINISTRATOR, NODE = "demo", "alice", "admin", "demo"
VMS = ("desktop", "second")
MEMORY = 512 * 1024 * 1024


def new_password() -> str:
    """Sixteen letters and digits, easy to type."""
    return "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(16))


def seed(dsn: str) -> dict[str, Any]:
    """Fill an empty schema.

    @return: what only exists in clear here: passwords; and the first VM's id and name.
    """
    user_password, admin_password = new_password(), new_password()
    hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:

            def insert(sql: str, *values: object) -> int:
                cursor.execute(f"INSERT INTO {sql} RETURNING id", values)
                row = cursor.fetchone()
                assert row is not None
                return int(row[0])

            tenant = insert("tenants (name) VALUES (%s)", TENANT)
            user = insert(
                "users (tenant_id, login, password) VALUES (%s, %s, %s)", tenant, USER, hasher.hash(user_password)
            )
            administrator = insert(
                "administrators (tenant_id, name, password) VALUES (%s, %s, %s)",
                tenant,
                ADMINISTRATOR,
                hasher.hash(admin_password),
            )
            assign(cursor, administrator, TENANT_OWNER)
            osf = insert("osfs (tenant_id, name, memory) VALUES (%s, 'Debian desktop', %s)", tenant, MEMORY)
            di = insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', 'host files')", tenant, osf)
            cursor.execute("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", (osf, di))
            insert("hosts (name, address) VALUES (%s, '127.0.0.1')", NODE)
            vm_ids = [
                insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", tenant, user, osf, name)
                for name in VMS
            ]
    finally:
        connection.close()
    return {
        "tenant": TENANT,
        "user": USER,
        "password": user_password,
        "vm_id": vm_ids[0],
        "vm_name": VMS[0],
        "admin_user": ADMINISTRATOR,
        "admin_password": admin_password,
    }


def write_credentials(path: Path, secrets_of_seed: dict[str, Any], port: int, admin_port: int, ca_file: Path) -> None:
    """What a client needs to know, readable by the owner only."""
    document = {
        "host": "localhost",
        "port": port,
        **secrets_of_seed,
        "ca_file": str(ca_file),
        "admin_url": f"https://localhost:{admin_port}/",
    }
    write_private(path, json.dumps(document, indent=2).encode() + b"\n")


def write_curl_files(folder: Path, credentials: dict[str, Any]) -> None:
    """C{curl.conf} and C{login.json}, with which the README calls the administration. The cookies stay there, too."""
    jar = folder / "cookies"
    lines = (
        f'cacert = "{credentials["ca_file"]}"',
        f'cookie = "{jar}"',
        f'cookie-jar = "{jar}"',
        'header = "Content-Type: application/json"',
        'write-out = "\\n"',
        "globoff",
        "silent",
        "show-error",
        "fail-with-body",
    )
    write_private(folder / "curl.conf", "".join(f"{line}\n" for line in lines).encode())
    login = {
        "name": credentials["admin_user"],
        "tenant": credentials["tenant"],
        "password": credentials["admin_password"],
    }
    write_private(folder / "login.json", json.dumps(login).encode())
    write_private(jar, b"")


def write_cli_files(folder: Path, credentials: dict[str, Any]) -> None:
    """C{cli.toml} and C{password}, with which the README calls it by the program C{qvd}. Its token is written there."""
    profile = {
        "url": credentials["admin_url"].rstrip("/"),
        "ca": credentials["ca_file"],
        "tenant": credentials["tenant"],
        "name": credentials["admin_user"],
    }
    # What JSON writes is a text of TOML as well.
    lines = ["[profiles.default]", *(f"{name} = {json.dumps(value)}" for name, value in profile.items())]
    write_private(folder / "cli.toml", "".join(f"{line}\n" for line in lines).encode())
    write_private(folder / "password", f"{credentials['admin_password']}\n".encode())
