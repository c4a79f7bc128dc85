# -*- test-case-name: tests.admin.test_imports,tests.admin.test_uploads -*-
"""Where an image's file comes from, as the body of a creation says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from qvd.admin.call import Call
from qvd.admin.fetch import checked_url
from qvd.admin.imagefiles import StorageFull, check_room, open_staged
from qvd.admin.places import ImagePlaces
from qvd.admin.problems import Fault, Problem
from qvd.interfaces import ITransaction
from qvd.model.errors import InvalidRequest, NotFound
from qvd.model.imagenames import checked_name

Checksum = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$", description="SHA-256, in hexadecimal digits")]
FileName = Annotated[str, Meta(min_length=1, max_length=255, description="Name of a file, without folders")]


class UploadSource(Struct, tag_field="type", tag="upload", forbid_unknown_fields=True):
    """Sent afterwards, to C{/uploads/ID}."""

    name: FileName
    size: Annotated[int, Meta(ge=1, le=2**53 - 1, description="Bytes")]
    checksum: Checksum


class StagingSource(Struct, tag_field="type", tag="staging", forbid_unknown_fields=True):
    """A file of the staging folder."""

    file: FileName
    checksum: Checksum | None = None


class UrlSource(Struct, tag_field="type", tag="url", forbid_unknown_fields=True):
    """Fetched from a server of the Internet."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]
    checksum: Checksum | None = None


Source = UploadSource | StagingSource | UrlSource
SOURCE_ACLS: Mapping[type[Any], str] = {
    UploadSource: "di.create.upload",
    StagingSource: "di.create.staging",
    UrlSource: "di.create.url",
}


class UploadPlace(Struct, forbid_unknown_fields=True):
    """Where to send a file."""

    id: int
    location: str
    offset: int
    size: int


class Made(Struct, forbid_unknown_fields=True):
    """An image that is being made. C{upload}: where to send its file, if it is sent; C{job}: what fetches it else."""

    image: dict[str, Any]
    upload: UploadPlace | None
    job: int | None


def places_of(call: Call) -> ImagePlaces:
    """@raise Problem: this service has no folder of images."""
    places: ImagePlaces | None = call.services.places
    if places is None:
        raise Problem("unavailable", "This service has no access to the folder of images")
    return places


async def check_source(call: Call, source: Source) -> None:
    """@raise Problem: no image can come from there."""
    places, work = places_of(call), call.services.image_work
    try:
        match source:
            case UploadSource():
                checked_name(source.name)
                if source.size > places.largest:
                    raise Problem("payload-too-large", f"An image has at most {places.largest} bytes")
                await work.run(check_room, places, source.size)
            case StagingSource():
                checked_name(source.file)
                # That it is there is seen again when it is copied: this is for a clear answer now.
                await work.run((await work.open(open_staged, places, staging_tenant(call), source.file)).close)
            case UrlSource():
                checked_url(source.url)
    except InvalidRequest as error:
        member = {UploadSource: "name", StagingSource: "file", UrlSource: "url"}[type(source)]
        raise Problem("invalid-value", error.text, [Fault(f"/source/{member}", error.text)]) from None
    except StorageFull as error:
        raise Problem("insufficient-storage", error.text) from None
    except NotFound as error:
        raise Problem("staging-file-not-found", error.text) from None


def staging_tenant(call: Call) -> int | None:
    """Whose own staging folder the caller may use besides the common one."""
    return None if call.principal.superadmin else call.principal.tenant_id


def hidden(source: Source) -> Source:
    """As it may stand in the audit trail: what follows a URL's path may be a key."""
    if not isinstance(source, UrlSource):
        return source
    try:
        plain = urlsplit(source.url)._replace(query="", fragment="")
        url = plain._replace(netloc=plain.netloc.rpartition("@")[2]).geturl()
    except ValueError:
        url = "no URL"
    return UrlSource(url=url, checksum=source.checksum)


async def open_source(call: Call, tx: ITransaction, image_id: int, source: Source) -> dict[str, Any] | None:
    """Write where the file comes from, and make the row of an upload."""
    kind = str(type(source).__struct_config__.tag)
    await tx.execute("UPDATE dis SET source = %s WHERE id = %s", (kind, image_id))
    if not isinstance(source, UploadSource):
        return None
    caller = call.principal.administrator_id
    # One after the other, so that together they do not make too many.
    await tx.fetch_one("SELECT id FROM administrators WHERE id = %s FOR NO KEY UPDATE", (caller,))
    row = await tx.fetch_one("SELECT count(*) AS open FROM uploads WHERE administrator_id = %s", (caller,))
    most = places_of(call).most_uploads
    if row is not None and row["open"] >= most:
        raise Problem("conflict", f"You have {most} uploads that are not finished: finish or cancel one")
    await tx.execute("UPDATE dis SET size = %s WHERE id = %s", (source.size, image_id))
    made = await tx.fetch_one(
        "INSERT INTO uploads (di_id, administrator_id, name, size, checksum) VALUES (%s, %s, %s, %s, %s) RETURNING id",
        (image_id, caller, source.name, source.size, source.checksum.lower()),
    )
    assert made is not None
    return {"id": made["id"], "location": f"/api/v1/uploads/{made['id']}", "offset": 0, "size": source.size}
