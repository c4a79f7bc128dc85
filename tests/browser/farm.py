"""A farm to look at: tenants, people, nodes, desktops in all states, images, jobs, and a trail of what was done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import argon2
import psycopg2
import psycopg2.extras
from attrs import define, field

from qvd.db import onetime
from qvd.db.repair import assign, assign_root
from qvd.model.placement import Decision, Verdict
from qvd.model.secret import Secret
from qvd.model.shipped_roles import TENANT_OWNER

GIB = 1 << 30
PASSWORD = "correct horse battery"
HOSTILE = "<img src=x onerror=window.hit=1>"
"""Must show as text wherever it stands."""
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
TERMS = ("anatomy", "botany", "chemistry", "drawing", "english", "french", "geometry", "history")


@define
class Farm:
    """What is in the database.

    @ivar dsn: of its superuser.
    @ivar secret: of the first administrator, good once.
    @ivar acme: a tenant. C{anna} administrates it, C{root} all of them, with L{PASSWORD}.
    """

    dsn: str
    secret: Secret = field(factory=onetime.new_secret)
    acme: int = 0
    hosts: list[int] = field(factory=list)
    _connection: Any = None

    def __attrs_post_init__(self) -> None:
        self._connection = psycopg2.connect(self.dsn)
        self._connection.autocommit = True

    def close(self) -> None:
        self._connection.close()

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """As the superuser."""
        with self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def insert(self, sql: str, *values: object) -> int:
        return int(self.ask(f"INSERT INTO {sql} RETURNING id", *values)[0]["id"])

    def people(self) -> None:
        """The tenant and the administrators."""
        self.acme = self.insert("tenants (name, description) VALUES ('acme', 'School of arts')")
        with self._connection.cursor() as cursor:
            onetime.make_first(cursor, HASHER.hash(self.secret.reveal()), 24, "test")
            root = self.insert("administrators (tenant_id, name, password) VALUES (0, 'root', %s)", hashed())
            anna = self.insert(
                "administrators (tenant_id, name, password) VALUES (%s, 'anna', %s)", self.acme, hashed()
            )
            assign_root(cursor, root)
            assign(cursor, anna, TENANT_OWNER)

    def node(self, name: str, state: str = "running", free: float = 0.6) -> int:
        """@param free: part of its memory and its cores."""
        host = self.insert("hosts (name, address) VALUES (%s, %s)", name, f"192.0.2.{len(self.hosts) + 11}")
        self.ask(
            "UPDATE host_runtimes SET state = %s, epoch = 1, hypervisor = 'lxc', ok_ts = now(), pid = 1,"
            " lease_until = now() + interval '1 day', usable_ram = %s, available_ram = %s, usable_cpu = 16,"
            " idle_cpu = %s WHERE host_id = %s",
            state,
            64 * GIB,
            int(64 * GIB * free),
            16 * free,
            host,
        )
        self.hosts.append(host)
        return host

    def furnish(self) -> None:
        """Everything that screens show."""
        self.people()
        for name, state, free in (("node1", "running", 0.3), ("node2", "running", 0.7), ("node3", "lost", 0.0)):
            self.node(name, state, free)
        self.ask("UPDATE host_runtimes SET lease_until = now() - interval '1 hour' WHERE host_id = %s", self.hosts[2])
        self.insert("tenants (name, description, blocked) VALUES ('rival', 'Another school', true)")
        desk, lab = self.osf("Debian desktop", 2 * GIB), self.osf("Computer lab", 4 * GIB)
        self.image(desk, "2026.10", "default")
        self.image(desk, "2026.11", "head", tags=("test",))
        self.image(lab, "7", "default")
        self.image(lab, "8-broken", "", state="fail", message="The checksum is not the one that was announced")
        for number in range(24):
            user = self.user(f"student{number + 1:02d}", blocked=number == 7)
            vm = self.vm(user, desk if number % 3 else lab, f"{TERMS[number % len(TERMS)]}-{number + 1:02d}")
            self.state(vm, ("running", "stopped", "running", "starting", "running", "stopping")[number % 6])
            if number % 6 == 2:
                self.connect(vm)
            if number % 8 == 4:
                self.expire(vm, 2 + number)
        self.fail_to_start(self.vm(self.user("student25"), lab, "physics-25"))
        self.vm(self.user(HOSTILE, HOSTILE), desk, HOSTILE)
        self.job("vms.bulk", "running", 40, 120, log=("12:00:01 begun", "12:00:09 40 of 120 done"))
        self.job("image.import", "succeeded", 1, 1)
        problem = {"type": "/problems/upload-failed", "title": "The upload failed", "detail": "The connection ended"}
        self.job("image.import", "failed", 0, 1, problem=problem)
        self.role()
        self.trail()
        self.insert(
            "properties (tenant_id, key, description, type, kinds) VALUES (%s, 'room', '', 'text', '{vm,user}')",
            self.acme,
        )

    def examples(self) -> dict[str, int]:
        """An object of each kind that has something to show."""
        asked = {
            "vm": "SELECT id FROM vms WHERE name LIKE 'physics%%'",
            "host": "SELECT id FROM hosts WHERE name = 'node1'",
            "osf": "SELECT id FROM osfs WHERE name = 'Debian desktop'",
            "image": "SELECT id FROM dis WHERE version = '2026.11'",
            "user": "SELECT id FROM users WHERE login = 'student01'",
            "tenant": "SELECT id FROM tenants WHERE name = 'acme'",
            "administrator": "SELECT id FROM administrators WHERE name = 'anna'",
            "role": "SELECT id FROM roles WHERE name = 'Class keeper'",
            "job": "SELECT id FROM jobs WHERE state = 'running'",
            "property": "SELECT id FROM properties WHERE key = 'room'",
            "entry": "SELECT max(id) AS id FROM audit WHERE action = 'user.update'",
        }
        return {name: int(self.ask(sql.replace("%%", "%"))[0]["id"]) for name, sql in asked.items()}

    def osf(self, name: str, memory: int) -> int:
        return self.insert("osfs (tenant_id, name, memory) VALUES (%s, %s, %s)", self.acme, name, memory)

    def image(
        self, osf: int, version: str, tag: str, tags: Sequence[str] = (), state: str = "published", message: str = ""
    ) -> int:
        made = self.insert(
            "dis (tenant_id, osf_id, path, version, state, message, size, type, published_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, 'lxc', CASE WHEN %s = 'published' THEN now() END)",
            self.acme,
            osf,
            f"{osf}-{version}.tar.zst",
            version,
            state,
            message,
            GIB,
            state,
        )
        for each in (tag, *tags) if tag != "head" else tags:
            self.ask(
                "INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, %s, %s)"
                " ON CONFLICT (osf_id, tag) DO UPDATE SET di_id = excluded.di_id",
                osf,
                each,
                made,
            ) if each else None
        return made

    def user(self, login: str, description: str = "", blocked: bool = False) -> int:
        sql = "users (tenant_id, login, description, blocked) VALUES (%s, %s, %s, %s)"
        return self.insert(sql, self.acme, login, description, blocked)

    def vm(self, user: int, osf: int, name: str) -> int:
        sql = "vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)"
        return self.insert(sql, self.acme, user, osf, name)

    def state(self, vm: int, state: str, host: int | None = None) -> None:
        """As its node would have it."""
        if state == "stopped":
            self.ask(
                "UPDATE vm_runtimes SET vm_state = 'stopped', desired_state = 'stopped', host_id = NULL,"
                " acked_generation = generation, current_di_id = NULL WHERE vm_id = %s",
                vm,
            )
            return
        self.ask(
            "UPDATE vm_runtimes r SET vm_state = %s, desired_state = %s, generation = generation + 1,"
            " acked_generation = generation + 1, host_id = %s, host_epoch = 1, vm_address = '127.0.0.1',"
            " vm_vma_port = 1, vm_x_port = 2, reserved_ram = %s, since = now(), current_di_id = g.di_id"
            " FROM vms v LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
            " WHERE v.id = r.vm_id AND r.vm_id = %s",
            state,
            "running" if state in ("starting", "running") else "stopped",
            host or self.hosts[vm % 2],
            2 * GIB,
            vm,
        )

    def fail_to_start(self, vm: int) -> None:
        """The last start has found no node."""
        full = {"free": GIB, "usable": 64 * GIB, "available": 2 * GIB, "idle": 0.5, "cores": 16, "hypervisor": "lxc"}
        lost = {**full, "free": 64 * GIB, "available": 0, "idle": 0.0}
        found = [
            Verdict("node1", "has not enough memory: 1024 of 4096 MiB are left", 0.0, full),
            Verdict("node3", "is lost", 0.0, lost),
        ]
        placement = Decision(None, None, found).document()
        self.ask(
            "UPDATE vm_runtimes SET failures = 2, last_error = %s, placement = %s WHERE vm_id = %s",
            "The disk image 8-broken cannot be read",
            json.dumps(placement),
            vm,
        )

    def connect(self, vm: int) -> None:
        """Somebody has it on a screen."""
        session = str(uuid4())
        self.ask(
            "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state,"
            " connected_at) SELECT %s, tenant_id, id, user_id, %s, 1, '192.0.2.77:5', 'connected', now() FROM vms"
            " WHERE id = %s",
            session,
            self.hosts[0],
            vm,
        )
        self.ask("UPDATE vm_runtimes SET session_id = %s WHERE vm_id = %s", session, vm)

    def expire(self, vm: int, days: int) -> None:
        self.ask(
            "UPDATE vm_runtimes SET vm_expiration_soft = now() + make_interval(days => %s),"
            " vm_expiration_hard = now() + make_interval(days => %s) WHERE vm_id = %s",
            days,
            days + 2,
            vm,
        )

    def job(
        self,
        kind: str,
        state: str,
        done: int,
        total: int,
        log: Sequence[str] = (),
        problem: dict[str, Any] | None = None,
    ) -> int:
        running = state == "running"
        return self.insert(
            "jobs (kind, state, tenant_id, administrator_id, administrator_name, acls, request_id, client_address,"
            " arguments, done, total, unit, log, problem, token, lease_until, started_at, ended_at)"
            " SELECT %s, %s, tenant_id, id, name, '{}', 'test', '127.0.0.1', '{}', %s, %s, 'objects', %s, %s, %s,"
            " CASE WHEN %s THEN now() + interval '1 day' END, now() - interval '30 seconds',"
            " CASE WHEN NOT %s THEN now() END FROM administrators WHERE name = 'anna'",
            kind,
            state,
            done,
            total,
            list(log),
            json.dumps(problem) if problem else None,
            str(uuid4()) if running else None,
            running,
            running,
        )

    def role(self) -> int:
        """One of the tenant's own, which inherits, grants and excludes."""
        made = self.insert(
            "roles (tenant_id, name, description) VALUES (%s, 'Class keeper', 'Of a class room')", self.acme
        )
        self.ask(
            "INSERT INTO role_parents (role_id, tenant_id, parent_id, parent_tenant_id)"
            " SELECT %s, %s, id, tenant_id FROM roles WHERE name = 'Helpdesk'",
            made,
            self.acme,
        )
        for acl, positive in (("vm.update.message", True), ("vm.update.disconnect-user", False)):
            self.ask("INSERT INTO role_acls (role_id, acl, positive) VALUES (%s, %s, %s)", made, acl, positive)
        return made

    def trail(self) -> None:
        """What was done."""
        was, now = {"description": "", "blocked": False}, {"description": "Class 4b", "blocked": True}
        student = {"name": "student01", "language": "auto"}
        done: Sequence[tuple[str, dict[str, Any] | None, dict[str, Any] | None]] = (
            ("user.update", student | was, student | now),
            ("vm.create", None, {"name": "physics-25", "di_tag": "default"}),
            ("osf.delete", {"name": "Old desktop", "memory": GIB}, None),
        )
        for action, before, after in done:
            entry = {
                "action": action,
                "outcome": "done",
                "kind": action.partition(".")[0],
                "object_id": 1,
                "object_name": (after or before or {})["name"],
                "object_tenant_id": self.acme,
                "administrator_name": "anna",
                "administrator_tenant_id": self.acme,
                "client_address": "192.0.2.9",
                "request_id": uuid4().hex[:16],
                "arguments": {},
                "before": before,
                "after": after,
                "status": 200,
            }
            self.ask("SELECT audit_append(%s::jsonb)", json.dumps(entry))

    def many(self, number: int) -> None:
        """So many VMs more."""
        osf = self.osf("Many", GIB)
        self.image(osf, "1", "default")
        self.ask(
            "INSERT INTO users (tenant_id, login) SELECT %s, 'many' || n FROM generate_series(1, %s) n",
            self.acme,
            number,
        )
        self.ask(
            "INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT u.tenant_id, u.id, %s, 'desk-' || u.id"
            " FROM users u WHERE u.login LIKE 'many%%'",
            osf,
        )


def hashed() -> str:
    return HASHER.hash(PASSWORD)
