"""A world of rows for store tests: one tenant, one user, one VM, one node, and a pool as the node's role."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.extras
from twisted.internet import reactor

from qvd.db.hosts import Hosts
from qvd.db.ownership import Ownership
from qvd.db.pool import Pool
from qvd.db.sessions import Sessions
from qvd.db.users import Users
from qvd.db.vms import VMs
from qvd.model.ids import SessionId, TenantId, UserId, VMId
from qvd.model.placement import Weights
from qvd.model.records import Capacity, HostState, Lease, SessionSpec, VMSpec
from qvd.model.secret import Secret

GIB = 1 << 30
SECRET = Secret("a guest's secret")


class World:
    """Stores on a database of the test's own, and a way round them for the test."""

    def __init__(self, dsn: str) -> None:
        self._admin = psycopg2.connect(dsn)
        self._admin.autocommit = True
        node_dsn = psycopg2.extensions.make_dsn(dsn, user="qvd_node")
        self.pool = Pool(reactor, node_dsn, size=4, deadline=10.0, rng=Random(1))
        self.hosts, self.sessions, self.users = Hosts(self.pool), Sessions(self.pool), Users(self.pool)
        self.vms, self.ownership = VMs(self.pool, Weights(), lambda: 0.5), Ownership(self.pool)
        self.tenant = TenantId(self.insert("tenants (name) VALUES ('acme')"))
        self.user = UserId(self.insert("users (tenant_id, login) VALUES (%s, 'Alice')", self.tenant))
        self.osf = self.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', %s)", self.tenant, GIB)
        self.di = self.insert(
            "dis (tenant_id, osf_id, path, version) VALUES (%s, %s, 'desk', '1')", self.tenant, self.osf
        )
        self.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", self.osf, self.di)
        self.host = self.insert("hosts (name, address) VALUES ('node1', '127.0.0.1')")
        self.vm_id = self.new_vm("one")

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """As the superuser."""
        with self._admin.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def insert(self, sql: str, *values: object) -> int:
        return int(self.ask(f"INSERT INTO {sql} RETURNING id", *values)[0]["id"])

    def new_vm(self, name: str) -> VMId:
        return VMId(
            self.insert(
                "vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", self.tenant, self.user, self.osf, name
            )
        )

    def row(self, vm_id: VMId | None = None) -> dict[str, Any]:
        """The run-time row."""
        return self.ask("SELECT * FROM vm_runtimes WHERE vm_id = %s", vm_id or self.vm_id)[0]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return self.ask("SELECT * FROM events WHERE kind = %s ORDER BY id", kind)

    def new_host(self, name: str) -> int:
        return self.insert("hosts (name, address) VALUES (%s, '127.0.0.1')", name)

    async def running_host(self, memory: int = 8 * GIB, name: str = "node1") -> Lease:
        """Register a node, with so much memory for VMs."""
        lease = await self.hosts.register(name, "127.0.0.1", 30.0)
        await self.hosts.renew(lease, 30.0, Capacity(memory, 2.0, memory, 1.5))
        await self.hosts.set_state(lease, HostState.RUNNING)
        return lease

    async def claimed(self, lease: Lease, vm_id: VMId | None = None) -> VMSpec:
        """Order a start and take it up."""
        await self.vms.order_start(vm_id or self.vm_id, "test")
        spec = await self.ownership.claim_start(lease, vm_id or self.vm_id, SECRET)
        assert spec is not None
        return spec

    def session(self, lease: Lease, vm_id: VMId | None = None) -> SessionSpec:
        return SessionSpec(SessionId(str(uuid4())), vm_id or self.vm_id, self.tenant, self.user, lease, "192.0.2.1:5")

    def close_admin(self) -> None:
        """Before the server is restarted."""
        self._admin.close()

    async def close(self) -> None:
        await self.pool.stop()
        self._admin.close()
