# -*- test-case-name: tests.admin.test_openapi -*-
"""
The API's description of itself, as OpenAPI 3.1, made of the operations: what they take and answer, and who may call
them. It is the same for everybody, so nothing that belongs to one installation is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from qvd.admin.endpoint import UNSAFE, Endpoint, Parameter
from qvd.admin.problems import KINDS
from qvd.admin.schema import ADDRESS, LARGEST
from qvd.model.declared import Field, Kind, Resource
from qvd.model.filters import Operator

BASE = "/api/v1"
VERSION = "1.0.0"
SCHEMA = "#/components/schemas/"
PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")
PROBLEM = "application/problem+json"
LISTED = (Operator.IN, Operator.NIN, Operator.BETWEEN)
TEXTUAL = (Operator.LIKE, Operator.ILIKE, Operator.PREFIX)
ALWAYS = (400, 413, 429, 500, 503)
"""Statuses that any operation may answer with."""
Document = dict[str, Any]


def describe(endpoints: Sequence[Endpoint]) -> Document:
    """The whole description."""
    types = [each for endpoint in endpoints for each in types_of(endpoint)]
    schemas, components = msgspec.json.schema_components(types, ref_template=SCHEMA + "{name}")
    known = {id(each): schema for each, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Document] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(BASE + endpoint.path, {})
        operations[endpoint.method.lower()] = operation(endpoint, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "QVD administration",
            "version": VERSION,
            "description": "Everything that can be configured or commanded in QVD.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this description comes from"}],
        "tags": [{"name": name} for name in sorted({endpoint.tag for endpoint in endpoints if endpoint.tag})],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": problem_schema()},
            "responses": {f"Problem{status}": response for status, response in problem_responses().items()},
            "headers": {
                "RequestId": {"description": "By which the log and the audit trail know it", "schema": STRING},
                "ETag": {"description": "Version of what is answered", "schema": STRING},
            },
            "securitySchemes": SECURITY,
        },
    }


STRING: Mapping[str, Any] = {"type": "string"}
SECURITY = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-qvd",
        "description": "Of a login; what changes something needs the token against forgery, too",
    },
    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "As the login answered it"},
    "token": {"type": "http", "scheme": "bearer", "description": "An API token"},
}


def types_of(endpoint: Endpoint) -> Iterable[Any]:
    """msgspec types of bodies and answers. What is a JSON schema already is none."""
    if endpoint.body is not None and not is_schema(endpoint.body):
        yield endpoint.body
    for answer in endpoint.answers.values():
        if answer is not None and not is_schema(answer):
            yield answer


def is_schema(declared: Any) -> bool:
    return isinstance(declared, Mapping)


def schema_of(declared: Any, known: Mapping[int, Any]) -> Any:
    return declared if is_schema(declared) else known[id(declared)]


def operation(endpoint: Endpoint, known: Mapping[int, Any]) -> Document:
    """One operation of a path."""
    need = endpoint.need
    made: Document = {
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": [*path_parameters(endpoint), *query_parameters(endpoint), *header_parameters(endpoint)],
        "responses": responses(endpoint, known),
        "security": security(endpoint),
        "x-qvd-action": endpoint.action,
        "x-qvd-acl": list(need.any_of),
        "x-qvd-scope": "public" if need.public else "global" if need.superadmin else "tenant",
    }
    if endpoint.tag:
        made["tags"] = [endpoint.tag]
    listed = endpoint.filtered
    if listed is not None and endpoint.path == f"/{listed.collection}" and listed.get(listed.known_by) is not None:
        made["x-qvd-known-by"] = listed.known_by
    if endpoint.dangerous:
        made["x-qvd-reauthentication"] = True
    if endpoint.streamed and endpoint.method in UNSAFE:
        made["requestBody"] = {"content": {endpoint.media: {"schema": {}}}}
    elif endpoint.body is not None:
        content = {endpoint.media: {"schema": schema_of(endpoint.body, known)}}
        if endpoint.media != "application/json":
            content["application/json"] = content[endpoint.media]
        made["requestBody"] = {"required": True, "content": content}
    return made


def operation_id(endpoint: Endpoint) -> str:
    """Unique: actions are not, where two paths lead to the same thing."""
    return re.sub(r"\W+", "_", f"{endpoint.method}{endpoint.path}").strip("_").lower()


def security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.need.public:
        return []
    cookie: dict[str, list[str]] = {"session": []}
    if endpoint.method in UNSAFE:
        cookie["csrf"] = []
    return [{"token": []}, cookie]


def path_parameters(endpoint: Endpoint) -> list[Document]:
    return [
        {"name": name, "in": "path", "required": True, "schema": path_schema(name)}
        for name in PATH_PARAMETER.findall(endpoint.path)
    ]


def path_schema(name: str) -> Document:
    """As L{qvd.admin.dispatch.check_path} checks it."""
    if name == "id" or name.endswith("_id"):
        return {"type": "integer", "minimum": 0, "maximum": LARGEST}
    return {"type": "string", "minLength": 1}


def query_parameters(endpoint: Endpoint) -> list[Document]:
    found = [query_parameter(each) for each in endpoint.parameters]
    if endpoint.filtered is not None:
        found += filter_parameters(endpoint.filtered)
    return found


def query_parameter(parameter: Parameter) -> Document:
    schema: Mapping[str, Any] = parameter.schema
    made: Document = {"name": parameter.name, "in": "query", "description": parameter.text, "schema": dict(schema)}
    if parameter.repeats:
        made["schema"] = {"type": "array", "items": dict(schema)}
        made["explode"] = True
    return made


def filter_parameters(resource: Resource) -> list[Document]:
    """C{field=value} and C{field[op]=value}, for each field that lists are narrowed by."""
    found = []
    for each in resource.fields:
        if not each.filters or not each.sql or each.kind in (Kind.OBJECT, Kind.LIST):
            continue
        found.append(filter_parameter(each, each.name, f"{each.text}: one of these, with commas", STRING))
        for operator in Operator:
            if operator in TEXTUAL and each.kind is not Kind.TEXT:
                continue
            name = f"{each.name}[{operator.value}]"
            found.append(filter_parameter(each, name, f"{each.text}: {operator.value}", operand(each, operator)))
    return found


def filter_parameter(field: Field, name: str, text: str, schema: Mapping[str, Any]) -> Document:
    made: Document = {"name": name, "in": "query", "description": text, "schema": dict(schema)}
    if field.see:
        made["x-qvd-acl"] = list(field.see)
    if field.superadmin:
        made["x-qvd-scope"] = "global"
    return made


def operand(field: Field, operator: Operator) -> Mapping[str, Any]:
    """What an operator compares with."""
    if operator is Operator.NULL:
        return {"type": "boolean"}
    if operator in LISTED or operator in TEXTUAL:
        return STRING
    match field.kind:
        case Kind.BOOLEAN:
            return {"type": "boolean"}
        case Kind.INTEGER:
            return {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
        case Kind.NUMBER:
            return {"type": "number"}
        case Kind.TIME:
            return {"type": "string", "format": "date-time"}
        case Kind.ADDRESS:
            return {"type": "string", "pattern": ADDRESS}
        case _:
            return STRING


def header_parameters(endpoint: Endpoint) -> list[Document]:
    def header(name: str, text: str, required: bool = False) -> Document:
        return {"name": name, "in": "header", "description": text, "required": required, "schema": dict(STRING)}

    found = []
    if endpoint.if_match:
        match = header("If-Match", "Version that is meant; * is whichever there is", required=True)
        found.append(match | {"example": "*"})
    if endpoint.method == "GET" and 200 in endpoint.answers and not endpoint.streamed:
        found.append(header("If-None-Match", "Version that is known already"))
    if endpoint.method == "POST" and not endpoint.need.public and not endpoint.streamed:
        found.append(header("Idempotency-Key", "Names the request: sent again, it gets the same answer"))
    return found


def responses(endpoint: Endpoint, known: Mapping[int, Any]) -> Document:
    """What it answers, good or bad."""
    made: Document = {}
    for status, answer in endpoint.answers.items():
        made[str(status)] = good_response(endpoint, status, answer, known)
    if endpoint.method == "GET" and 200 in endpoint.answers and not endpoint.streamed:
        made["304"] = {"description": "It is the version that is known", "headers": headers("ETag")}
    for status in problem_statuses(endpoint):
        made.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    return dict(sorted(made.items()))


def good_response(endpoint: Endpoint, status: int, answer: Any, known: Mapping[int, Any]) -> Document:
    made: Document = {"description": TEXTS.get(status, "Done"), "headers": headers()}
    if answer is not None:
        made["content"] = {endpoint.produces: {"schema": schema_of(answer, known)}}
    if status in (201, 202):
        made["headers"]["Location"] = {"description": "Where it is", "schema": dict(STRING)}
    return made


TEXTS = {200: "Read or changed", 201: "Made", 202: "Begun", 204: "Done; there is nothing to say", 206: "A part"}


def headers(*names: str) -> Document:
    return {
        "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
        **{name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }


STORING = ("images", "uploads", "staging")
"""Operations that may find no room."""


def problem_statuses(endpoint: Endpoint) -> Iterable[int]:
    """Statuses of problems, as the declaration has it."""
    yield from ALWAYS
    if not endpoint.need.public:
        yield from (401, 403, 404)
    elif endpoint.body is not None:
        yield from (401, 403, 423)
    if "{" in endpoint.path:
        yield 404
    if endpoint.method in UNSAFE:
        yield from (404, 409, 422)
        if not endpoint.need.public:
            yield 412
    if endpoint.body is not None:
        yield from (415, 422)
    if endpoint.if_match:
        yield from (412, 428)
    if endpoint.open_query or endpoint.parameters:
        yield 422
    if endpoint.tag in STORING:
        yield 507


def problem_responses() -> Mapping[int, Document]:
    """For each status, the problems that have it."""
    found: dict[int, list[str]] = {}
    for name, kind in KINDS.items():
        if kind.status >= 400:
            found.setdefault(kind.status, []).append(name)
    return {
        status: {
            "description": f"One of: {', '.join(names)}",
            "headers": headers(),
            "content": {
                PROBLEM: {
                    "schema": {
                        "allOf": [{"$ref": f"{SCHEMA}Problem"}],
                        "properties": {
                            "status": {"const": status},
                            "type": {"enum": [f"/problems/{name}" for name in names]},
                        },
                    }
                }
            },
        }
        for status, names in found.items()
    }


def problem_schema() -> Document:
    """What went wrong (RFC 9457)."""
    fault = {
        "type": "object",
        "required": ["pointer", "code", "detail"],
        "properties": {"pointer": STRING, "code": STRING, "detail": STRING},
    }
    return {
        "title": "Problem",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "instance", "request_id"],
        "properties": {
            "type": STRING,
            "title": STRING,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "integer", "description": "Stable number of the kind of problem"},
            "detail": STRING,
            "instance": STRING,
            "request_id": STRING,
            "errors": {"type": "array", "items": fault},
            "acl": {"type": "string", "description": "Permission that is missing"},
            "dependents": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kind", "count"],
                    "properties": {"kind": STRING, "count": {"type": "integer"}},
                },
            },
        },
    }
