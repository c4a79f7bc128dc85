# -*- test-case-name: tests.admin.test_imports,tests.admin.test_uploads -*-
"""
Jobs that bring an image to its file: it is copied or fetched, verified, and given its name.

The cursor says how much of the file is safe, of which version of its source, and later what was found: whoever goes on
reads that much again for the checksum, and has the source begin there, if it is the same still and can. Else it begins
anew. The image's row follows the job: if that fails or is cancelled, the image has failed, and leaves no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from qvd.admin.bodies import Body
from qvd.admin.call import Answer, Call
from qvd.admin.fetch import Fetcher, checked_url, system_resolver
from qvd.admin.imagefiles import (
    Found,
    Part,
    SharedFile,
    StorageFull,
    check_room,
    open_part,
    open_received,
    open_staged,
    settle,
)
from qvd.admin.imageoutcome import (
    CANCELLED,
    CAUSE,
    IMPORT,
    VERIFY,
    Result,
    fail,
    places_of,
    problem_in,
    put_in_order,
    register,
)
from qvd.admin.imagesources import SOURCE_ACLS, Source, StagingSource, UrlSource, hidden, staging_tenant
from qvd.admin.imagework import told
from qvd.admin.jobs.kinds import JobCancelled, JobContext, JobKind, ask_for
from qvd.admin.places import ImagePlaces
from qvd.admin.problems import Problem
from qvd.admin.services import Services
from qvd.interfaces import ITransaction, Row
from qvd.model.errors import (
    Conflict,
    DatabaseUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    OwnershipLost,
)
from qvd.model.imagenames import checked_name, name_of_url, stored_name
from qvd.model.imagetype import driver_of

TOLD_EVERY = 2.0
"""Seconds between two writings of how far an import is in the image's row."""
SAVE_EVERY = 64 * 1024**2
"""Bytes after which what was written is safe from a loss of power, and whoever goes on begins there."""
BLOCK = 1024**2
PAUSE, PAUSES = 1.0, 40
"""While somebody who has lost the job still has the file: longer than a lease."""


class Cursor(msgspec.Struct, omit_defaults=True):
    """How far it is.

    @ivar url: the whole of it, which may hold a key; the job's arguments show its path only.
    @ivar at: bytes that are safe, of the version of the source that C{mark} names.
    @ivar name: that the file gets, once it is verified; it is what was C{found} then.
    """

    url: str = ""
    at: int = 0
    mark: str = ""
    name: str = ""
    found: Found | None = None


class Origin(Body, Protocol):
    """Where a file comes from.

    @ivar start: the first byte that comes.
    @ivar mark: of this version of it; empty: there is none, and nobody can go on with it.
    """

    start: int
    mark: str

    def close(self) -> None:
        """Nothing more is wanted."""


async def ask_for_import(call: Call, tx: ITransaction, image_id: int, version: str, source: Source) -> Answer:
    """Have the file fetched, in the transaction that makes the image."""
    arguments = {
        "image_id": image_id,
        "tenant_id": staging_tenant(call),
        "source": msgspec.to_builtins(hidden(source)),
    }
    cursor = Cursor(url=source.url) if isinstance(source, UrlSource) else None
    return await ask_for(call, tx, IMPORT, arguments, cursor=cursor, **about(image_id, version))


async def ask_for_verification(call: Call, tx: ITransaction, image_id: int, version: str) -> Answer:
    """Have an upload verified, in the transaction that says that it is whole."""
    return await ask_for(call, tx, VERIFY, {"image_id": image_id}, **about(image_id, version))


def about(image_id: int, version: str) -> Mapping[str, Any]:
    return {"object_kind": "di", "object_id": image_id, "object_name": version, "unit": "bytes"}


class Making:
    """One image that is being made by a job."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.services: Services = context.services
        self.places: ImagePlaces = places_of(context.services)
        self.image_id = int(context.arguments["image_id"])
        self.cursor = msgspec.convert(context.cursor or {}, Cursor)

    async def run(self) -> Mapping[str, Any]:
        """All of it; what the image's row says then."""
        try:
            made = await self._made_already()
            return made or await self.make()
        except (DatabaseUnavailable, OwnershipLost):
            # Another one goes on, or we do, later.
            raise
        except CancelledError:
            # When the service stops, or the job is another one's, nobody has cancelled it.
            if self.context.cancelled:
                await self._fail(CANCELLED)
            raise
        except Exception as error:
            if self.context.cancelled:
                await self._fail(CANCELLED)
                raise JobCancelled from error
            await self._fail(problem_in(error))
            if isinstance(error, StorageFull):
                raise Problem("insufficient-storage", error.text) from error
            raise

    async def make(self) -> Mapping[str, Any]:
        """What a kind of job says."""
        raise NotImplementedError

    async def _made_already(self) -> Mapping[str, Any] | None:
        """An earlier run may have ended between the image's row and the job's."""
        await self.context.principal()
        row = await self.services.database.fetch_one(
            "SELECT id, state, size, checksum, type FROM dis WHERE id = %s", (self.image_id,)
        )
        if row is None:
            raise NotFound("The image is not there any more")
        return result_of(row) if row["state"] in ("ready", "published", "retired") else None

    async def _fail(self, why: str) -> None:
        """The image has failed. If somebody has it tried again, that begins anew."""
        name, self.cursor = self.cursor.name, Cursor(url=self.cursor.url)
        await self.context.save(self.cursor)
        await fail(self.services, self.image_id, why, name, lambda tx: self._hold(tx))

    async def _hold(self, tx: ITransaction) -> None:
        await self.services.jobs.hold(self.context.job, tx)

    async def save(self, **changes: Any) -> None:
        """Write where another one would go on."""
        self.cursor = msgspec.structs.replace(self.cursor, **changes)
        await self.context.save(self.cursor)

    async def open_part(self, keep: int) -> Part:
        """The image's unfinished file, with so much of it as is good."""
        for _ in range(PAUSES):
            self.context.check()
            try:
                return await self.services.image_work.open(open_part, self.places, self.image_id, keep)
            except Conflict:
                await deferLater(self.services.reactor, PAUSE)
        raise Conflict("Somebody else is still writing to the image's file")

    async def read_again(self, part: Part) -> None:
        """See what is there, for the checksum."""
        while await self.services.image_work.run(part.read_on, BLOCK):
            self.context.progress(part.seen)
            self.context.check()

    async def finish(self, name: str, found: Found, checksum: str | None) -> Mapping[str, Any]:
        """Compare the file with what was promised, give it its name, and let it be used.

        @raise InvalidRequest: it is not what was promised.
        """
        if checksum is not None and checksum.lower() != found.checksum:
            raise InvalidRequest("The file's checksum is not the one that was given: it was damaged on its way")
        driver = driver_of(found.type)
        if driver is None:
            raise InvalidRequest(f"The file is {found.type.value}: no virtual machine starts from that")
        await self.save(name=name, found=found)
        self.context.check()
        await self.services.image_work.run(settle, self.places, self.image_id, name)
        result = Result(found, name, driver)

        async def work(tx: ITransaction) -> str:
            await self._hold(tx)
            return await register(self.services, tx, self.image_id, result)

        state = await self.services.changes.transact("finish_image", CAUSE, work)
        self.context.progress(found.size, found.size)
        # A URL that may hold a key is of no more use.
        self.cursor = Cursor()
        await self.context.save(self.cursor)
        return result_of(
            {"id": self.image_id, "state": state, "size": found.size, "checksum": found.checksum, "type": driver}
        )


class Import(Making):
    """From the staging folder, or from a URL."""

    async def make(self) -> Mapping[str, Any]:
        source: Any = msgspec.convert(self.context.arguments["source"], Source)
        if isinstance(source, UrlSource):
            source.url = self.cursor.url or source.url
        needed = SOURCE_ACLS[type(source)]
        if not (await self.context.principal()).holds(needed):
            raise Problem("forbidden", f"The administrator whose job it is has not the permission {needed} any more")
        if isinstance(source, StagingSource):
            name = checked_name(source.file)
        else:
            name = name_of_url(unquote(urlsplit(checked_url(source.url)).path))
        found = self.cursor.found or await self._receive(source)
        return await self.finish(stored_name(self.image_id, name), found, source.checksum)

    async def _receive(self, source: StagingSource | UrlSource) -> Found:
        await self._begin()
        work, at, mark = self.services.image_work, self.cursor.at, self.cursor.mark
        part = await self.open_part(at if mark else 0)
        try:
            if part.offset < at:
                await work.run(part.clear)
            await self.read_again(part)
            origin = await self._open(source, part.offset, mark)
            try:
                if origin.start != part.offset:
                    await work.run(part.clear)
                if part.offset:
                    self.context.log(f"Going on at byte {part.offset}")
                return await self._take(part, origin)
            finally:
                origin.close()
        finally:
            # In a thread: it waits for one that still writes, since a cancellation does not end that.
            await work.run(part.close)

    async def _begin(self) -> None:
        """The image is being made, also one that has failed, if somebody has its job tried again."""
        await self.services.database.execute(
            "UPDATE dis SET state = 'uploading', message = '' WHERE id = %s AND state IN ('new', 'fail')",
            (self.image_id,),
        )

    async def _open(self, source: StagingSource | UrlSource, start: int, mark: str) -> Origin:
        if isinstance(source, UrlSource):
            return await fetcher_of(self.services).open(source.url, start, mark)
        tenant_id = self.context.arguments.get("tenant_id")
        work = self.services.image_work
        file = await work.open(open_staged, self.places, tenant_id, source.file)
        try:
            return Staged(self.services, file, *await work.run(file.go_to, mark, start))
        except BaseException:
            work.run(file.close).addErrback(told, "closing a staged file")
            raise

    async def _take(self, part: Part, origin: Origin) -> Found:
        """Write what comes to the file.

        @raise InvalidRequest: it is too long.
        """
        run, reactor, context = self.services.image_work.run, self.services.reactor, self.context
        total, saved = origin.length, part.offset
        ends, told_at = reactor.seconds() + self.places.fetch_seconds, reactor.seconds()
        if total is not None:
            self._check_length(total)
            await run(check_room, self.places, total - part.offset)
        context.progress(part.offset, total)
        await self._note(part.offset, total)
        while data := await origin.read():
            context.check()
            self._check_length(part.offset + len(data))
            await run(part.append, data)
            context.progress(part.offset)
            if reactor.seconds() > ends:
                raise DeadlineExceeded("The file has not come in the time that it was given")
            if part.offset - saved >= SAVE_EVERY:
                await run(part.sync)
                saved = part.offset
                await self.save(at=saved, mark=origin.mark)
            if reactor.seconds() - told_at >= TOLD_EVERY:
                told_at = reactor.seconds()
                await self._note(part.offset, total)
                await run(check_room, self.places, 0)
        await run(part.sync)
        await self._note(part.offset, part.offset)
        return part.found()

    def _check_length(self, length: int) -> None:
        if length > self.places.largest:
            raise InvalidRequest(f"An image has at most {self.places.largest} bytes")

    async def _note(self, received: int, size: int | None) -> None:
        """How far it is, in the image's row.

        @raise NotFound: the image was deleted meanwhile.
        """
        if not await self.services.database.execute(
            "UPDATE dis SET received = %s, size = %s WHERE id = %s AND state = 'uploading'",
            (received, size, self.image_id),
        ):
            raise NotFound("The image is not there any more")


class Verification(Making):
    """Of an upload whose file is whole."""

    async def make(self) -> Mapping[str, Any]:
        upload = await self.services.database.fetch_one(
            "SELECT name, checksum FROM uploads WHERE di_id = %s", (self.image_id,)
        )
        if upload is None:
            raise NotFound("The upload is not there any more: make the image again")
        name = stored_name(self.image_id, upload["name"])
        found = self.cursor.found or await self._examine(name)
        return await self.finish(name, found, upload["checksum"])

    async def _examine(self, name: str) -> Found:
        work = self.services.image_work
        part = await work.open(open_received, self.places, self.image_id, name)
        try:
            self.context.progress(0, part.offset)
            await self.read_again(part)
            return part.found()
        finally:
            await work.run(part.close)


class Staged:
    """A file of the staging folder, as an L{Origin}."""

    def __init__(self, services: Services, file: SharedFile, mark: str, start: int, length: int) -> None:
        self._work = services.image_work
        self._file = file
        self.mark = mark
        self.start = start
        self.length: int | None = length

    async def read(self) -> bytes:
        return await self._work.run(self._file.read, BLOCK)

    def close(self) -> None:
        """It was read."""
        self._work.run(self._file.close).addErrback(told, "closing a staged file")


def fetcher_of(services: Services) -> Fetcher:
    """What fetches from URLs."""
    places = places_of(services)
    resolve = system_resolver(services.image_work.run)
    return Fetcher(services.reactor, resolve, places.allowed_networks, places.silence)


def result_of(row: Row) -> Mapping[str, Any]:
    """What came of it."""
    return {"image_id": row["id"], **{name: row[name] for name in ("state", "size", "checksum", "type")}}


async def run_import(context: JobContext) -> Mapping[str, Any]:
    return await Import(context).run()


async def run_verification(context: JobContext) -> Mapping[str, Any]:
    return await Verification(context).run()


IMAGE_JOBS = (
    JobKind(IMPORT, run_import, at_once=8, tidy=put_in_order),
    JobKind(VERIFY, run_verification, at_once=2),
)
"""For services that have the folder of images. What the first one puts in order is that of both."""
