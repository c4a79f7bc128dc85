"""VMs of the two tenants, with what they are made of, for the API's tests."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from attrs import define, field

from tests.admin.world import ApiWorld

GIB = 1 << 30


@define
class Desks:
    """One user, one OSF with an image and one stopped VM for each tenant, and a node with room.

    @ivar user: of acme. C{osf}, C{di}, C{vm} likewise; those of rival have C{their} before the name.
    """

    api: ApiWorld
    user: int = field(init=False)
    osf: int = field(init=False)
    di: int = field(init=False)
    vm: int = field(init=False)
    their_user: int = field(init=False)
    their_osf: int = field(init=False)
    their_di: int = field(init=False)
    their_vm: int = field(init=False)
    host: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.user, self.osf, self.di, self.vm = self._made(self.api.acme, "alice")
        self.their_user, self.their_osf, self.their_di, self.their_vm = self._made(self.api.rival, "ruth")
        self.host = self.new_host("node1")

    def _made(self, tenant: int, login: str) -> tuple[int, int, int, int]:
        insert = self.api.insert
        user = insert("users (tenant_id, login) VALUES (%s, %s)", tenant, login)
        osf = insert("osfs (tenant_id, name, memory) VALUES (%s, 'desk', %s)", tenant, GIB)
        di = insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '1')", tenant, osf)
        return user, osf, di, self.new_vm(tenant, user, osf, f"{login}-1")

    def new_vm(self, tenant: int, user: int, osf: int, name: str) -> int:
        sql = "vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)"
        return self.api.insert(sql, tenant, user, osf, name)

    def new_host(self, name: str, memory: int = 8 * GIB) -> int:
        """A node that runs."""
        host = self.api.insert("hosts (name, address) VALUES (%s, '127.0.0.1')", name)
        self.api.ask(
            "UPDATE host_runtimes SET state = 'running', epoch = 1, lease_until = now() + interval '1 hour',"
            " usable_ram = %s, available_ram = %s, usable_cpu = 2, idle_cpu = 2 WHERE host_id = %s",
            memory,
            memory,
            host,
        )
        return host

    def be(self, state: str, vm_id: int | None = None) -> None:
        """As its node would have it: C{running}, C{stopping}, C{stopped} and so on."""
        vm_id = vm_id or self.vm
        if state == "stopped":
            self.api.ask(
                "UPDATE vm_runtimes SET vm_state = 'stopped', desired_state = 'stopped', host_id = NULL,"
                " acked_generation = generation, current_di_id = NULL WHERE vm_id = %s",
                vm_id,
            )
            return
        self.api.ask(
            "UPDATE vm_runtimes r SET vm_state = %s, desired_state = %s, generation = generation + 1,"
            " acked_generation = generation + 1, host_id = %s, host_epoch = 1, vm_address = '127.0.0.1',"
            " vm_vma_port = 1, vm_x_port = 2, current_di_id = g.di_id"
            " FROM vms v LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
            " WHERE v.id = r.vm_id AND r.vm_id = %s",
            state,
            "running" if state in ("starting", "running") else "stopped",
            self.host,
            vm_id,
        )

    def connect(self, vm_id: int | None = None) -> str:
        """Somebody has it on a screen; the session's id."""
        session, vm_id = str(uuid4()), vm_id or self.vm
        self.api.ask(
            "INSERT INTO sessions (id, tenant_id, vm_id, user_id, host_id, host_epoch, client_address, state)"
            " SELECT %s, tenant_id, id, user_id, %s, 1, '192.0.2.1:5', 'connected' FROM vms WHERE id = %s",
            session,
            self.host,
            vm_id,
        )
        self.api.ask("UPDATE vm_runtimes SET session_id = %s WHERE vm_id = %s", session, vm_id)
        return session

    def row(self, vm_id: int | None = None) -> dict[str, Any]:
        """The run-time row."""
        return self.api.ask("SELECT * FROM vm_runtimes WHERE vm_id = %s", vm_id or self.vm)[0]
