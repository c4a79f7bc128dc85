# -*- test-case-name: tests.admin.test_vm_reads -*-
"""The objects that belong to one of another kind: C{/users/{id}/vms}, C{/tenants/{id}/osfs}."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Need
from qvd.admin.queries import LIST_PARAMETERS, list_query
from qvd.model.filters import All, AnyOf, Comparison, Operator

OF_TENANTS = ("users", "vms", "images", "osfs", "administrators", "roles")


def vms_of(owner: Collection, *names: str) -> Endpoint:
    """The operation that lists the VMs of an object.

    What of them is seen, the fields of VMs say: their state, for one, is seen with C{user.see.vm-list-state}.

    @param owner: the collection of the object. It needs C{vms} among its peers when it is called.
    @param names: fields of VMs, any of which has the object's id, such as C{user_id}; whether the caller sees that
        field does not matter.
    """
    return belongings(owner, "vms", names, (f"{owner.resource.name}.see.vm-list", "vm.see-main."))


def lists_of_tenants(tenants: Collection) -> Sequence[Endpoint]:
    """The operations that list what a tenant has."""
    peers = {name: tenants.peers[name] for name in OF_TENANTS if name in tenants.peers}
    return [belongings(tenants, name, ("tenant_id",), lists(peer.resource.read)) for name, peer in peers.items()]


def lists(acls: Sequence[str]) -> tuple[str, ...]:
    """Those that show a collection itself, or in a list of a tenant's; not in lists of other objects."""
    return tuple(name for name in acls if name.startswith("tenant.") or name.endswith(".see-main."))


def belongings(owner: Collection, collection: str, names: Sequence[str], acls: tuple[str, ...]) -> Endpoint:
    """The operation that lists the objects of a collection which belong to one of another."""
    kind, path, peer = owner.resource.name, owner.resource.collection, owner.peers[collection]

    async def handle(call: Call) -> Answer:
        await owner.find(call, call.number())
        found = [field for name in names if (field := peer.resource.get(name)) is not None]
        assert len(found) == len(names)
        wanted = list_query(peer.resource, call)
        only = AnyOf(tuple(Comparison(field, Operator.EQ, call.number()) for field in found))
        where = only if wanted.query.where is None else All((only, wanted.query.where))
        return await peer.page_of(call, evolve(wanted, query=evolve(wanted.query, where=where)))

    return Endpoint(
        method="GET",
        path=f"/{path}/{{id}}/{collection}",
        action=f"{kind}.{collection}",
        need=Need(acls, superadmin=owner.resource.superadmin_reads or peer.resource.superadmin_reads),
        handler=handle,
        summary=f"{owner.resource.title}: the {collection} that belong to one",
        answers={200: peer.page_type},
        parameters=LIST_PARAMETERS,
        open_query=True,
        tag=path,
    )
