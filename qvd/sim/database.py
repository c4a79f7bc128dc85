# -*- test-case-name: tests.contract.test_sim_run -*-
"""The simulation's database: a real PostgreSQL with rows for a whole farm, and with a clock that can be set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
import psycopg2.extras
from psycopg2.extensions import parse_dsn

from qvd.db import migrate
from qvd.db.connection import reason_of
from qvd.model.errors import DatabaseUnavailable
from qvd.sim.scenario import Scenario, Tenant

EPOCH = 1_767_571_200
"""Midnight of the simulated day, seconds since 1970: a Monday."""
TURN = "qvd_sim_turn"
MIB = 1 << 20
IMAGE = "desktop"
"""The disk image of all VMs."""

# Names without a schema are looked up in "public" before PostgreSQL's own, so these take the place of its clock in all
# statements, defaults and triggers. A sequence is read without a snapshot: all see the new time at once.
CLOCK = """
    CREATE SEQUENCE public.sim_microseconds MINVALUE 0 START 0;
    GRANT SELECT ON public.sim_microseconds TO PUBLIC;
"""
REPLACED = ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp")
NOW = """
    CREATE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RETURN (SELECT to_timestamp(last_value / 1e6) FROM public.sim_microseconds);
    END $$
"""
REACTIONS = """
    SELECT extract(epoch FROM taken.at - ordered.at)::float8 AS seconds FROM events ordered
    JOIN LATERAL (
        SELECT at FROM events later WHERE later.vm_id = ordered.vm_id AND later.id > ordered.id
        AND later.kind = 'vm.starting' ORDER BY later.id LIMIT 1
    ) taken ON true
    WHERE ordered.kind = 'vm.ordered' AND ordered.before ->> 'vm_state' = 'stopped'
    AND ordered.after ->> 'desired_state' = 'running' AND ordered.after ->> 'host_id' IS NOT NULL
"""


class SimulationDatabase:
    """An empty database, made ready. All calls wait for the server.

    @param dsn: of the database, for a role that may do everything in it.
    @raise DatabaseUnavailable: it does not answer.
    """

    def __init__(self, dsn: str, virtual: bool) -> None:
        self.dsn = dsn
        self._virtual = virtual
        try:
            self._connection = psycopg2.connect(dsn)
        except psycopg2.OperationalError as error:
            raise DatabaseUnavailable(f"The database cannot be reached: {reason_of(error)}") from None
        self._connection.autocommit = True
        self._time = -1

    def ask(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> list[dict[str, Any]]:
        """One statement."""
        with self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, parameters or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def prepare(self, zero: float) -> None:
        """Schema and clock.

        @param zero: second of the simulated day.
        @raise qvd.model.errors.QVDError: it is not empty.
        """
        if self._virtual:
            name = parse_dsn(self.dsn)["dbname"].replace('"', '""')
            self.ask(CLOCK)
            for function in REPLACED:
                self.ask(NOW.format(name=function))
            self.ask(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
            self._connection.close()
            self._connection = psycopg2.connect(self.dsn)
            self._connection.autocommit = True
            self.set_time(zero)
        migrate.initialize(self.dsn, login_roles=True)

    def seed(self, scenario: Scenario) -> None:
        """Nodes, tenants, users and VMs."""
        for node in scenario.nodes:
            self.ask("INSERT INTO hosts (name, address) VALUES (%s, '127.0.0.1')", (node.name,))
        for tenant in scenario.tenants:
            self._seed_tenant(tenant)
        self.ask("ANALYZE")

    def _seed_tenant(self, tenant: Tenant) -> None:
        tenant_id = self._insert("tenants (name) VALUES (%s)", tenant.name)
        osf = self._insert(
            "osfs (tenant_id, name, memory) VALUES (%s, 'desktop', %s)", tenant_id, tenant.memory_mib * MIB
        )
        di = self._insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, %s, '1')", tenant_id, osf, IMAGE)
        self.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", (osf, di))
        self.ask(
            "WITH made AS (INSERT INTO users (tenant_id, login)"
            "   SELECT %(tenant)s, 'user' || n FROM generate_series(1, %(count)s) n RETURNING id, login),"
            " vms AS (INSERT INTO vms (tenant_id, user_id, osf_id, name)"
            "   SELECT %(tenant)s, id, %(osf)s, login FROM made ORDER BY id)"
            " INSERT INTO user_tokens (token_hash, tenant_id, user_id, multi_use, expires_at)"
            " SELECT sha256(convert_to('sim-' || id, 'UTF8')), %(tenant)s, id, true, 'infinity' FROM made",
            {"tenant": tenant_id, "count": tenant.vms, "osf": osf},
        )

    def _insert(self, sql: str, *values: object) -> int:
        return int(self.ask(f"INSERT INTO {sql} RETURNING id", values)[0]["id"])

    def people(self) -> list[dict[str, Any]]:
        """Users with their VMs: C{user_id}, C{vm_id}, C{tenant}, C{memory}, in a fixed order."""
        return self.ask(
            "SELECT v.user_id, v.id AS vm_id, t.name AS tenant, t.id AS tenant_id, o.memory, v.name, u.login"
            " FROM vms v JOIN users u ON u.id = v.user_id JOIN tenants t ON t.id = v.tenant_id"
            " JOIN osfs o ON o.id = v.osf_id ORDER BY v.id"
        )

    def run_already(self, vms: Sequence[tuple[int, str, str, str, int, int]]) -> None:
        """Rows of VMs that run when the day begins.

        @param vms: VM, node, address, secret, port of the agent, port of nxagent.
        """
        with self._connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor,
                "UPDATE vm_runtimes r SET vm_state = 'running', phase = 'running', detail = 'Running',"
                " desired_state = 'running', generation = 1, acked_generation = 1, host_id = h.id, host_epoch = 0,"
                " vm_address = w.address, vm_secret = w.secret, vm_vma_port = w.vma, vm_x_port = w.x"
                " FROM (VALUES %s) AS w (vm_id, node, address, secret, vma, x) JOIN hosts h ON h.name = w.node"
                " WHERE r.vm_id = w.vm_id",
                vms,
            )
        self.ask("ANALYZE")

    def set_time(self, seconds: float) -> None:
        """@param seconds: of the simulated day."""
        now = int((EPOCH + seconds) * 1e6)
        if self._virtual and now != self._time:
            self._time = now
            self.ask("SELECT setval('public.sim_microseconds', %s)", (now,))

    def ring(self, number: int) -> None:
        """The bell that L{qvd.sim.pump.Assembly} waits for."""
        self.ask("SELECT pg_notify(%s, %s)", (TURN, str(number)))

    def starting(self) -> dict[str, int]:
        """By phase, the VMs that are on their way."""
        rows = self.ask("SELECT phase, count(*) FROM vm_runtimes WHERE vm_state = 'starting' GROUP BY phase")
        waiting = self.ask(
            "SELECT count(*) FROM vm_runtimes WHERE vm_state = 'stopped' AND generation > acked_generation"
        )
        return {"ordered": waiting[0]["count"], **{row["phase"]: row["count"] for row in rows}}

    def leftovers(self) -> dict[str, int]:
        """Rows that nobody would clean up any more."""
        dead = "(SELECT host_id FROM host_runtimes WHERE state IN ('lost', 'stopped'))"
        return {
            "bound_to_dead_nodes": self._count(f"vm_runtimes WHERE host_id IN {dead}"),
            "sessions_of_dead_nodes": self._count(f"sessions WHERE ended_at IS NULL AND host_id IN {dead}"),
        }

    def _count(self, what: str) -> int:
        return int(self.ask(f"SELECT count(*) FROM {what}")[0]["count"])

    def reactions(self) -> list[float]:
        """Seconds from each order to start a VM to its being taken up by its node, by the database's clock."""
        return [row["seconds"] for row in self.ask(REACTIONS)]

    def parameters(self) -> dict[str, object]:
        """How a node reaches it: settings of C{node.conf}."""
        known = parse_dsn(self.dsn)
        settings: dict[str, object] = {"database.name": known["dbname"], "database.host": known.get("host", "")}
        if "port" in known:
            settings["database.port"] = int(known["port"])
        if "password" in known:
            settings |= {"database.user": known["user"], "database.password": known["password"]}
        return settings

    def close(self) -> None:
        """Before the server is stopped."""
        self._connection.close()
