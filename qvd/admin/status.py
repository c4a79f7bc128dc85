# -*- test-case-name: tests.unit.test_admin_status -*-
"""
The administration port as far as it goes yet: health for load balancers, and the state of the VMs of an
administrator's tenant.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import frozen
from klein import Klein

from qvd.interfaces import IAdministrators, IHasher, INodeStatus
from qvd.model.errors import Unavailable
from qvd.model.records import VM, Administrator

JSON = b"application/json"
REALM = b'Basic realm="QVD administration"'


def reply(request: Any, status: int, document: object) -> bytes:
    """A JSON answer."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", JSON)
    request.setHeader(b"Cache-Control", b"no-store")
    return json.dumps(document, indent=2).encode() + b"\n"


def vm_document(vm: VM) -> dict[str, Any]:
    """What an administrator sees of one VM."""
    return {
        "id": vm.vm_id,
        "name": vm.name,
        "user": vm.login,
        "state": vm.state.value,
        "desired": vm.desired.value,
        "phase": vm.phase,
        "detail": vm.detail,
        "since": vm.since.isoformat(),
        "last_error": vm.last_error,
        "host_id": vm.host_id,
        "connected": vm.session_id is not None,
    }


@frozen
class StatusSite:
    """The routes."""

    router = Klein()

    node: INodeStatus
    administrators: IAdministrators
    hasher: IHasher

    @router.route("/healthz", methods=["GET"])
    def healthz(self, request: Any) -> bytes:
        """The process answers."""
        return reply(request, 200, {"status": "alive"})

    @router.route("/readyz", methods=["GET"])
    def readyz(self, request: Any) -> bytes:
        """The node serves clients, or the reason why it does not."""
        refusal = self.node.refusal()
        return reply(request, 200 if refusal is None else 503, {"status": refusal or "ready"})

    @router.route("/api/v1/vms", methods=["GET"])
    async def vms(self, request: Any) -> bytes:
        """The VMs of the administrator's tenant."""
        try:
            administrator = await self._authenticate(request)
            if administrator is None:
                request.setHeader(b"WWW-Authenticate", REALM)
                return reply(request, 401, {"error": "Authentication failed"})
            vms: Sequence[VM] = await self.administrators.vms(administrator.tenant_id)
        except Unavailable as error:
            return reply(request, 503, {"error": error.text})
        return reply(request, 200, [vm_document(vm) for vm in vms])

    async def _authenticate(self, request: Any) -> Administrator | None:
        name, password = request.getUser().decode("utf-8", "replace"), request.getPassword().decode("utf-8", "replace")
        if not name or not password:
            return None
        # What the database cannot hold as a text cannot be anybody's name.
        administrator = await self.administrators.find(name) if name.isprintable() else None
        stored = administrator.password.reveal() if administrator else None
        return administrator if await self.hasher.verify(stored, password) else None
