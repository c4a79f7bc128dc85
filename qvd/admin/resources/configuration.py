# -*- test-case-name: tests.admin.test_config -*-
"""Configuration: what counts, where it is set, and setting it, one key or several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import UnsetType

from qvd.admin.call import HIDDEN, Answer, Call, Subject
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.membership import unknown
from qvd.admin.problems import Fault, Problem, not_found
from qvd.admin.resources.config_documents import (
    ConfigChanges,
    ConfigHistory,
    ConfigValue,
    ConfigValues,
    NewConfigValue,
    mask,
    past,
    shown,
)
from qvd.admin.resources.nested import paged
from qvd.admin.settings import effective_values, stored
from qvd.interfaces import ITransaction
from qvd.model.configuration import KEYS, MULTITENANT, Effective, Key, Level, Place, effective, key_of
from qvd.model.declared import COMMON, Principal
from qvd.model.errors import InvalidRequest

NEED = acl("config.qvd.")
TEXT: Mapping[str, Any] = {"type": "string"}
NUMBER: Mapping[str, Any] = {"type": "integer", "minimum": -1, "maximum": (1 << 31) - 1}
PLACE = (
    Parameter("tenant_id", NUMBER, "Of that tenant; -1, or nothing: of the installation"),
    Parameter("host_id", NUMBER, "Of that node"),
)
MOST_KEYS = 500


class Configuration:
    """The operations on configuration.

    @cvar keys: that there are.
    """

    keys: ClassVar[Sequence[Key]] = KEYS

    def __init__(self, peers: object) -> None:
        """@param peers: all collections; none of them is of use here."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        common: dict[str, Any] = {"need": NEED, "tag": "config"}
        return [
            Endpoint(
                method="GET",
                path="/config",
                action="config.list",
                handler=self.read_all,
                summary="Configuration: keys with the values that count, and where these are set",
                answers={200: ConfigValues},
                parameters=(
                    *PLACE,
                    Parameter("prefix", TEXT, "Keys that begin so"),
                    Parameter("q", TEXT, "Keys whose name or description holds that"),
                    Parameter("modified", {"type": "string", "enum": ["true", "false"]}, "Those that are set there"),
                ),
                **common,
            ),
            Endpoint(
                method="PATCH",
                path="/config",
                action="config.update",
                handler=self.patch,
                summary="Configuration: set and reset several keys, all or none",
                body=ConfigChanges,
                answers={200: ConfigValues},
                **common,
            ),
            Endpoint(
                method="GET",
                path="/config/history",
                action="config.history",
                handler=self.history,
                summary="Configuration: who changed it, and what from and to. Needs log.see-main. as well",
                answers={200: ConfigHistory},
                parameters=(
                    Parameter("key", TEXT, "Of one key"),
                    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "ConfigChanges, at most"),
                    Parameter("cursor", TEXT, "Where to go on, as the answer before said"),
                ),
                **common,
            ),
            Endpoint(
                method="GET",
                path="/config/{key}",
                action="config.read",
                handler=self.read,
                summary="Configuration: one key",
                answers={200: ConfigValue},
                parameters=PLACE,
                **common,
            ),
            Endpoint(
                method="PUT",
                path="/config/{key}",
                action="config.set",
                handler=self.put,
                summary="Configuration: set a key",
                body=NewConfigValue,
                answers={200: ConfigValue},
                **common,
            ),
            Endpoint(
                method="DELETE",
                path="/config/{key}",
                action="config.reset",
                handler=self.reset,
                summary="Configuration: set a key there no more, so that the wider value counts",
                answers={200: ConfigValue},
                parameters=PLACE,
                **common,
            ),
        ]

    async def read_all(self, call: Call) -> Answer:
        place = place_of(call.principal, asked(call, "tenant_id"), asked(call, "host_id"))
        prefix, text = call.one("prefix"), call.one("q").lower()
        keys = [
            key
            for key in self.seen_by(call.principal)
            if key.name.startswith(prefix) and (text in key.name.lower() or text in key.text.lower())
        ]
        found = await effective_values(call.services.database, keys, place)
        if call.one("modified") == "true":
            found = [each for each in found if not each.is_default]
        return Answer(200, ConfigValues([shown(each) for each in found]))

    async def read(self, call: Call) -> Answer:
        place = place_of(call.principal, asked(call, "tenant_id"), asked(call, "host_id"))
        [found] = await effective_values(call.services.database, [self.key(call)], place)
        return Answer(200, shown(found))

    async def put(self, call: Call) -> Answer:
        body: NewConfigValue = call.body
        key = self.key(call)
        if key.secret:
            call.body = NewConfigValue(HIDDEN, body.tenant_id, body.host_id)
        place = place_of(call.principal, given(body.tenant_id), given(body.host_id))
        [found] = await self.change(call, place, {key.name: body.value}, [])
        return Answer(200, shown(found))

    async def reset(self, call: Call) -> Answer:
        place = place_of(call.principal, asked(call, "tenant_id"), asked(call, "host_id"))
        [found] = await self.change(call, place, {}, [self.key(call).name])
        return Answer(200, shown(found))

    async def patch(self, call: Call) -> Answer:
        body: ConfigChanges = call.body
        # What is no key may be a secret one's name with a mistake in it.
        told = {key.name for key in self.keys if not key.secret}
        hidden = {name: value if name in told else HIDDEN for name, value in body.set.items()}
        call.body = ConfigChanges(hidden, body.reset, body.tenant_id, body.host_id, body.dry_run)
        place = place_of(call.principal, given(body.tenant_id), given(body.host_id))
        found = await self.change(call, place, body.set, body.reset, body.dry_run)
        return Answer(200, ConfigValues([shown(each) for each in found], body.dry_run))

    def seen_by(self, principal: Principal) -> Sequence[Key]:
        """Keys that there are for somebody. Who has one tenant of several has nothing to do with the rest."""
        whole = principal.superadmin or not principal.multitenant
        return [key for key in self.keys if whole or Level.TENANT in key.levels]

    def key(self, call: Call) -> Key:
        """The one of the path."""
        key = key_of(call.path["key"], self.seen_by(call.principal))
        if key is None:
            raise not_found("configuration key")
        return key

    async def change(
        self, call: Call, place: Place, wanted: Mapping[str, Any], reset: Sequence[str], dry_run: bool = False
    ) -> Sequence[Effective]:
        """Set and reset, all or none; what counts then.

        @raise Problem: one of them cannot be. It names them all.
        """
        keys = self.checked(call.principal, place, wanted, reset)

        async def work(tx: ITransaction) -> Sequence[Effective]:
            await check_place(tx, place)
            before = await stored(tx, [key.name for key in keys], place)
            after = {at: value for at, value in before.items() if (at[0], at[1]) not in [(n, place) for n in reset]}
            after |= {(name, place): value for name, value in wanted.items()}
            was = [effective(key, before, place) for key in keys]
            will = [effective(key, after, place) for key in keys]
            await check_single(tx, was, will)
            if not dry_run:
                await write(tx, place, wanted, reset)
            call.subject = subject(place, was, will)
            return will

        if dry_run:
            transact = call.services.database.transact
            found: Sequence[Effective] = await transact("config.try", work)
            call.subject = None
            return found
        return await call.change(work)

    def checked(
        self, principal: Principal, place: Place, wanted: Mapping[str, Any], reset: Sequence[str]
    ) -> Sequence[Key]:
        """Keys that can be set there, to these values."""
        faults, keys = [], []
        if len(wanted) + len(reset) > MOST_KEYS or len({*wanted, *reset}) < len(wanted) + len(reset):
            raise Problem("invalid-value", f"Name each key once, and {MOST_KEYS} at most")
        for name, pointer in [(n, f"/set/{n}") for n in wanted] + [(n, f"/reset/{i}") for i, n in enumerate(reset)]:
            key = key_of(name, self.seen_by(principal))
            if key is None:
                faults.append(Fault(pointer, "there is no such configuration key", "unknown-attribute"))
                continue
            keys.append(key)
            if place.level not in key.levels:
                levels = ", ".join(level.value for level in key.levels)
                text = f"{name} cannot be set for a {place.level.value}: only {levels}"
                faults.append(Fault(pointer, text, "not-overridable"))
            elif name in wanted:
                try:
                    key.checked(wanted[name])
                except InvalidRequest as error:
                    faults.append(Fault(pointer, error.text))
        if faults:
            raise Problem(faults[0].code, faults[0].detail[:1].upper() + faults[0].detail[1:], faults)
        return keys

    async def history(self, call: Call) -> Answer:
        principal = call.principal
        if not principal.holds("log.see-main."):
            raise Problem("forbidden", "You need the permission log.see-main.", acl="log.see-main.")
        seen = {key.name for key in self.seen_by(principal)}
        name = call.one("key")
        if name and name not in seen:
            raise not_found("configuration key")
        whole = principal.superadmin or not principal.multitenant
        limit, cursor = paged(call)
        rows = await call.services.database.fetch(
            "SELECT id, at, entry FROM audit WHERE kind = 'config' AND outcome = 'done'"
            " AND jsonb_typeof(entry -> 'after') = 'object' AND (%(whole)s OR tenant_id = %(tenant)s)"
            " AND (%(key)s = '' OR jsonb_exists(entry -> 'after', %(key)s))"
            " AND (%(cursor)s = 0 OR id < %(cursor)s) ORDER BY id DESC LIMIT %(limit)s",
            {"whole": whole, "tenant": principal.tenant_id, "key": name, "cursor": cursor, "limit": limit + 1},
        )
        items = [past(row["id"], row["at"], row["entry"], {name} if name else seen, principal) for row in rows[:limit]]
        return Answer(200, ConfigHistory(items, str(items[-1].id) if len(rows) > limit else None))


def asked(call: Call, name: str) -> int | None:
    """A number of the query string."""
    text = call.one(name)
    if not text:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 11 and abs(int(text)) < 1 << 31):
        raise Problem("malformed-request", f"{name} is a whole number")
    return int(text)


def given(value: int | UnsetType) -> int | None:
    return None if isinstance(value, UnsetType) else value


def place_of(principal: Principal, tenant_id: int | None, host_id: int | None) -> Place:
    """For whom a call is. Who is over all tenants says so; others have no choice, and do not learn of one.

    @raise Problem: they chose.
    """
    if not principal.superadmin:
        if tenant_id is not None:
            raise unknown("tenant_id")
        if principal.multitenant and host_id is not None:
            raise unknown("host_id")
        return Place(principal.tenant_id) if principal.multitenant else Place(COMMON, host_id)
    if tenant_id == 0 or (tenant_id is not None and tenant_id < COMMON):
        raise Problem("reference-not-found", f"There is no tenant {tenant_id} that could have configuration")
    if host_id is not None and tenant_id not in (None, COMMON):
        raise Problem("invalid-value", "A value is a tenant's or a node's, not both")
    return Place(COMMON if tenant_id is None else tenant_id, host_id)


async def check_place(tx: ITransaction, place: Place) -> None:
    """@raise Problem: there is no such tenant or node."""
    for table, number in (("tenants", place.tenant_id), ("hosts", place.host_id)):
        if number is not None and not await tx.fetch(f"SELECT FROM {table} WHERE id = %s FOR KEY SHARE", (number,)):
            raise Problem("reference-not-found", f"There is no {table[:-1]} {number}")


async def check_single(tx: ITransaction, was: Sequence[Effective], will: Sequence[Effective]) -> None:
    """Before the installation becomes one of a single tenant.

    @raise Problem: there are several, or none. It names them.
    """
    if {MULTITENANT: True} not in [{each.key.name: each.value} for each in was]:
        return
    if {MULTITENANT: False} not in [{each.key.name: each.value} for each in will]:
        return
    # Nobody makes another one meanwhile.
    await tx.execute("LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE")
    rows = await tx.fetch("SELECT id, name FROM tenants WHERE id > 0 ORDER BY id LIMIT 1000")
    if len(rows) != 1:
        names = ", ".join(row["name"] for row in rows[:10])
        raise Problem(
            "several-tenants",
            f"Exactly one tenant must be left, and there are {len(rows)}: {names}" if rows else "There is no tenant",
            tenants=[dict(row) for row in rows],
        )


async def write(tx: ITransaction, place: Place, wanted: Mapping[str, Any], reset: Sequence[str]) -> None:
    await tx.execute(
        "DELETE FROM configs WHERE key = ANY (%s) AND tenant_id = %s AND host_id IS NOT DISTINCT FROM %s",
        (list(reset), place.tenant_id, place.host_id),
    )
    for name, value in wanted.items():
        await tx.execute(
            "INSERT INTO configs (tenant_id, host_id, key, value) VALUES (%s, %s, %s, %s::jsonb)"
            " ON CONFLICT (key, tenant_id, coalesce(host_id, 0)) DO UPDATE SET value = excluded.value",
            (place.tenant_id, place.host_id, name, msgspec.json.encode(value).decode()),
        )


def subject(place: Place, was: Sequence[Effective], will: Sequence[Effective]) -> Subject:
    """What counted before and what counts now."""
    before, after = ({each.key.name: mask(each) for each in side} for side in (was, will))
    name = next(iter(after)) if len(after) == 1 else ""
    return Subject("config", None, name, place.tenant_id, before, after)
