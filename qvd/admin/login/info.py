# -*- test-case-name: tests.admin.test_info -*-
"""What everybody may know of the installation, before they log in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from msgspec import Struct

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import PUBLIC as EVERYBODY
from qvd.admin.endpoint import Endpoint
from qvd.admin.login.auth import TAG, ports_of
from qvd.admin.settings import values_of
from qvd.model.configuration import KEYS, PUBLIC, SEPARATORS


class InfoAuth(Struct, kw_only=True):
    """@ivar separators: characters that part a name from its tenant, where people type both."""

    separators: list[str]


class Info(Struct, kw_only=True):
    """What everybody may know.

    @ivar public_configuration: what is set of C{api.public.}, as a tree.
    """

    version: str
    multitenant: bool
    server_time: datetime
    auth: InfoAuth
    public_configuration: dict[str, Any]


def release() -> str:
    """Version of the installed package; empty where it runs from a folder."""
    try:
        return version("qvd")
    except PackageNotFoundError:
        return ""


RELEASE = release()
PUBLIC_KEYS = tuple(key.name for key in KEYS if key.name.startswith(PUBLIC) and not key.secret)


async def info(call: Call) -> Answer:
    """What everybody may know."""
    multitenant = await ports_of(call).policy.multitenant()
    names = [SEPARATORS, *PUBLIC_KEYS]
    separators, *public = await values_of(call.services.database, names)
    known = Info(
        version=RELEASE,
        multitenant=multitenant,
        server_time=datetime.now(UTC),
        auth=InfoAuth(separators=list(separators)),
        public_configuration=tree_of(zip(PUBLIC_KEYS, public, strict=True)),
    )
    return Answer(200, known)


def tree_of(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by the parts of their names, without what is empty."""
    tree: dict[str, Any] = {}
    for name, value in values:
        *above, last = name.removeprefix(PUBLIC).split(".")
        if value != "":
            place = tree
            for part in above:
                place = place.setdefault(part, {})
            place[last] = value
    return tree


def endpoints() -> Sequence[Endpoint]:
    """Of it."""
    return [
        Endpoint(
            method="GET",
            path="/info",
            action="info.read",
            need=EVERYBODY,
            handler=info,
            summary="What everybody may know of the installation",
            answers={200: Info},
            tag=TAG,
        ),
    ]
