"""
The authorisation matrix: for each route, who may call it. C{python -m tests.admin.matrix} writes it anew into
C{matrix.json}; the change is then to be read and committed like any other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from attrs import frozen

from qvd.admin.api import all_endpoints
from qvd.admin.endpoint import Endpoint
from qvd.model.declared import SUPERTENANT, Principal
from tests.admin.roles import Caller, callers
from tests.admin.world import EveryAcl

FILE = Path(__file__).with_name("matrix.json")


@frozen
class Matrix:
    """@ivar allowed: callers by route."""

    allowed: dict[str, list[str]]

    @staticmethod
    def committed() -> Matrix:
        return Matrix(json.loads(FILE.read_text()))

    @staticmethod
    def declared(endpoints: Sequence[Endpoint]) -> Matrix:
        """As the declarations have it."""
        found: dict[str, list[str]] = {}
        for endpoint in sorted(endpoints, key=lambda each: (each.path, each.method)):
            allowed = [caller.name for caller in callers() if endpoint.need.is_met(principal_of(caller))]
            found[endpoint.route] = allowed
        return Matrix(found)

    def write(self) -> None:
        FILE.write_text(json.dumps(self.allowed, indent=1) + "\n")


def principal_of(caller: Caller, administrator_id: int = 0, tenant_id: int = 1) -> Principal | None:
    """Who that is; L{None}: nobody that is known."""
    if caller.anonymous or caller.expired:
        return None
    return Principal(
        administrator_id=administrator_id,
        name=caller.name,
        tenant_id=SUPERTENANT if caller.superadmin else tenant_id,
        tenant_name="",
        superadmin=caller.superadmin,
        multitenant=True,
        acls=EveryAcl() if caller.acls is None else caller.acls,
        session=sha256(caller.name.encode()).hexdigest(),
        fresh=True,
    )


if __name__ == "__main__":
    Matrix.declared(all_endpoints()).write()
