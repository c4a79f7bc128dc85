"""
What the manual of the original's command line shows it to do, in the same order and with names of ours: each command
with the calls that do it here, and a list that has its effect in it. A command line that turns the one into the other
is made elsewhere; this says that it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

SOFT, HARD = "2098-06-01T20:00:00Z", "2098-06-02T06:00:00Z"


@frozen
class Step:
    """A call. Texts in braces stand for numbers that are known by now.

    @ivar keep: name by which the number of what it answers is known afterwards.
    """

    method: str
    path: str
    body: Any = None
    keep: str = ""


@frozen(kw_only=True)
class Example:
    """
    @ivar shows: list to read in the end; empty: the last call's own answer.
    @ivar member: of its entries, by which they are told.
    @ivar expected: these members, in that order.
    """

    command: str
    steps: Sequence[Step]
    shows: str = ""
    member: str = "name"
    expected: tuple[Any, ...]


def call(method: str, path: str, body: Any = None, keep: str = "") -> Step:
    return Step(method, path, body, keep)


def bulk(op: str, arguments: Any = None, **where: Any) -> Step:
    """One operation on all VMs that match."""
    body: dict[str, Any] = {"op": op, "arguments": arguments or {}}
    if "ids" in where:
        return Step("POST", "/vms/bulk", body | {"ids": where["ids"]})
    parts = [{"field": name, "op": "eq", "value": value} for name, value in where.items()]
    return Step("POST", "/vms/bulk", body | {"filter": {"and": parts} if parts else {}})


STOPPED = {"or": [{"field": "state", "op": "eq", "value": each} for each in ("stopped", "zombie")]}
ON_NODE = {"field": "host_id", "op": "eq", "value": "{host}"}
EXAMPLES = (
    Example(
        command="vm state=running get name, user, host, ip_in_use order desc id",
        steps=[call("GET", "/vms?state=running&fields=name,user_name,host_name,ip_in_use&sort=-id&tenant_id={acme}")],
        expected=("four", "three", "two", "alice-1"),
    ),
    Example(
        command="user name~adm%, tenant_id=N get id, name, blocked order name",
        steps=[call("GET", "/users?name[like]=adm%25&tenant_id={acme}&fields=id,name,blocked&sort=name")],
        expected=("adm1", "adm2"),
    ),
    Example(
        command='user new name=marta, password=P, description="New here", tenant_id=N',
        steps=[
            call(
                *("POST", "/users"),
                {"name": "marta", "password": "for-marta-1", "description": "New here", "tenant_id": "{acme}"},
                keep="user",
            )
        ],
        shows="/users?description=New here",
        expected=("marta",),
    ),
    Example(
        command="vm new name=marta-desk, user_id=N, osf_id=N, tag=default",
        steps=[
            call(
                *("POST", "/vms"),
                {"name": "marta-desk", "user_id": "{user}", "osf_id": "{osf}", "di_tag": "default"},
            )
        ],
        shows="/vms?user_name=marta&di_tag=default",
        expected=("marta-desk",),
    ),
    Example(
        command="vm name=marta-desk start",
        steps=[call("GET", "/vms?name=marta-desk", keep="vm"), call("POST", "/vms/{vm}/start", {})],
        shows="/vms?desired_state=running&state=stopped",
        expected=("marta-desk",),
    ),
    Example(
        command="vm id=[N,N,N] stop",
        steps=[bulk("stop", ids=["{one}", "{two}", "{three}"])],
        shows="/vms?desired_state=stopped&state=running&sort=id",
        expected=("alice-1", "two", "three"),
    ),
    Example(
        command="vm osf_id=N, user_state=connected disconnect",
        steps=[bulk("disconnect", osf_id="{osf}", user_state="connected")],
        shows="/log?action=vm.disconnect&outcome=done",
        member="object_name",
        expected=("four",),
    ),
    Example(
        command="vm (state=stopped; state=zombie), host_id=N get id, name, state",
        steps=[
            call(
                *("POST", "/vms/search"),
                {"filter": {"and": [STOPPED, ON_NODE]}, "fields": ["id", "name", "state"]},
            )
        ],
        expected=("marta-desk",),
    ),
    Example(
        command="host node1 block",
        steps=[call("GET", "/hosts?name=node1", keep="host"), call("POST", "/hosts/{host}/block")],
        shows="/hosts?blocked=true",
        expected=("node1",),
    ),
    Example(
        command="vm host_id=N, state=running stop",
        steps=[bulk("stop", host_id="{host}", state="running", desired_state="running")],
        shows="/vms?desired_state=running&state=running",
        expected=(),
    ),
    Example(
        command="di new di_type=staging, disk_image=new.qcow2, osf_id=N",
        steps=[
            call(
                *("POST", "/images"),
                {
                    "osf_id": "{osf}",
                    "version": "2",
                    "auto_publish": True,
                    "source": {"type": "staging", "file": "new.qcow2"},
                },
                keep="image",
            )
        ],
        shows="/images?osf_id={osf}&state=published&sort=id",
        member="version",
        expected=("1", "2"),
    ),
    Example(
        command="di id=N tag pilot",
        steps=[call("PUT", "/images/{image}/tags/pilot")],
        shows="/osfs/{osf}/tags",
        member="tag",
        expected=("1", "2", "default", "head", "pilot"),
    ),
    Example(
        command="vm id=N set tag=pilot",
        steps=[call("PUT", "/vms/{one}/tag", {"tag": "pilot"})],
        shows="/vms?di_tag=pilot&di_version=2",
        expected=("alice-1",),
    ),
    Example(
        command="di id=N tag default",
        steps=[call("PUT", "/images/{image}/default")],
        shows="/vms?di_tag=default&di_version=2&name=two",
        expected=("two",),
    ),
    Example(
        command="di osf_id=N, state=published get id, version, tags order desc id",
        steps=[call("GET", "/images?osf_id={osf}&state=published&fields=id,version,tags&sort=-id")],
        member="version",
        expected=("2", "1"),
    ),
    Example(
        command='vm osf_id=N, di_tag=default, state=running set expiration_soft="…", expiration_hard="…"',
        steps=[
            bulk(
                "update",
                {"expiration_soft": SOFT, "expiration_hard": HARD},
                osf_id="{osf}",
                di_tag="default",
                state="running",
            )
        ],
        shows=f"/vms?expiration_soft={SOFT}&expiration_hard={HARD}&sort=id",
        expected=("two", "three", "four"),
    ),
    Example(
        command="role new name=Desk, tenant_id=N",
        steps=[call("POST", "/roles", {"name": "Desk", "tenant_id": "{acme}"}, keep="role")],
        shows="/roles?name=Desk",
        expected=("Desk",),
    ),
    Example(
        command='role Desk assign role "Operator L1"',
        steps=[
            call("GET", "/roles?name=Operator L1", keep="parent"),
            call("PUT", "/roles/{role}/parents/{parent}"),
        ],
        shows="/roles/{role}/acls?view=effective&pattern=vm.update.*",
        expected=(),
    ),
    Example(
        command="role Desk assign acl vm.update.state, vm.update.disconnect-user",
        steps=[call("PATCH", "/roles/{role}/acls", {"grant": ["vm.update.state", "vm.update.disconnect-user"]})],
        shows="/roles/{role}/acls?view=effective&pattern=vm.update.*",
        expected=("vm.update.disconnect-user", "vm.update.state"),
    ),
    Example(
        command="admin ada assign role Desk",
        steps=[
            call("GET", "/administrators?name=ada", keep="ada"),
            call("PUT", "/administrators/{ada}/roles/{role}"),
        ],
        shows="/roles/{role}/administrators",
        expected=("ada",),
    ),
    Example(
        command="admin ada can vm.update.%",
        steps=[call("GET", "/administrators/{ada}/acls?pattern=vm.update.*")],
        expected=("vm.update.disconnect-user", "vm.update.state"),
    ),
    Example(
        command='property new key=place, description="Where it is paid for", tenant_id=N',
        steps=[
            call(
                *("POST", "/properties"),
                {"key": "place", "description": "Where it is paid for", "tenant_id": "{acme}", "kinds": []},
                keep="property",
            )
        ],
        shows="/properties",
        member="key",
        expected=("place",),
    ),
    Example(
        command="property key=place assign vm",
        steps=[call("PUT", "/properties/{property}/kinds/vm")],
        shows="/properties?kind=vm",
        member="key",
        expected=("place",),
    ),
    Example(
        command="vm name=marta-desk set place=ES-042",
        steps=[call("PUT", "/vms/{vm}/properties/place", {"value": "ES-042"})],
        shows="/properties/{property}/values?kind=vm",
        expected=("marta-desk",),
    ),
    Example(
        command="config key~K%, tenant_id=N get key, value, is_default",
        steps=[call("GET", "/config?prefix={days}&tenant_id={acme}")],
        member="is_default",
        expected=(True,),
    ),
    Example(
        command="config set key=K, value=V, tenant_id=N",
        steps=[call("PUT", "/config/{days}", {"value": 11, "tenant_id": "{acme}"})],
        shows="/config?prefix={days}&tenant_id={acme}",
        member="value",
        expected=(11,),
    ),
    Example(
        command="config key=K, tenant_id=N default",
        steps=[call("DELETE", "/config/{days}?tenant_id={acme}")],
        shows="/config?prefix={days}&tenant_id={acme}",
        member="is_default",
        expected=(True,),
    ),
    Example(
        command="vm blocked=1 unblock",
        steps=[bulk("unblock", blocked=True)],
        shows="/vms?blocked=true",
        expected=(),
    ),
    Example(
        command="--force vm set tag=default",
        steps=[bulk("update", {"di_tag": "default"})],
        shows="/vms?di_tag[ne]=default",
        expected=(),
    ),
)
