"""What holds of logins, where a test has no configuration."""

from __future__ import annotations

from attrs import define, field
from zope.interface import implementer

from qvd.admin.settings import LEGACY_SALT
from qvd.interfaces.logins import ILoginPolicy, Lifetime


@implementer(ILoginPolicy)
@define
class FixedPolicy:
    """L{ILoginPolicy} of values."""

    has_tenants: bool = True
    salt: str = LEGACY_SALT
    lasting: Lifetime = field(factory=Lifetime)
    dangerous: int = 86400

    async def multitenant(self) -> bool:
        return self.has_tenants

    async def legacy_salt(self) -> str:
        return self.salt

    async def lifetime(self) -> Lifetime:
        return self.lasting

    async def dangerous_seconds(self) -> int:
        return self.dangerous
