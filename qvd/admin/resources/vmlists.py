# -*- test-case-name: tests.admin.test_vm_reads -*-
"""The VMs of an object of another kind: C{/users/{id}/vms}, and such lists of hosts, OSFs, images, tenants."""

from __future__ import annotations

from attrs import evolve

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, Need
from qvd.admin.queries import LIST_PARAMETERS, list_query
from qvd.model.filters import All, Comparison, Operator


def vms_of(owner: Collection, name: str) -> Endpoint:
    """The operation that lists the VMs of an object.

    What of them is seen, the fields of VMs say: their state, for one, is seen with C{user.see.vm-list-state}.

    @param owner: the collection of the object. It needs C{vms} among its peers when it is called.
    @param name: field of VMs that has the object's id, such as C{user_id}; whether the caller sees that field does not
        matter.
    """
    kind, path = owner.resource.name, owner.resource.collection
    vms = owner.peers["vms"]

    async def handle(call: Call) -> Answer:
        await owner.find(call, call.number())
        field = vms.resource.get(name)
        assert field is not None
        wanted = list_query(vms.resource, call)
        only = Comparison(field, Operator.EQ, call.number())
        where = only if wanted.query.where is None else All((only, wanted.query.where))
        return await vms.page_of(call, evolve(wanted, query=evolve(wanted.query, where=where)))

    return Endpoint(
        method="GET",
        path=f"/{path}/{{id}}/vms",
        action=f"{kind}.vms",
        need=Need((f"{kind}.see.vm-list", "vm.see-main."), superadmin=owner.resource.superadmin_reads),
        handler=handle,
        summary=f"{owner.resource.title}: the VMs that belong to one",
        answers={200: vms.page_type},
        parameters=LIST_PARAMETERS,
        open_query=True,
        tag=path,
    )
