# -*- test-case-name: tests.admin.test_uploads -*-
"""
Uploads of images that can be resumed: after tus 1.0 (https://tus.io/protocols/resumable-upload), without its creation.

C{HEAD} tells how much is there, C{PATCH} sends more from there on. The file itself is the truth about how much is
there, and its lock lets one request write at a time. What was sent is verified as a whole at the end, by a job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError

from qvd.admin.bodies import Body, BodyLost
from qvd.admin.call import Answer, Call, Subject
from qvd.admin.endpoint import LOGGED_IN, Endpoint
from qvd.admin.imagefiles import Part, StorageFull, open_part, part_size, remove
from qvd.admin.imageoutcome import fail
from qvd.admin.imagesources import places_of
from qvd.admin.jobs.images import ask_for_verification
from qvd.admin.problems import Problem, not_found
from qvd.interfaces import ITransaction
from qvd.model.errors import Conflict, NotFound

MEDIA = "application/offset+octet-stream"
SYNC_EVERY = 64 * 1024**2
"""Bytes after which what was written is safe from a loss of power."""
VERSION = {"Tus-Resumable": "1.0.0"}


def upload_endpoints() -> Sequence[Endpoint]:
    """The operations on uploads."""
    return [
        Endpoint(
            method="HEAD",
            path="/uploads/{id}",
            action="upload.read",
            need=LOGGED_IN,
            handler=head,
            summary="Uploads: how much is there",
            answers={200: None},
            tag="uploads",
        ),
        Endpoint(
            method="PATCH",
            path="/uploads/{id}",
            action="upload.send",
            need=LOGGED_IN,
            handler=send,
            summary="Uploads: send more, from Upload-Offset on",
            media=MEDIA,
            streamed=True,
            tag="uploads",
        ),
        Endpoint(
            method="DELETE",
            path="/uploads/{id}",
            action="upload.cancel",
            need=LOGGED_IN,
            handler=cancel,
            summary="Uploads: give one up, and its image with it",
            tag="uploads",
        ),
    ]


async def find(call: Call, tx: ITransaction | None = None) -> Mapping[str, Any]:
    """The upload of a call, which belongs to the caller.

    @raise Problem: there is none.
    """
    # Locked image first, as a deletion of it does.
    row = await (tx or call.services.database).fetch_one(
        "SELECT u.id, u.di_id, u.size, d.state, d.tenant_id, d.version FROM uploads u JOIN dis d ON d.id = u.di_id"
        " WHERE u.id = %s AND u.administrator_id = %s AND (%s OR d.tenant_id = %s)"
        + (" FOR NO KEY UPDATE OF d" if tx is not None else ""),
        (call.number(), call.principal.administrator_id, call.principal.superadmin, call.principal.tenant_id),
    )
    if row is None:
        raise not_found("upload")
    found: Mapping[str, Any] = row
    return found


async def head(call: Call) -> Answer:
    upload, places = await find(call), places_of(call)
    offset = upload["size"]
    if upload["state"] == "uploading":
        offset = await call.services.image_work.run(part_size, places, upload["di_id"])
    return Answer(200, None, {**VERSION, "Upload-Offset": str(offset), "Upload-Length": str(upload["size"])})


async def send(call: Call) -> Answer:
    """Take in what comes. What has come stays, whatever becomes of the connection."""
    upload = await find(call)
    places_of(call)
    offset = checked_head(call, upload)
    receipt = Receipt(call, upload, offset, call.request.body)
    try:
        at = await call.services.image_work.apart(f"upload {upload['id']}", receipt.take())
    except StorageFull as error:
        await fail(call.services, upload["di_id"], error.text)
        raise Problem("insufficient-storage", error.text) from None
    except CancelledError:
        raise Problem("upload-failed", "The connection ended before the body did") from None
    except Conflict as error:
        raise Problem("conflict", error.text, headers={"Retry-After": "2"}) from None
    return await call.change(lambda tx: receipt.write_down(tx, at))


def checked_head(call: Call, upload: Mapping[str, Any]) -> int:
    """Where the body goes.

    @raise Problem: the head says something that cannot be.
    """
    media = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != MEDIA:
        raise Problem("unsupported-media-type", f"The body must be {MEDIA}")
    said = call.headers.get("upload-offset", "")
    if not (said.isascii() and said.isdigit() and len(said) < 17):
        raise Problem("malformed-request", "Upload-Offset must say where the body goes")
    if upload["state"] != "uploading":
        raise Problem("conflict", "All of the file is there already")
    length = call.request.body.length
    if length is not None and int(said) + length > upload["size"]:
        raise Problem("payload-too-large", f"The file was announced with {upload['size']} bytes")
    return int(said)


@define
class Receipt:
    """One request that brings a part of a file.

    @ivar offset: where it says that its body goes.
    """

    call: Call
    upload: Mapping[str, Any]
    offset: int
    body: Body

    async def take(self) -> int:
        """Write the body to the file. Returns how much of the file is there then."""
        services, image_id = self.call.services, self.upload["di_id"]
        run = services.image_work.run
        part: Part = await run(open_part, services.places, image_id)
        try:
            if part.offset != self.offset:
                raise Problem(
                    "offset-mismatch",
                    f"The upload goes on at byte {part.offset}",
                    headers={**VERSION, "Upload-Offset": str(part.offset)},
                )
            # Deleted between the look at the row and the opening: then this is a file of nobody.
            await find(self.call)
            await self._fill(part, run)
            return part.offset
        except (NotFound, Problem) as problem:
            if isinstance(problem, Problem) and problem.kind == "not-found":
                await run(remove, services.places, image_id)
            raise
        finally:
            await run(part.close)

    async def _fill(self, part: Part, run: Any) -> None:
        synced = part.offset
        try:
            while data := await self.body.read():
                if part.offset + len(data) > self.upload["size"]:
                    raise Problem("payload-too-large", f"The file was announced with {self.upload['size']} bytes")
                await run(part.append, data)
                if part.offset - synced >= SYNC_EVERY:
                    await run(part.sync)
                    synced = part.offset
                    await self._note(part.offset)
        except BodyLost as error:
            raise Problem("upload-failed", str(error)) from None
        finally:
            await run(part.sync)
            await self._note(part.offset)

    async def _note(self, offset: int) -> None:
        """How far it is, for whoever looks at the image; and that something came.

        @raise Problem: the upload was cancelled meanwhile.
        """
        database = self.call.services.database
        await database.execute("UPDATE dis SET received = %s WHERE id = %s", (offset, self.upload["di_id"]))
        if not await database.execute("UPDATE uploads SET touched_at = now() WHERE id = %s", (self.upload["id"],)):
            raise not_found("upload")

    async def write_down(self, tx: ITransaction, at: int) -> Answer:
        """The change, with its audit row."""
        upload = await find(self.call, tx)
        headers = {**VERSION, "Upload-Offset": str(at)}
        if at == upload["size"] and await tx.execute(
            "UPDATE dis SET state = 'verifying' WHERE id = %s AND state = 'uploading'", (upload["di_id"],)
        ):
            asked = await ask_for_verification(self.call, tx, upload["di_id"], upload["version"])
            headers["Link"] = f'<{asked.headers["Location"]}>; rel="monitor"'
        before, after = {"offset": self.offset}, {"offset": at, "size": upload["size"]}
        self.call.subject = Subject("di", upload["di_id"], upload["version"], upload["tenant_id"], before, after)
        return Answer(204, None, headers)


async def cancel(call: Call) -> Answer:
    """The image goes as well: nothing will come of it."""
    places_of(call)

    async def work(tx: ITransaction) -> Mapping[str, Any]:
        upload = await find(call, tx)
        if upload["state"] != "uploading":
            raise Problem("conflict", "All of the file is there already: delete the image")
        await tx.execute("DELETE FROM dis WHERE id = %s", (upload["di_id"],))
        before = {"size": upload["size"], "state": upload["state"]}
        call.subject = Subject("di", upload["di_id"], upload["version"], upload["tenant_id"], before, None)
        return upload

    upload = await call.change(work)
    await call.services.image_work.run(remove, call.services.places, upload["di_id"])
    return Answer(204)
