# -*- test-case-name: tests.cli.test_raw -*-
"""C{qvd api}: any call, as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from qvd.cli.exits import usage
from qvd.cli.output import FORMATS
from qvd.cli.session import Session, output_options

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@click.command()
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("--query", multiple=True, metavar="NAME=VALUE", help="Parameter of the query string. May be repeated.")
@click.option("--header", multiple=True, metavar="NAME:VALUE", help="Header of the request. May be repeated.")
@click.option("--data", metavar="JSON", help="Body. What is secret is in a file: see --body.")
@click.option("--body", metavar="FILE", help="Body from a file; - is standard input.")
@click.option("-i", "--include", is_flag=True, help="Show status and headers first.")
@output_options
@click.pass_obj
def api(
    session: Session,
    method: str,
    path: str,
    query: tuple[str, ...],
    header: tuple[str, ...],
    data: str | None,
    body: str | None,
    include: bool,
) -> None:
    """Call the API as it is: qvd api GET /vms --query state=running.

    The path is below /api/v1. Answers are JSON, unless -o says otherwise.
    """
    if data is not None and body is not None:
        raise usage("The body is given with --data or with --body, not with both")
    asked: dict[str, list[str]] = {}
    for name, value in (split(each, "=") for each in query):
        asked.setdefault(name, []).append(value)
    headers = {name.strip(): value.strip() for name, value in (split(each, ":") for each in header)}
    content = body_of(session, data, body)
    if method.upper() == "PATCH" and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    reply = session.call(method.upper(), path, query=asked, body=content, headers=headers)
    if include:
        session.screen.write(f"HTTP {reply.status}")
        for name, value in reply.headers.items():
            session.screen.write(f"{name}: {value}")
        session.screen.write("")
    if isinstance(reply.body, bytes):
        session.screen.out.write(reply.body.decode("utf-8", "replace"))
    elif reply.body is not None:
        if session.screen.format == FORMATS[0]:
            session.screen.format = "json"
        session.screen.document(reply.body)


def split(text: str, sign: str) -> tuple[str, str]:
    name, found, value = text.partition(sign)
    if not found or not name:
        raise usage(f"Written as NAME{sign}VALUE, not {text!r}")
    return name, value


def body_of(session: Session, data: str | None, place: str | None) -> Any:
    if data is None and place is None:
        return None
    try:
        text = data if data is not None else session.stdin.read() if place == "-" else Path(str(place)).read_text()
    except (OSError, UnicodeDecodeError):
        raise usage(f"{place} cannot be read") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise usage("The body is no JSON") from None
