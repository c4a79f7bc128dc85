# -*- test-case-name: tests.admin.test_owntenant -*-
"""What an administrator may set for all of the own tenant's, without knowing that there are tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Problem, not_found
from qvd.admin.schema import given
from qvd.interfaces import ITransaction
from qvd.model.declared import Scope, Values

SETTINGS = ("language", "page_size", "description")
"""Fields of the tenant that these are."""


class OwnSettings(msgspec.Struct, forbid_unknown_fields=True):
    """What counts for whoever has not chosen for themselves."""

    language: str
    page_size: int
    description: str


class OwnSettingsChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of it: a merge patch."""

    language: Literal["auto", "en", "es", "default"] | UnsetType = UNSET
    page_size: Annotated[int, msgspec.Meta(ge=1, le=500)] | UnsetType = UNSET
    description: Annotated[str, msgspec.Meta(max_length=32768)] | UnsetType = UNSET


class OwnTenant:
    """The operations."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        self.tenants = peers["tenants"].resource

    def endpoints(self) -> Sequence[Endpoint]:
        """Both of them."""
        common: dict[str, Any] = {"path": "/tenant/settings", "need": acl("config.wat."), "tag": "settings"}
        return [
            Endpoint(
                method="GET",
                action="settings.read",
                handler=self.read,
                summary="Settings of the panel for all administrators beside the caller",
                answers={200: OwnSettings},
                **common,
            ),
            Endpoint(
                method="PATCH",
                action="settings.update",
                handler=self.update,
                summary="Settings of the panel: change them",
                body=OwnSettingsChange,
                media="application/merge-patch+json",
                answers={200: OwnSettings},
                **common,
            ),
        ]

    async def read(self, call: Call) -> Answer:
        return Answer(200, await self.now(call))

    async def update(self, call: Call) -> Answer:
        values = given(call.body)
        if "\0" in values.get("description", ""):
            raise Problem("invalid-value", "Texts cannot hold the character NUL")

        async def work(tx: ITransaction) -> Answer:
            tenant_id = call.principal.tenant_id
            before = await self.now(call, tx, lock=True)
            await call.services.records.update(self.tenants, tenant_id, values, tx)
            after = await self.now(call, tx)
            call.subject = Subject("settings", None, "", tenant_id, before, after)
            return Answer(200, after)

        return await call.change(work)

    async def now(self, call: Call, tx: ITransaction | None = None, lock: bool = False) -> dict[str, Any]:
        """What holds now."""
        fields = [each for each in self.tenants.fields if each.name in SETTINGS]
        tenant_id = call.principal.tenant_id
        row: Values | None = await call.services.records.find(
            self.tenants, fields, Scope(tenant_id), tenant_id, tx, lock
        )
        if row is None:
            raise not_found("tenant")
        return {name: row[name] for name in SETTINGS}
