# -*- test-case-name: tests.admin.test_openapi -*-
"""The API's description, served: for programs, and as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import etag, matches
from qvd.admin.endpoint import PUBLIC, Endpoint
from qvd.admin.openapi import BASE, Document, describe

OPENAPI_PATH, DOCS_PATH = "/openapi.json", "/docs"


class Description:
    """Made when it is first asked for, and kept.

    @param endpoints: all others.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._others = endpoints

    @cached_property
    def endpoints(self) -> Sequence[Endpoint]:
        """The operations that serve it."""
        return [
            Endpoint(
                method="GET",
                path=OPENAPI_PATH,
                action="description.read",
                need=PUBLIC,
                handler=self.serve_document,
                summary="This description, as OpenAPI 3.1",
                answers={200: {"type": "object", "required": ["openapi", "info", "paths"]}},
                tag="description",
            ),
            Endpoint(
                method="GET",
                path=DOCS_PATH,
                action="description.page",
                need=PUBLIC,
                handler=self.serve_page,
                summary="This description, as a page for people",
                answers={200: {"type": "string"}},
                produces="text/html",
                tag="description",
            ),
        ]

    @cached_property
    def document(self) -> Document:
        """As OpenAPI."""
        return describe([*self._others, *self.endpoints])

    @cached_property
    def _served(self) -> tuple[bytes, str]:
        return msgspec.json.encode(self.document), etag(self.document)

    @cached_property
    def _page(self) -> tuple[bytes, str]:
        text = page(self.document)
        return text.encode(), etag(text)

    async def serve_document(self, call: Call) -> Answer:
        return conditional(call, *self._served, "application/json")

    async def serve_page(self, call: Call) -> Answer:
        return conditional(call, *self._page, "text/html; charset=utf-8")


def conditional(call: Call, body: bytes, tag: str, media: str) -> Answer:
    """Not again to whoever has it. Everybody may keep it, who then asks whether it has changed."""
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if matches(call.headers.get("if-none-match", ""), tag):
        return Answer(304, None, headers)
    return Answer(200, body, headers, media)


def page(document: Document) -> str:
    """All operations, by what they are about. No script, no style, nothing from elsewhere."""
    sections: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = (operation.get("tags") or ["others"])[0]
            sections.setdefault(name, []).append(row(method, path, operation))
    title = escape(document["info"]["title"])
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>',
        f"<h1>{title}</h1>",
        f"<p>{escape(document['info']['description'])} For programs: ",
        f'<a href="{BASE}{OPENAPI_PATH}">{BASE}{OPENAPI_PATH}</a>.</p>',
    ]
    for name, rows in sorted(sections.items()):
        lines += [f'<h2 id="{escape(name)}">{escape(name)}</h2>', "<table><thead><tr>"]
        lines += [f"<th>{head}</th>" for head in ("Operation", "Does", "Permissions, any of", "Action")]
        lines += ["</tr></thead><tbody>", *rows, "</tbody></table>"]
    return "\n".join([*lines, "</body></html>", ""])


def row(method: str, path: str, operation: Document) -> str:
    match operation["x-qvd-scope"]:
        case "public":
            who = "everybody"
        case "global":
            who = ", ".join(operation["x-qvd-acl"]) + " (over all tenants)"
        case _:
            who = ", ".join(operation["x-qvd-acl"]) or "whoever is logged in"
    cells = (f"{method.upper()} {path}", operation["summary"], who, operation["x-qvd-action"])
    return "<tr>" + "".join(f"<td>{escape(each)}</td>" for each in cells) + "</tr>"
