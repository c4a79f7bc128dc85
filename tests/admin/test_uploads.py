"""Uploads: what is sent in pieces becomes an image when it is whole and verified, and nothing else ever does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qvd.admin import imagefiles
from qvd.admin.imagefiles import SharedFile
from qvd.admin.imageoutcome import sweep
from qvd.admin.jobs import images as imagejobs
from qvd.admin.jobs.runner import CHANNEL
from qvd.model.errors import Conflict, DatabaseUnavailable
from tests.admin.imageworld import DISK, SUM, ImageWorld, Pieces, chunks, cut, images
from tests.fakes.asynchronous import asynchronous, pause, spawn, until

__all__ = ["images"]


@asynchronous
async def test_in_pieces(images: ImageWorld) -> None:
    image, upload = await images.upload(auto_publish=True, tags=["free"], default=True)
    assert images.row(image)["state"] == "uploading" and images.files() == []
    at = 0
    for piece in chunks(DISK, 4000):
        assert await images.offset(upload) == at
        sent = await images.send(upload, at, piece)
        at += len(piece)
        assert sent.status == 204 and sent.headers["Upload-Offset"] == str(at)
    row = await images.settled(image)
    assert (row["state"], row["checksum"], row["size"], row["type"]) == ("published", SUM, len(DISK), "kvm")
    assert row["path"] == f"{image}-a.qcow2" and images.files() == [row["path"]]
    assert (images.folder / row["path"]).read_bytes() == DISK
    assert {tag for tag, held in images.tags().items() if held == image} >= {"free", "default", "head"}
    assert (await images.api.call(images.anna, "HEAD", f"/uploads/{upload}")).status == 404
    trail = images.api.trail()
    assert [entry["action"] for entry in trail] == ["di.create", "upload.send", "upload.send", "upload.send"]
    assert trail[2]["before"] == {"offset": 4000} and trail[2]["after"] == {"offset": 8000, "size": len(DISK)}


@pytest.mark.acceptance(14)
@asynchronous
async def test_interrupted_five_times(images: ImageWorld) -> None:
    image, upload = await images.upload()
    for _ in range(5):
        at = await images.offset(upload)
        lost = await images.send(upload, at, cut(DISK[at : at + 1000], DISK[at + 1000 : at + 1500]))
        assert lost.problem == "upload-failed"
        assert await images.offset(upload) == at + 1500
    assert images.row(image)["received"] == 7500
    at = await images.offset(upload)
    assert (await images.send(upload, at, DISK[at:])).status == 204
    row = await images.settled(image)
    assert (row["state"], row["checksum"]) == ("ready", SUM)


@asynchronous
async def test_offset_that_is_none(images: ImageWorld) -> None:
    _, upload = await images.upload()
    await images.send(upload, 0, DISK[:100])
    for offset in (0, 99, 101, 10**9):
        reply = await images.send(upload, offset, b"x")
        assert reply.status in (409, 413), offset
        if reply.status == 409:
            assert reply.problem == "offset-mismatch" and reply.headers["Upload-Offset"] == "100"
    for text in ("-1", "", "x", "1e3", "٣", "1" * 20):
        assert (await images.send(upload, text, b"x")).problem == "malformed-request"
    assert (await images.send(upload, 100, b"x", media="application/json")).problem == "unsupported-media-type"
    assert await images.offset(upload) == 100


@asynchronous
async def test_more_than_announced(images: ImageWorld) -> None:
    image, upload = await images.upload()
    assert (await images.send(upload, 0, DISK + b"x")).problem == "payload-too-large"
    assert (await images.send(upload, 0, Pieces([DISK, b"x"]))).problem == "payload-too-large"
    # The rest of such a request is not taken in, and what came before is whole.
    assert images.row(image)["state"] == "uploading" and await images.offset(upload) == len(DISK)
    assert (await images.send(upload, len(DISK), b"")).status == 204
    assert (await images.settled(image))["state"] == "ready"


@asynchronous
async def test_wrong_checksum(images: ImageWorld) -> None:
    image, upload = await images.upload()
    assert (await images.send(upload, 0, DISK[:-1] + b"x")).status == 204
    row = await images.settled(image)
    assert row["state"] == "fail" and "checksum" in row["message"] and row["path"] == ""
    assert images.files() == []
    assert (await images.api.call(images.anna, "HEAD", f"/uploads/{upload}")).status == 404


@asynchronous
async def test_what_no_driver_boots(images: ImageWorld) -> None:
    image, upload = await images.upload(b"#!/bin/sh\n")
    await images.send(upload, 0, b"#!/bin/sh\n")
    row = await images.settled(image)
    assert row["state"] == "fail" and "unknown kind" in row["message"] and images.files() == []


@asynchronous
async def test_what_the_osf_does_not_boot(images: ImageWorld) -> None:
    images.api.ask("UPDATE osfs SET hypervisor = 'lxc'")
    image, upload = await images.upload()
    await images.send(upload, 0, DISK)
    row = await images.settled(image)
    assert row["state"] == "fail" and "lxc" in row["message"] and images.files() == []


@asynchronous
async def test_second_writer(images: ImageWorld) -> None:
    image, upload = await images.upload()
    gate: Deferred[None] = Deferred()
    first = spawn(images.send(upload, 0, Pieces([DISK[:100], gate, DISK[100:]])))
    while images.files() != [f".uploads/{image}"] or await images.offset(upload) < 100:
        await pause(0.01)
    second = await images.send(upload, 100, b"other")
    assert second.problem == "conflict" and second.headers["Retry-After"]
    gate.callback(None)
    assert (await first).status == 204
    assert (await images.settled(image))["checksum"] == SUM


@pytest.mark.acceptance(3)
@asynchronous
async def test_owner_only(images: ImageWorld) -> None:
    api = images.api
    image, upload = await images.upload()
    colleague = api.administrator("adam", api.acme, "acme")
    absent = await images.send(999999, 0, b"x")
    for who in (colleague, api.rick, api.boss):
        reply = await images.send(upload, 0, b"x", who)
        assert (reply.status, reply.body["detail"]) == (404, absent.body["detail"])
        assert (await api.call(who, "HEAD", f"/uploads/{upload}")).status == 404
        assert (await api.call(who, "DELETE", f"/uploads/{upload}")).status == 404
    assert (await api.call(None, "DELETE", f"/uploads/{upload}")).status == 401
    assert images.row(image)["state"] == "uploading" and await images.offset(upload) == 0


@asynchronous
async def test_cancel(images: ImageWorld) -> None:
    api = images.api
    _, upload = await images.upload()
    await images.send(upload, 0, DISK[:100])
    assert (await api.call(api.anna, "DELETE", f"/uploads/{upload}")).status == 204
    assert images.files() == [] and api.ask("SELECT * FROM dis") == []
    assert (await images.send(upload, 100, DISK[100:])).status == 404
    assert images.files() == []


@pytest.mark.parametrize("path", ["/uploads/{upload}", "/images/{image}"])
@asynchronous
async def test_cancel_while_it_comes(images: ImageWorld, path: str) -> None:
    image, upload = await images.upload()
    gate: Deferred[None] = Deferred()
    sending = spawn(images.send(upload, 0, Pieces([DISK[:100], gate, DISK[100:]])))
    while await images.offset(upload) < 100:
        await pause(0.01)
    place = path.format(upload=upload, image=image)
    assert (await images.api.call(images.anna, "DELETE", place, None, {"If-Match": "*"})).status == 204
    gate.callback(None)
    assert (await sending).status == 404
    assert images.files() == [] and images.api.ask("SELECT * FROM dis") == []


@pytest.mark.acceptance(14)
@pytest.mark.parametrize("where", ["pwrite", "fdatasync"])
@asynchronous
async def test_full_disk(images: ImageWorld, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    image, upload = await images.upload()
    await images.send(upload, 0, DISK[:100])

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    reply = await images.send(upload, 100, DISK[100:])
    assert reply.problem == "insufficient-storage" and reply.status == 507
    row = images.row(image)
    assert row["state"] == "fail" and "no room" in row["message"] and images.files() == []
    assert images.api.trail()[-1]["problem"] == "insufficient-storage"


@pytest.mark.acceptance(14)
@asynchronous
async def test_no_room_at_the_beginning(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    room: Callable[[Any], Any] = lambda path: os.statvfs_result((4096, 4096, 9, 9, 0, 0, 0, 0, 0, 255))  # noqa: E731
    monkeypatch.setattr(os, "statvfs", room)
    source = {"type": "upload", "name": "a", "size": 5, "checksum": SUM}
    assert (await images.make(source)).problem == "insufficient-storage"
    assert images.api.ask("SELECT * FROM dis") == []


HOSTILE = [
    "../x",
    "..",
    ".",
    ".ssh",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\x00b",
    "a\nb",
    "x" * 201,
    "x" * 300,
    "é" * 120,
    "",
]


@pytest.mark.acceptance(14)
@pytest.mark.parametrize("name", HOSTILE)
@asynchronous
async def test_hostile_names(images: ImageWorld, name: str) -> None:
    reply = await images.make({"type": "upload", "name": name, "size": 5, "checksum": SUM})
    assert reply.problem == "invalid-value", reply.body
    assert images.api.ask("SELECT * FROM dis") == [] and images.files() == []


@pytest.mark.parametrize(
    "member", [{"size": 0}, {"size": -1}, {"size": 2**60}, {"checksum": "x"}, {"checksum": SUM + "0"}]
)
@asynchronous
async def test_announcements_that_are_none(images: ImageWorld, member: dict[str, Any]) -> None:
    source = {"type": "upload", "name": "a", "size": 5, "checksum": SUM, **member}
    assert (await images.make(source)).problem == "invalid-value"


@asynchronous
async def test_too_large(images: ImageWorld) -> None:
    source = {"type": "upload", "name": "a", "size": images.places.largest + 1, "checksum": SUM}
    assert (await images.make(source)).problem == "payload-too-large"


@asynchronous
async def test_a_bounded_number(images: ImageWorld) -> None:
    for _ in range(images.places.most_uploads):
        await images.upload()
    source = {"type": "upload", "name": "a", "size": 5, "checksum": SUM}
    assert (await images.make(source)).problem == "conflict"


@asynchronous
async def test_never_over_another_file(images: ImageWorld) -> None:
    image, upload = await images.upload()
    (images.folder / f"{image}-a.qcow2").write_bytes(b"somebody's")
    await images.send(upload, 0, DISK)
    row = await images.settled(image)
    assert row["state"] == "fail" and images.files() == [f"{image}-a.qcow2"]
    assert (images.folder / f"{image}-a.qcow2").read_bytes() == b"somebody's"


@pytest.mark.acceptance(13)
@asynchronous
async def test_restart_while_it_is_verified(images: ImageWorld) -> None:
    """Whatever was done then: the file may have its name, and the row may be written."""
    for done in ("nothing", "settled", "written"):
        image, upload = await images.upload()
        await images.stop()
        sent = await images.send(upload, 0, DISK)
        job = images.job(image)
        assert sent.headers["Link"] == f'</api/v1/jobs/{job["id"]}>; rel="monitor"'
        assert (job["kind"], job["state"], images.row(image)["state"]) == ("image.verify", "queued", "verifying")
        if done == "settled":
            os.rename(images.folder / ".uploads" / str(image), images.folder / f"{image}-a.qcow2")
        images.start()
        assert (await images.settled(image))["state"] == "ready", images.row(image)["message"]
        if done == "written":
            images.api.ask("UPDATE jobs SET state = 'queued', result = NULL, ended_at = NULL WHERE id = %s", job["id"])
            assert (await images.settled(image))["state"] == "ready"
        assert images.job(image)["state"] == "succeeded" and images.job(image)["result"]["checksum"] == SUM


@asynchronous
async def test_what_nobody_goes_on_with(images: ImageWorld) -> None:
    kept, _ = await images.upload()
    image, upload = await images.upload()
    await images.send(upload, 0, DISK[:100])
    images.api.ask("UPDATE uploads SET touched_at = now() - interval '8 days' WHERE id = %s", upload)
    await sweep(images.api.services)
    assert images.row(image)["state"] == "fail" and images.row(kept)["state"] == "uploading"
    assert images.files() == []


@pytest.mark.acceptance(13)
@asynchronous
async def test_the_database_is_away_at_the_end(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the row was written is not known then: the file stays, and the job goes on later."""
    image, upload = await images.upload()

    async def away(*args: Any) -> None:
        raise DatabaseUnavailable("The database does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(imagejobs, "register", away)
        await images.send(upload, 0, DISK)
        images.bells.ring(CHANNEL)
        await until(lambda: images.files() == [f"{image}-a.qcow2"], "its name")
        await images.stop()
        assert images.row(image)["state"] == "verifying"
    assert images.files() == [f"{image}-a.qcow2"] and images.job(image)["state"] == "queued"
    images.start()
    assert (await images.settled(image))["state"] == "ready"


@asynchronous
async def test_deleted_while_it_is_verified(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    image, upload = await images.upload()
    settle = imagefiles.settle

    def late(*args: Any) -> None:
        images.api.ask("DELETE FROM dis WHERE id = %s", image)
        settle(*args)

    monkeypatch.setattr(imagejobs, "settle", late)
    await images.send(upload, 0, DISK)
    images.bells.ring(CHANNEL)
    await until(lambda: not images.open_jobs(), "the end of the work")
    assert images.files() == [] and images.job(image)["problem"]["detail"] == "The image is not there any more"


@pytest.mark.acceptance(13)
@asynchronous
async def test_the_service_stops_while_a_file_is_verified(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    image, upload = await images.upload()
    begun, go_on = threading.Event(), threading.Event()
    read_on = imagefiles.Part.read_on

    def slow(*args: Any) -> bool:
        begun.set()
        go_on.wait(10)
        return read_on(*args)

    with monkeypatch.context() as slowed:
        slowed.setattr(imagefiles.Part, "read_on", slow)
        await images.send(upload, 0, DISK)
        images.bells.ring(CHANNEL)
        await until(begun.is_set, "the verification")
        stopping = spawn(images.stop())
        go_on.set()
        await stopping
    assert images.row(image)["state"] == "verifying" and images.files() == [f".uploads/{image}"]
    images.start()
    assert (await images.settled(image))["state"] == "ready"
    assert (images.job(image)["attempts"], images.job(image)["state"]) == (1, "succeeded")


@asynchronous
async def test_whoever_lost_the_job_changes_nothing(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails for reasons of its own, when another one has the job already."""
    image, upload = await images.upload()
    await images.stop()
    await images.send(upload, 0, DISK)
    lost = images.start("lost")
    begun = threading.Event()

    def fails(*args: Any) -> bool:
        begun.set()
        images.api.ask("UPDATE jobs SET token = gen_random_uuid(), holder = 'another one'")
        raise Conflict("The storage is broken here")

    with monkeypatch.context() as broken:
        broken.setattr(imagefiles.Part, "read_on", fails)
        await until(begun.is_set, "its beginning")
        await until(lambda: not lost.running, "its end")
    assert images.row(image)["state"] == "verifying" and images.files() == [f".uploads/{image}"]
    images.api.ask("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'")
    assert (await images.settled(image))["state"] == "ready"


def test_a_file_that_is_used_is_not_closed(tmp_path: Path) -> None:
    file = SharedFile(os.open(tmp_path, os.O_RDONLY))
    closing = threading.Thread(target=file.close)
    with file.using() as fd:
        closing.start()
        closing.join(0.1)
        assert closing.is_alive() and os.fstat(fd)
    closing.join()
    with pytest.raises(Conflict), file.using():
        raise AssertionError
