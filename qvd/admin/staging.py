# -*- test-case-name: tests.admin.test_imports -*-
"""The staging folder: files that administrators of the machine leave there to become images."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.imagefiles import staging_folders, trouble
from qvd.admin.imagesources import places_of, staging_tenant
from qvd.admin.places import ImagePlaces
from qvd.admin.problems import Problem
from qvd.model.errors import InvalidRequest
from qvd.model.imagenames import checked_name

MOST = 1000
"""Files that are shown."""


class StagedFile(msgspec.Struct, forbid_unknown_fields=True):
    """A file that can become an image. C{shared}: all tenants see it."""

    file: str
    size: int
    modified_at: datetime
    shared: bool


class StagedFiles(msgspec.Struct, forbid_unknown_fields=True):
    """Those that the caller may use."""

    items: list[StagedFile]


def staging_endpoints() -> Sequence[Endpoint]:
    """The operations on the staging folder."""
    return [
        Endpoint(
            method="GET",
            path="/staging",
            action="staging.list",
            need=acl("di.create."),
            handler=listed,
            summary="Staging: the files that can become images",
            answers={200: StagedFiles},
            tag="staging",
        ),
        Endpoint(
            method="GET",
            path="/staging/{file}",
            action="staging.read",
            need=acl("di.create."),
            handler=one,
            summary="Staging: one of these files",
            answers={200: StagedFile},
            tag="staging",
        ),
        Endpoint(
            method="DELETE",
            path="/staging/{file}",
            action="staging.delete",
            need=acl("di.create.staging-delete"),
            handler=delete,
            summary="Staging: delete one of one's own files",
            tag="staging",
        ),
    ]


async def listed(call: Call) -> Answer:
    places = places_of(call)
    found = await call.services.image_work.run(look, places, staging_tenant(call))
    return Answer(200, {"items": found[:MOST]})


async def one(call: Call) -> Answer:
    places = places_of(call)
    found = await call.services.image_work.run(look, places, staging_tenant(call))
    for each in found:
        if each["file"] == call.path["file"]:
            return Answer(200, each)
    raise no_file()


async def delete(call: Call) -> Answer:
    """Those for all tenants are the affair of administrators over all tenants."""
    places, name = places_of(call), call.path["file"]
    try:
        checked_name(name)
    except InvalidRequest:
        raise no_file() from None
    found = await call.services.image_work.run(look, places, staging_tenant(call))
    mine = next((each for each in found if each["file"] == name), None)
    if mine is None:
        raise no_file()
    if mine["shared"] and call.principal.multitenant and not call.principal.superadmin:
        raise Problem("forbidden", "It belongs to all tenants, and is none of yours to delete")
    folder = staging_folders(places, staging_tenant(call))[-1 if mine["shared"] else 0]
    await call.services.image_work.run(unlink, folder, name)
    call.subject = Subject("staging", None, name, call.principal.tenant_id, mine, None)
    return Answer(204)


def no_file() -> Problem:
    return Problem("staging-file-not-found", "There is no such file in the staging folder")


def look(places: ImagePlaces, tenant_id: int | None) -> list[dict[str, Any]]:
    """The files, by name; a tenant's own hides a common one. In a thread."""
    found: dict[str, dict[str, Any]] = {}
    for folder in reversed(staging_folders(places, tenant_id)):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_fit(entry):
                        found[entry.name] = described(entry, folder == places.staging)
        except OSError:
            # The tenant's own folder need not be there.
            continue
    return [found[name] for name in sorted(found)]


def is_fit(entry: os.DirEntry[str]) -> bool:
    try:
        checked_name(entry.name)
        return entry.is_file(follow_symlinks=False)
    except (InvalidRequest, OSError):
        return False


def described(entry: os.DirEntry[str], shared: bool) -> dict[str, Any]:
    status = entry.stat(follow_symlinks=False)
    assert stat.S_ISREG(status.st_mode)
    return {
        "file": entry.name,
        "size": status.st_size,
        "modified_at": datetime.fromtimestamp(status.st_mtime, UTC),
        "shared": shared,
    }


def unlink(folder: Path, name: str) -> None:
    """In a thread."""
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise trouble(error) from error
