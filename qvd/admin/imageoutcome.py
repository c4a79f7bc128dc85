# -*- test-case-name: tests.admin.test_imports,tests.admin.test_uploads -*-
"""What becomes of an image that is being made: it is there, or it has failed and leaves no file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from qvd.admin.imagefiles import Found, open_part, remove
from qvd.admin.places import ImagePlaces
from qvd.admin.problems import Problem
from qvd.admin.services import Services
from qvd.interfaces import ITransaction, Row
from qvd.model.errors import Conflict, InvalidRequest, NotFound, QVDError
from qvd.model.expiry import ExpiryTerms
from qvd.model.images import wrong_type

CAUSE = "the making of an image"
IMPORT, VERIFY = "image.import", "image.verify"
"""Kinds of jobs that make images."""
OPEN = f"""
    EXISTS (SELECT FROM jobs j WHERE j.kind IN ('{IMPORT}', '{VERIFY}') AND j.state IN ('queued', 'running')
        AND j.object_id = d.id)
"""
LAST = f"""
    SELECT state, problem ->> 'detail' AS detail, cursor ->> 'name' AS name FROM jobs
    WHERE kind IN ('{IMPORT}', '{VERIFY}') AND object_id = %s ORDER BY id DESC LIMIT 1
"""
INTERRUPTED = "The service was restarted meanwhile: delete the image and make it again"
CANCELLED = "It was cancelled"
Check = Callable[[ITransaction], Awaitable[None]]
"""Raises what keeps a transaction from being done."""
log = Logger()


def places_of(services: Services) -> ImagePlaces:
    """Where the files are. Whoever has none runs no jobs that are about them."""
    assert services.places is not None
    return services.places


@frozen
class Result:
    """What a file was found to be, for the image's row.

    @ivar name: of the file.
    @ivar driver: that boots it.
    """

    found: Found
    name: str
    driver: str


async def register(services: Services, tx: ITransaction, image_id: int, result: Result) -> str:
    """Write what is known of the file now. Returns the image's state."""
    row = await tx.fetch_one("SELECT osf_id FROM dis WHERE id = %s", (image_id,))
    if row is None:
        raise NotFound("The image is not there any more")
    await services.image_tags.lock_vms(row["osf_id"], tx)
    image = await tx.fetch_one(
        "SELECT d.id, d.osf_id, d.version, d.state, d.auto_publish, d.future_tags, d.expire_soft_after,"
        " d.expire_hard_after, o.name AS osf, o.hypervisor FROM dis d JOIN osfs o ON o.id = d.osf_id"
        " WHERE d.id = %s FOR NO KEY UPDATE OF d",
        (image_id,),
    )
    if image is None:
        raise NotFound("The image is not there any more")
    wrong = wrong_type("The file", result.driver, image["osf"], image["hypervisor"])
    if wrong is not None:
        raise InvalidRequest(wrong)
    found = result.found
    done = await tx.execute(
        "UPDATE dis SET state = 'ready', path = %s, size = %s, received = %s, checksum = %s, type = %s, message = ''"
        " WHERE id = %s AND state IN ('uploading', 'verifying')",
        (result.name, found.size, found.size, found.checksum, result.driver, image_id),
    )
    if not done:
        raise Conflict(f"The image is in the state {image['state']!r}: nothing is waited for")
    await tx.execute("DELETE FROM uploads WHERE di_id = %s", (image_id,))
    return await publish_if_wanted(services, tx, {**image, "state": "ready"})


async def publish_if_wanted(services: Services, tx: ITransaction, image: Row) -> str:
    """Publication that was asked for when the image was made. That a tag is taken meanwhile is not the file's fault."""
    from qvd.admin.resources.imagelife import publish

    if not image["auto_publish"]:
        return "ready"
    fixed = await tx.fetch(
        "SELECT tag FROM di_tags WHERE osf_id = %s AND fixed AND di_id <> %s AND tag = ANY (%s)",
        (image["osf_id"], image["id"], image["future_tags"]),
    )
    if fixed:
        said = f"It was not published: the tag {fixed[0]['tag']!r} is the version of another image"
        await tx.execute("UPDATE dis SET message = %s WHERE id = %s", (said, image["id"]))
        return "ready"
    await publish(services, tx, image, ExpiryTerms())
    return "published"


async def fail(services: Services, image_id: int, why: str, name: str = "", check: Check | None = None) -> None:
    """The image could not be made.

    @param name: that its file may have by now.
    @param check: of the transaction that says so.
    """

    async def work(tx: ITransaction) -> None:
        if check is not None:
            await check(tx)
        await tx.execute("DELETE FROM uploads WHERE di_id = %s", (image_id,))
        await tx.execute(
            "UPDATE dis SET state = 'fail', message = %s WHERE id = %s AND state IN ('new', 'uploading', 'verifying')",
            (why, image_id),
        )

    await services.changes.transact("fail_image", CAUSE, work)
    await services.image_work.run(remove, places_of(services), image_id, name)


async def discard(services: Services, image: Mapping[str, Any]) -> None:
    """Take away the files of an image that was deleted. One that was put there by hand is not ours to take."""
    if services.places is None or not image["source"]:
        return
    others = await services.database.fetch_one("SELECT id FROM dis WHERE path = %s LIMIT 1", (image["path"],))
    name = "" if others is not None else image["path"]
    try:
        await services.image_work.run(remove, services.places, image["id"], name)
    except QVDError as error:
        # The garbage collection of the nodes reports what is left.
        log.warn("the file of image {image} stays: {text}", image=image["id"], text=error.text)


async def put_in_order(services: Services) -> None:
    """Images that nothing will come of, as their jobs have ended without their code: cancelled while they waited, or
    given up."""
    rows = await services.database.fetch(
        "SELECT d.id FROM dis d WHERE d.source <> '' AND (d.state IN ('new', 'verifying')"
        f" OR (d.state = 'uploading' AND d.source <> 'upload')) AND NOT {OPEN} ORDER BY d.id LIMIT 100"
    )
    for row in rows:
        await give_up(services, row["id"])


async def give_up(services: Services, image_id: int) -> None:
    """One of these."""
    if await services.image_work.run(busy, places_of(services), image_id):
        # Somebody who has not noticed yet that the job is over.
        return
    last = await services.database.fetch_one(LAST, (image_id,)) or {"state": "", "detail": None, "name": None}
    why = CANCELLED if last["state"] == "cancelled" else last["detail"] or INTERRUPTED

    async def check(tx: ITransaction) -> None:
        if await tx.fetch_one(f"SELECT 1 FROM dis d WHERE d.id = %s AND {OPEN}", (image_id,)):
            raise Conflict("Somebody has had it tried again")

    try:
        await fail(services, image_id, why, last["name"] or "", check)
    except Conflict as error:
        log.debug("image {image}: {text}", image=image_id, text=error.text)


async def sweep(services: Services) -> None:
    """Give up uploads that nothing came for too long."""
    places = places_of(services)
    rows = await services.database.fetch(
        "SELECT di_id FROM uploads u JOIN dis d ON d.id = u.di_id WHERE d.state = 'uploading'"
        " AND touched_at < now() - %s * interval '1 day'",
        (places.upload_days,),
    )
    for row in rows:
        if not await services.image_work.run(busy, places, row["di_id"]):
            await fail(services, row["di_id"], "The upload was given up: nothing came for too long")


def busy(places: ImagePlaces, image_id: int) -> bool:
    """Whether somebody writes to the image's file. In a thread."""
    try:
        open_part(places, image_id).close()
    except Conflict:
        return True
    return False


def problem_in(error: Exception) -> str:
    """What went wrong, in a sentence for the image's row."""
    match error:
        case QVDError(text=text):
            return str(text)
        case Problem(detail=detail):
            return str(detail)
        case _:
            return "The service failed; its log has the details"
