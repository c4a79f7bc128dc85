# -*- test-case-name: tests.admin.test_config -*-
"""Configuration as it is sent and answered. No secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import evolve
from msgspec import UNSET, UnsetType

from qvd.admin.call import HIDDEN
from qvd.admin.resources.nested import INSTALLATION
from qvd.model.configuration import Effective, Type
from qvd.model.declared import Principal


class ConfigValue(msgspec.Struct, forbid_unknown_fields=True):
    """A key with its value. That of a secret is not shown."""

    key: str
    value: Any
    default: Any
    source: str
    is_default: bool
    is_set: bool
    type: str
    unit: str
    levels: list[str]
    secret: bool
    restart: bool
    description: str
    read_by: str
    choices: list[str]
    minimum: float | None
    maximum: float | None


class ConfigValues(msgspec.Struct, forbid_unknown_fields=True):
    """Keys."""

    items: list[ConfigValue]
    dry_run: bool = False


class NewConfigValue(msgspec.Struct, forbid_unknown_fields=True):
    """What to set a key to, and for whom."""

    value: Any
    tenant_id: int | UnsetType = UNSET
    host_id: int | UnsetType = UNSET


class ConfigChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Several keys at once: all or none. C{dry_run}: look whether it could be done, and change nothing."""

    set: dict[str, Any] = {}
    reset: list[str] = []
    tenant_id: int | UnsetType = UNSET
    host_id: int | UnsetType = UNSET
    dry_run: bool = False


class PastConfigChange(msgspec.Struct, forbid_unknown_fields=True):
    """A change of the past. What of it is about other keys is left out."""

    id: int
    at: str
    administrator_name: str
    before: dict[str, Any]
    after: dict[str, Any]
    tenant_id: int | UnsetType | None = UNSET


class ConfigHistory(msgspec.Struct, forbid_unknown_fields=True):
    """ConfigChanges, the latest first. C{next}: the cursor to go on with."""

    items: list[PastConfigChange]
    next: str | None


def past(row_id: int, at: Any, entry: Mapping[str, Any], names: set[str], principal: Principal) -> PastConfigChange:
    """A row of the audit trail."""
    foreign = principal.multitenant and not principal.superadmin
    who = INSTALLATION if foreign and entry["administrator_tenant_id"] == 0 else entry["administrator_name"]
    before, after = (
        {name: value for name, value in (entry[side] or {}).items() if name in names} for side in ("before", "after")
    )
    made = PastConfigChange(row_id, at.isoformat(), who, before, after)
    if principal.superadmin:
        made.tenant_id = entry["object_tenant_id"]
    return made


def mask(found: Effective) -> Any:
    return HIDDEN if found.key.secret and found.origin is not None else found.value


def shown(found: Effective) -> ConfigValue:
    key = found.key
    if key.secret:
        found = evolve(found, value=None, default=None)
    return ConfigValue(
        key=key.name,
        value=found.value,
        default=found.default,
        source=found.origin.value if found.origin else "built-in",
        is_default=found.is_default,
        is_set=found.origin is not None,
        type=key.type.value,
        unit=key.unit,
        levels=[level.value for level in key.levels],
        secret=key.secret,
        restart=key.restart,
        description=key.text,
        read_by=key.read_by,
        choices=list(key.choices),
        minimum=key.least if key.type is not Type.TEXT else None,
        maximum=key.most if key.type is not Type.TEXT else None,
    )
