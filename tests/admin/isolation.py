"""What the tests of isolation call, and what the rival has."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from attrs import frozen

from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint
from qvd.admin.queries import sees
from qvd.model.declared import Field, Kind, Principal, Resource
from tests.admin.world import ApiWorld, Reply

THEIRS = 7_000_000
"""Ids of the rival's objects begin here."""
OWN_CANARY, CANARY = "ourname", "theirname"
PASSED_OVER = {"events", "openapi.json", "docs", "info", "healthz", "readyz", "metrics"}
"""Tested elsewhere, or the same for everybody."""


@frozen
class CallOf:
    """A call that the tests make."""

    method: str
    path: str
    body: Any = None

    async def reply(self, api: ApiWorld, principal: Principal) -> tuple[int, str, str]:
        """What comes back: status, body, entity tag."""
        reply: Reply = await api.call(principal, self.method, self.path, self.body)
        body = reply.body.decode("utf-8", "replace") if isinstance(reply.body, bytes) else json.dumps(reply.body)
        return reply.status, without_times(body), reply.headers.get("ETag", "")


def without_times(text: str) -> str:
    """Moments of the answer itself differ between any two."""
    return re.sub(r'"(server_time|now|expires_at|last_seen)": "[^"]*"', "", text)


def reads(api: ApiWorld, principal: Principal) -> list[CallOf]:
    """Every read there is, with ids of theirs; every filter, with values of theirs and ours; every order."""
    found: list[CallOf] = []
    for endpoint in api.endpoints:
        if endpoint.method != "GET" or endpoint.path.split("/")[1] in PASSED_OVER or endpoint.path.startswith("/auth"):
            continue
        for path in filled(endpoint, str(THEIRS)):
            found.append(CallOf("GET", path))
        resource = listed(endpoint)
        if resource is not None and "{" not in endpoint.path:
            found += [CallOf("GET", f"{endpoint.path}?{query}") for query in queries(resource, principal)]
    return found


def listed(endpoint: Endpoint) -> Resource | None:
    """The resource of a list."""
    owner = getattr(endpoint.handler, "__self__", None)
    return owner.resource if endpoint.open_query and isinstance(owner, Collection) else None


def queries(resource: Resource, principal: Principal) -> Iterator[str]:
    """Filters and orders of a list."""
    for field in resource.fields:
        if not sees(principal, field):
            continue
        if field.sorts:
            yield f"sort={field.name}&limit=2"
            yield f"sort=-{field.name}&limit=2"
        if field.filters and field.kind not in (Kind.OBJECT, Kind.LIST):
            for value in samples(field):
                yield f"{field.name}={value}"
            yield f"{field.name}[null]=true"
            if field.kind is Kind.TEXT and not field.choices:
                yield f"{field.name}[ilike]=%25{CANARY}%25"


def samples(field: Field) -> Sequence[str]:
    """Values to look for."""
    match field.kind:
        case _ if field.choices:
            return field.choices[:2]
        case Kind.INTEGER:
            return [str(THEIRS), "1"]
        case Kind.NUMBER:
            return ["1"]
        case Kind.BOOLEAN:
            return ["true", "false"]
        case Kind.TIME:
            return ["2026-01-01T00:00:00Z"]
        case Kind.ADDRESS:
            return ["10.0.0.1"]
        case _:
            return [CANARY, OWN_CANARY]


def filled(endpoint: Endpoint, value: str) -> list[str]:
    """Its path, each parameter with a value of theirs; and with one of ours in all places but one."""
    names = re.findall(r"\{([a-z_]+)\}", endpoint.path)
    if not names:
        return [endpoint.path]
    choices = [[value, "1"] if name == "id" or name.endswith("_id") else [CANARY] for name in names]
    found = []
    for chosen in itertools.product(*choices):
        if value in chosen or CANARY in chosen:
            path = endpoint.path
            for name, each in zip(names, chosen, strict=True):
                path = path.replace(f"{{{name}}}", each)
            found.append(path)
    return found


def writes(api: ApiWorld) -> list[CallOf]:
    """Every change there is, of objects of theirs, and with references to them."""
    found: list[CallOf] = []
    for endpoint in api.endpoints:
        top = endpoint.path.split("/")[1]
        if endpoint.method == "GET" or endpoint.streamed or top in PASSED_OVER or top in ("auth", "me"):
            continue
        body = None if endpoint.body is None else sample_body(endpoint.body)
        if "{" in endpoint.path:
            found += [CallOf(endpoint.method, path, body) for path in filled(endpoint, str(THEIRS))]
        elif str(THEIRS) in json.dumps(body):
            found.append(CallOf(endpoint.method, endpoint.path, body))
    return found


def sample_body(kind: Any) -> Any:
    """The least that is well formed, with references to objects of theirs."""
    return sample(msgspec.inspect.type_info(kind))


def sample(info: Any) -> Any:
    match info:
        case msgspec.inspect.StructType():
            return {field.encode_name: sample(field.type) for field in info.fields if worth(field)}
        case msgspec.inspect.UnionType():
            return sample(next(each for each in info.types if not isinstance(each, msgspec.inspect.NoneType)))
        case msgspec.inspect.Metadata():
            return sample(info.type)
        case msgspec.inspect.IntType():
            return THEIRS if info.le is None or info.le > THEIRS else info.le
        case msgspec.inspect.StrType():
            return "x" * max(1, info.min_length or 1) if info.pattern is None else CANARY
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.FloatType():
            return 1.0
        case msgspec.inspect.ListType():
            return [sample(info.item_type)] if info.min_length else []
        case msgspec.inspect.LiteralType():
            return info.values[0]
        case msgspec.inspect.DateTimeType():
            return "2027-01-01T00:00:00Z"
        case _:
            return {}


def worth(field: Any) -> bool:
    """Members that are needed, and those that may refer to something."""
    return bool(field.required) or field.encode_name.endswith("_id")
