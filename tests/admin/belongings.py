"""What tenants have, and collections of it as far as the API has none of its own yet."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.admin.api import COLLECTIONS
from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Problem
from qvd.admin.resources.common import id_field
from qvd.interfaces import ITransaction
from qvd.model.declared import Field, Kind, Resource, Values
from tests.admin.world import ApiWorld


def plain(name: str, collection: str, table: str, source: str = "", *more: Field, text: str = "x.name") -> Resource:
    return Resource(
        name=name,
        collection=collection,
        title=collection,
        table=table,
        alias="x",
        source=source or f"{table} x",
        keys={table: "id"},
        tenant="x.tenant_id",
        read=(f"{name}.see-main.",),
        delete_acl=f"{name}.delete.",
        shared=name in ("osf", "di"),
        fields=(id_field("x"), Field(name="name", kind=Kind.TEXT, text="Name", sql=text), *more),
    )


STATE = Field(name="state", kind=Kind.TEXT, text="State", sql="r.vm_state")


class VMs(Collection):
    resource = plain("vm", "vms", "vms", "vms x JOIN vm_runtimes r ON r.vm_id = x.id", STATE)
    bulk = ("stop",)

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        if current["state"] != "stopped":
            raise Problem("vm-running", "It runs: stop it first")

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/vms/{id}/stop",
                action="vm.stop",
                need=acl("vm.update.state"),
                handler=self.stop,
                summary="",
                answers={200: self.item},
            )
        ]

    async def stop(self, call: Call) -> Answer:
        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            await tx.execute(
                "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1 WHERE vm_id = %s",
                (current["id"],),
            )
            call.subject = self.subject(current, current)
            return Answer(200, await self.shown(call, current["id"], tx))

        return await self.changing(call, work)


class OSFs(Collection):
    resource = plain("osf", "osfs", "osfs")


class Images(Collection):
    resource = plain("di", "images", "dis", text="x.version")


class Administrators(Collection):
    resource = plain("administrator", "administrators", "administrators")


THERE = {kind.resource.collection for kind in COLLECTIONS}
KINDS: Sequence[type[Collection]] = (
    *COLLECTIONS,
    *(kind for kind in (VMs, OSFs, Images, Administrators) if kind.resource.collection not in THERE),
)


class Belongings:
    """Users, VMs and images of one tenant."""

    def __init__(self, api: ApiWorld, tenant_id: int, vms: int) -> None:
        self.api = api
        self.tenant_id = tenant_id
        self.osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desktop', 1)", tenant_id)
        self.image = api.insert("dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '1')", tenant_id, self.osf)
        self.user = api.insert("users (tenant_id, login) VALUES (%s, 'ursula')", tenant_id)
        self.vms = [
            row["id"]
            for row in api.ask(
                "INSERT INTO vms (tenant_id, user_id, osf_id, name) SELECT %s, %s, %s, 'vm' || n"
                " FROM generate_series(1, %s) n RETURNING id",
                tenant_id,
                self.user,
                self.osf,
                vms,
            )
        ]

    def run_on(self, host_id: int, *vm_ids: int) -> None:
        """They run there."""
        self.api.ask(
            "UPDATE vm_runtimes SET host_id = %s, host_epoch = 1, vm_state = 'running', desired_state = 'running',"
            " generation = 1, acked_generation = 1, vm_address = '127.0.0.1', vm_vma_port = 1, vm_x_port = 2"
            " WHERE vm_id = ANY(%s)",
            host_id,
            list(vm_ids),
        )

    def carry_out(self) -> None:
        """The node stops what it was told to."""
        self.api.ask(
            "UPDATE vm_runtimes SET vm_state = 'stopped', host_id = NULL, host_epoch = NULL, vm_address = NULL,"
            " vm_vma_port = NULL, vm_x_port = NULL, acked_generation = generation"
            " WHERE tenant_id = %s AND desired_state = 'stopped'",
            self.tenant_id,
        )

    def count(self, table: str) -> int:
        row = self.api.ask(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", self.tenant_id)[0]
        return int(row["count"])


def a_node(api: ApiWorld, name: str = "node1", state: str = "running") -> int:
    """A node whose lease goes on."""
    made = api.insert("hosts (name, address) VALUES (%s, '10.0.0.1')", name)
    api.ask(
        "UPDATE host_runtimes SET state = %s, epoch = 1, ok_ts = now(), lease_until = now() + interval '30 seconds',"
        " usable_ram = 1000 WHERE host_id = %s",
        state,
        made,
    )
    return made
