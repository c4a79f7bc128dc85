"""
What each permission guards, taken from the declarations: an operation, a field that is seen, set or changed. Beside
that, what is asked for in the code of operations, and what guards nothing here, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qvd.admin.api import COLLECTIONS, all_endpoints
from qvd.model.acls import matching

Call = tuple[str, str, Any]
IN_CODE: Mapping[str, str] = {
    "administrator.see.acl-list-roles": "which roles a permission comes from",
    "di.create.staging": "where a new image's file comes from",
    "di.create.upload": "where a new image's file comes from",
    "di.create.url": "where a new image's file comes from",
    "job.cancel.": "jobs of others",
    "job.see-main.": "jobs of others",
    "vm.update.force-stop": "a stop that does not wait",
}
"""Asked for in the code of an operation that somebody else may call as well."""
UNGUARDED: Mapping[str, str] = {
    **dict.fromkeys(
        matching("*.see-details.") - {"log.see-details."}, "opens a page of the panel; here each field has its own"
    ),
    **dict.fromkeys(matching("*.see.id"), "objects are named by their numbers: whoever sees one sees it"),
    **dict.fromkeys(
        ("osf.see.di-list-block", "tenant.see.di-list-block", "tenant.see.user-list-block"),
        "a column of the panel; the field has the permission of its own kind",
    ),
    **dict.fromkeys(("di.create.generation", "osf.update.definition"), "there is no builder of images beside the API"),
    **dict.fromkeys(("vm.see.port-serial", "vm.see.port-ssh", "vm.see.port-vnc"), "a VM has no such ports here"),
    **dict.fromkeys(("vm.spy.", "vm.spy.interactive", "vm.console."), "later: screens and consoles"),
    **dict.fromkeys(("session.manage.users", "user.update.mfa", "user.see.connections"), "later: portal"),
    **dict.fromkeys(("host.see.counters", "vm.see.counters"), "the numbers of a node are told by the node"),
    **dict.fromkeys(("host.update.roles", "host.update.state"), "a node does all, and is stopped on its machine"),
    **dict.fromkeys(("di.see.file", "di.update.verify"), "files of images are read on the nodes"),
    "config.tls.": "certificates are files of the machine",
    "log.see.source": "nobody can say which program it really was",
    "tenant.see.created-by": "nobody keeps who made a tenant, but the trail",
    "vm.update.storage": "a VM's storage is its OSF's",
}
"""Held and given like all others, and asked for by nothing. One that gets something to guard is to be taken out."""


def guarded() -> frozenset[str]:
    """All that the declarations ask for."""
    fields = [each for kind in COLLECTIONS for each in kind.resource.fields]
    return frozenset(
        [
            *(name for endpoint in all_endpoints() for name in endpoint.need.any_of),
            *(name for each in fields for name in (*each.see, each.update_acl, each.create_acl) if name),
        ]
    )
