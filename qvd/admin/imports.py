# -*- test-case-name: tests.admin.test_imports -*-
"""
How an image comes to its file, as work that takes long: it is copied or fetched, verified, and given its name.

L{import_image} and L{verify_upload} may be called again after a restart: they begin anew, or go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from qvd.admin.bodies import Body
from qvd.admin.call import Call
from qvd.admin.fetch import Download, Fetcher, checked_url, system_resolver
from qvd.admin.imagefiles import Found, Part, SharedFile, check_room, examine, open_part, open_staged, remove, settle
from qvd.admin.imagesources import Source, StagingSource, UploadSource, UrlSource, arguments_of
from qvd.admin.imagework import told
from qvd.admin.places import ImagePlaces
from qvd.admin.problems import Problem
from qvd.interfaces import ITransaction, Row
from qvd.model.errors import Conflict, DatabaseUnavailable, DeadlineExceeded, InvalidRequest, NotFound, QVDError
from qvd.model.expiry import ExpiryTerms
from qvd.model.imagenames import checked_name, name_of_url, stored_name
from qvd.model.images import wrong_type
from qvd.model.imagetype import driver_of

Progress = Callable[[int, int | None], None]
"""Called with bytes that are done, and all of them where that is known."""
TOLD_EVERY = 2.0
"""Seconds between two writings of how far an import is."""
BLOCK = 1024**2
CAUSE = "the making of an image"
log = Logger()


def silent(done: int, total: int | None) -> None:
    """Nobody wants to know."""


def begin(call: Call, image_id: int, source: Source) -> None:
    """Start what makes the image, now that its row is there. An upload makes it itself."""
    if not isinstance(source, UploadSource):
        work = import_image(call.services, arguments_of(call, image_id, source))
        call.services.image_work.launch(f"import of image {image_id}", work)


async def import_image(services: Any, arguments: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
    """Copy or fetch an image's file, verify it and give it its name; publish it, if that was wanted.

    @param arguments: those of L{arguments_of}.
    @return: C{image_id}, C{state}, C{size}, C{checksum}, C{type}.
    @raise QVDError: it failed. The image's row says so as well, and no file is left.
    """
    image_id = int(arguments["image_id"])

    async def work() -> dict[str, Any]:
        source: Any = msgspec.convert(arguments["source"], Source)
        if isinstance(source, StagingSource):
            name = checked_name(source.file)
            body: Staged | Download = await staged(services, arguments.get("tenant_id"), source.file)
        else:
            assert isinstance(source, UrlSource)
            name = name_of_url(unquote(urlsplit(checked_url(source.url)).path))
            body = await fetcher_of(services).open(source.url)
        try:
            # Not cancelled in the middle of a thread that writes: the file would be closed under it.
            found = await services.image_work.apart("import", store(services, image_id, body, progress))
        finally:
            body.close()
        return await finish(services, image_id, stored_name(image_id, name), found, source.checksum)

    return await failing(services, image_id, work())


async def verify_upload(services: Any, arguments: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
    """Verify an upload whose file is whole. As L{import_image} else.

    @param arguments: C{image_id}.
    """
    image_id = int(arguments["image_id"])

    async def work() -> dict[str, Any]:
        upload = await services.database.fetch_one("SELECT name, checksum FROM uploads WHERE di_id = %s", (image_id,))
        if upload is None:
            raise NotFound("The upload is not there any more")
        name = stored_name(image_id, upload["name"])
        found = await services.image_work.run(examine, services.places, image_id, name)
        return await finish(services, image_id, name, found, upload["checksum"])

    return await failing(services, image_id, work())


async def failing(services: Any, image_id: int, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Do it. If it fails, the image has failed, and leaves no file."""
    try:
        return await work
    except CancelledError:
        # When the service stops, nobody has cancelled it: the next start goes on.
        if not services.image_work.stopping:
            await fail(services, image_id, "It was cancelled")
        raise
    except DatabaseUnavailable:
        # Whether it was written is not known; the next start looks.
        raise
    except QVDError as error:
        await fail(services, image_id, error.text)
        raise
    except Problem as error:
        await fail(services, image_id, error.detail)
        raise
    except Exception:
        await fail(services, image_id, "The service failed; its log has the details")
        raise


async def fail(services: Any, image_id: int, why: str) -> None:
    """The image could not be made."""

    async def work(tx: ITransaction) -> None:
        await tx.execute("DELETE FROM uploads WHERE di_id = %s", (image_id,))
        await tx.execute(
            "UPDATE dis SET state = 'fail', message = %s WHERE id = %s AND state IN ('new', 'uploading', 'verifying')",
            (why, image_id),
        )

    try:
        await services.changes.transact("fail_image", CAUSE, work)
    finally:
        await services.image_work.run(remove, services.places, image_id)


class Staged:
    """A file of the staging folder, as a L{Body}."""

    def __init__(self, services: Any, fd: int) -> None:
        self._work = services.image_work
        self._file = SharedFile(fd)
        self.length: int | None = os.fstat(fd).st_size

    async def read(self) -> bytes:
        data: bytes = await self._work.run(self._file.read, BLOCK)
        return data

    def close(self) -> None:
        """It was read."""
        self._work.run(self._file.close).addErrback(told, "closing a staged file")


async def staged(services: Any, tenant_id: int | None, name: str) -> Staged:
    """Open a file of the staging folder."""
    return Staged(services, await services.image_work.run(open_staged, services.places, tenant_id, name))


def fetcher_of(services: Any) -> Fetcher:
    """What fetches from URLs."""
    places: ImagePlaces = services.places
    resolve = system_resolver(services.image_work.run)
    return Fetcher(services.reactor, resolve, places.allowed_networks, places.silence)


async def store(services: Any, image_id: int, body: Body, progress: Progress) -> Found:
    """Write what comes to the image's unfinished file.

    @raise InvalidRequest: it is too long.
    """
    places: ImagePlaces = services.places
    run, reactor = services.image_work.run, services.reactor
    ends, told = reactor.seconds() + places.fetch_seconds, reactor.seconds()
    if body.length is not None:
        check_length(places, body.length)
        await run(check_room, places, body.length)
    await note(services, image_id, 0, body.length)
    part: Part = await run(open_part, places, image_id, afresh=True)
    try:
        while data := await body.read():
            check_length(places, part.offset + len(data))
            await run(part.append, data)
            progress(part.offset, body.length)
            if reactor.seconds() > ends:
                raise DeadlineExceeded("The file has not come in the time that it was given")
            if reactor.seconds() - told >= TOLD_EVERY:
                told = reactor.seconds()
                await note(services, image_id, part.offset, body.length)
                await run(check_room, places, 0)
        await run(part.sync)
        await note(services, image_id, part.offset, part.offset)
        return part.found()
    finally:
        await run(part.close)


def check_length(places: ImagePlaces, length: int) -> None:
    if length > places.largest:
        raise InvalidRequest(f"An image has at most {places.largest} bytes")


async def note(services: Any, image_id: int, received: int, size: int | None) -> None:
    """How far it is.

    @raise NotFound: the image was deleted meanwhile.
    """
    if not await services.database.execute(
        "UPDATE dis SET state = 'uploading', received = %s, size = %s WHERE id = %s AND state IN ('new', 'uploading')",
        (received, size, image_id),
    ):
        raise NotFound("The image is not there any more, or was made already")


@frozen
class Result:
    """What a file was found to be, for the image's row."""

    found: Found
    name: str
    driver: str


async def finish(services: Any, image_id: int, name: str, found: Found, checksum: str | None) -> dict[str, Any]:
    """Compare the file with what was promised, give it its name, and let it be used.

    @raise InvalidRequest: it is not what was promised.
    """
    if checksum is not None and checksum.lower() != found.checksum:
        raise InvalidRequest("The file's checksum is not the one that was given: it was damaged on its way")
    driver = driver_of(found.type)
    if driver is None:
        raise InvalidRequest(f"The file is {found.type.value}: no virtual machine starts from that")
    result = Result(found, name, driver)
    await services.image_work.run(settle, services.places, image_id, name)
    try:
        state = await services.changes.transact(
            "finish_image", CAUSE, lambda tx: register(services, tx, image_id, result)
        )
    except (NotFound, Conflict, InvalidRequest, Problem):
        await services.image_work.run(remove, services.places, image_id, name)
        raise
    return {
        "image_id": image_id,
        "state": state,
        "size": found.size,
        "checksum": found.checksum,
        "type": driver,
    }


async def register(services: Any, tx: ITransaction, image_id: int, result: Result) -> str:
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


async def publish_if_wanted(services: Any, tx: ITransaction, image: Row) -> str:
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


async def discard(services: Any, image: Mapping[str, Any]) -> None:
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


async def recover(services: Any) -> None:
    """After a start: go on with what an earlier run left in the middle, unless another service is at it."""
    rows = await services.database.fetch(
        "SELECT d.id, d.state, d.source, u.id AS upload FROM dis d LEFT JOIN uploads u ON u.di_id = d.id"
        " WHERE d.state IN ('uploading', 'verifying') AND d.source <> '' ORDER BY d.id"
    )
    for row in rows:
        if row["source"] == "upload" and row["state"] == "verifying":
            await quietly(verify_upload(services, {"image_id": row["id"]}))
        elif row["source"] != "upload" and not await services.image_work.run(busy, services.places, row["id"]):
            await fail(services, row["id"], "The service was restarted meanwhile: delete the image and make it again")


async def sweep(services: Any) -> None:
    """Give up uploads that nothing came for too long."""
    rows = await services.database.fetch(
        "SELECT di_id FROM uploads u JOIN dis d ON d.id = u.di_id WHERE d.state = 'uploading'"
        " AND touched_at < now() - %s * interval '1 day'",
        (services.places.upload_days,),
    )
    for row in rows:
        if not await services.image_work.run(busy, services.places, row["di_id"]):
            await fail(services, row["di_id"], "The upload was given up: nothing came for too long")


async def quietly(work: Coroutine[Any, Any, Any]) -> None:
    """The image's row says what went wrong."""
    try:
        await work
    except QVDError as error:
        log.info("an image could not be made: {text}", text=error.text)


def busy(places: ImagePlaces, image_id: int) -> bool:
    """Whether somebody writes to the image's file. In a thread."""
    try:
        open_part(places, image_id).close()
    except Conflict:
        return True
    return False
