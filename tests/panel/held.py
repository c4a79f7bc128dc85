"""What the administrators of the panel's tests may do."""

from __future__ import annotations

from attrs import define, field
from zope.interface import implementer

from qvd.interfaces.administration import IAuthority


@implementer(IAuthority)
@define
class HeldAcls:
    """By the number of the administrator; all others hold everything."""

    everything: frozenset[str]
    of: dict[int, frozenset[str]] = field(factory=dict)

    async def acls(self, administrator_id: int) -> frozenset[str]:
        return self.of.get(administrator_id, self.everything)

    async def multitenant(self) -> bool:
        return True
