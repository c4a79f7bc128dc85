# -*- test-case-name: tests.cli.test_derived -*-
"""What a derived command does: a call of its operation, made of what was typed; and the answer, written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from qvd.apiclient import BadAnswer, Reply
from qvd.cli import bulk, listing
from qvd.cli.derived import ID, Derived
from qvd.cli.description import JSON, UPLOAD, Member
from qvd.cli.exits import usage
from qvd.cli.filters import query_filter
from qvd.cli.finding import number_of
from qvd.cli.secrets import read_secret
from qvd.cli.session import Session
from qvd.cli.values import anything, list_of, object_of, read_body, value_of
from qvd.cli.waiting import LONGEST, follow

Given = Mapping[str, Any]


def perform(session: Session, command: Derived, given: Given) -> None:
    """@param given: what was typed, by the names of the command's parameters."""
    operation = command.operation
    if command.is_for_many and bulk.is_meant(given):
        bulk.perform(session, command, given, body_of(session, command, given), waits(given))
        return
    path = path_of(session, command, given)
    if operation.lists and operation.method == "GET":
        listing.perform(session, command, path, query_of(session, command, given), given)
        return
    query = query_of(session, command, given)
    if operation.takes_query("fields") and given.get("fields"):
        query["fields"] = given["fields"]
    if given.get("actions"):
        query["include"] = "actions"
    if given.get("condition"):
        query |= query_filter(given["condition"], operation.conditions, "")
    if operation.takes == UPLOAD:
        send(session, path, given["file"])
        return
    if operation.produces and not set(operation.produces) & set(JSON):
        stream(session, operation.method, path, query)
        return
    headers = {"If-Match": given["if_match"]} if operation.if_match else {}
    if operation.takes:
        headers["Content-Type"] = operation.takes
    body = body_of(session, command, given) if operation.takes else None
    reply = session.call(operation.method, path, query=query, body=body, headers=headers)
    if waits(given):
        follow(session, reply, path, given.get("wait_for") or LONGEST)
    show(session, command, reply, given)


def waits(given: Given) -> bool:
    return bool(given.get("wait") or given.get("wait_for"))


def path_of(session: Session, command: Derived, given: Given) -> str:
    """With what was typed in the place of parameters."""
    path = command.operation.path
    for each in command.operation.path_parameters:
        typed = given[f"path_{each.name}"]
        text = typed if isinstance(typed, str) else next(iter(typed), "")
        if not text:
            raise usage("Say which: numbers, names, or --filter")
        if each.shape.kind == "integer":
            # What a path begins with is the collection; what else it names is of another one.
            text = str(number_of(session, command.kind_of(each.name), text))
        path = path.replace(f"{{{each.name}}}", quote(text, safe=""))
    return path


def query_of(session: Session, command: Derived, given: Given) -> dict[str, Any]:
    """Parameters of the query string that were given."""
    found: dict[str, Any] = {}
    for each in command.operation.query:
        typed = given.get(f"query_{each.name}")
        if typed is None or typed == ():
            continue
        if each.shape.kind == "list":
            found[each.name] = list_of(each.name, each.shape, typed, finder(session))
        else:
            found[each.name] = (
                typed if isinstance(typed, bool) else value_of(each.name, each.shape, typed, finder(session))
            )
    return found


def body_of(session: Session, command: Derived, given: Given) -> dict[str, Any]:
    """Members of the body that were given."""
    found = read_body(given["body"], session.stdin) if given.get("body") else {}
    for each in command.operation.members:
        typed, place = given.get(f"member_{each.name}"), given.get(f"secret_{each.name}")
        if place is not None:
            found[each.name] = read_secret(place, session.stdin)
        elif typed is not None and typed != ():
            found[each.name] = member_value(session, each, typed)
        elif each.name in (given.get("clear") or ()):
            found[each.name] = None
        elif each.shape.kind == "secret" and each.required and each.name not in found:
            found[each.name] = session.ask_secret(secret_words(each.name))
    member = command.positional
    if member is not None and member.name not in found:
        raise usage(f"Say the {member.name}, or give it in a file with --{member.name}-file")
    return found


def member_value(session: Session, member: Member, typed: Any) -> Any:
    if isinstance(typed, bool):
        return typed
    match member.shape.kind:
        case "list":
            return list_of(member.name, member.shape, typed, finder(session))
        case "object":
            return object_of(member.name, typed)
        case "any":
            return anything(typed)
        case _:
            return value_of(member.name, member.shape, typed, finder(session))


def secret_words(name: str) -> str:
    """As the question has it."""
    return {"current": "password up to now", "new": "new password", "otp": "one-time code"}.get(name, name)


def finder(session: Session) -> Any:
    """Finds the objects that members and parameters name."""

    def find(word: str, text: str) -> int | None:
        collection = session.description.named(word)
        return None if collection is None else number_of(session, collection, text)

    return find


def send(session: Session, path: str, file: str) -> None:
    from pathlib import Path

    session.api.upload(path, Path(file))
    session.screen.say("It is all there.")


def stream(session: Session, method: str, path: str, query: Given) -> None:
    """What is no JSON goes out as it comes."""
    out = getattr(session.screen.out, "buffer", None)
    with session.api.stream(method, path, query=query) as (_, chunks):
        for chunk in chunks:
            if out is None:
                session.screen.out.write(chunk.decode("utf-8", "replace"))
            else:
                out.write(chunk)


def show(session: Session, command: Derived, reply: Reply, given: Given) -> None:
    """Write an answer."""
    body = reply.body
    columns = listing.names_of(given.get("fields"))
    if command.operation.method == "HEAD":
        session.screen.document({name: value for name, value in reply.headers.items() if name.startswith("upload-")})
    elif body is None:
        session.screen.say("Done.")
    elif isinstance(body, bytes):
        raise BadAnswer("The answer is not JSON")
    elif (
        isinstance(body, dict)
        and isinstance(body.get("items"), list)
        and all(isinstance(e, dict) for e in body["items"])
    ):
        session.screen.rows(body["items"], columns)
    else:
        session.screen.document(body, columns and [ID, *(each for each in columns if each != ID)])
    if reply.status == 202 and isinstance(body, dict) and "/jobs/" in reply.headers.get("location", ""):
        session.screen.say(f"Job {body.get('id')} does it: qvd job show {body.get('id')}")
