"""Imports from the staging folder and from URLs; and which servers are never called."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from qvd.admin import imagefiles
from qvd.admin.fetch import AddressRefused, Fetcher, checked_url
from qvd.admin.jobs import images as imagejobs
from qvd.admin.jobs import runner
from qvd.model.errors import InvalidRequest, Unavailable
from tests.admin.imageworld import DISK, SUM, ImageWorld, images, write
from tests.fakes.asynchronous import asynchronous, spawn, until

__all__ = ["images"]
LOOPBACK = [ip_network("127.0.0.1/32")]


class Web(Resource):
    """A server of images.

    @ivar asked: hosts that requests were for.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[str] = []
        self.held: list[Any] = []
        self.body = DISK
        self.etag, self.whole, self.ranges = '"one"', False, list[str | None]()
        listen: Any = reactor
        site = Site(self)  # type: ignore[no-untyped-call]
        self.port = listen.listenTCP(0, site, interface="127.0.0.1")

    def url(self, path: str = "a.qcow2", host: str = "images.example") -> str:
        return f"http://{host}:{self.port.getHost().port}/{path}"

    def render_GET(self, request: Any) -> Any:
        """Whatever the path says."""
        self.asked.append(request.getHeader(b"host").decode())
        what, _, where = request.uri.decode()[1:].partition("?to=")
        what = what.partition("?")[0]
        if what == "redirect":
            request.setResponseCode(302)
            request.setHeader(b"location", where.encode())
            return b""
        if what == "missing":
            request.setResponseCode(404)
            return b"no"
        if what == "elsewhere":
            request.setResponseCode(206)
            request.setHeader(b"content-range", b"bytes 5-9/10")
            return b"56789"
        if what == "tagged":
            return self.tagged(request)
        if what in ("stalls", "ends"):
            request.setHeader(b"content-length", str(len(self.body)).encode())
            request.write(self.body[:1000])
            self.held.append(request)
            if what == "ends":
                request.transport.loseConnection()
            return NOT_DONE_YET
        return self.body

    def tagged(self, request: Any) -> Any:
        """With a tag of the version; a thousand bytes, unless the C{whole} is to come."""
        asked, start = request.getHeader(b"range"), 0
        self.ranges.append(asked.decode() if asked else None)
        request.setHeader(b"etag", self.etag.encode())
        if asked and request.getHeader(b"if-range").decode() == self.etag:
            start = int(asked[6:-1])
            request.setResponseCode(206)
            request.setHeader(b"content-range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}".encode())
        if self.whole:
            return self.body[start:]
        request.setHeader(b"content-length", str(len(self.body)).encode())
        request.write(self.body[:1000])
        self.held.append(request)
        return NOT_DONE_YET


class Names:
    """A resolver: each name's answers, one after the other."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self.answers.get(host)
        if found is None:
            raise OSError("no such name")
        return [found.pop(0) if len(found) > 1 else found[0]]


async def stop(web: Web) -> None:
    for request in web.held:
        request.transport.abortConnection()
    await web.port.stopListening()


def known(images: ImageWorld, monkeypatch: pytest.MonkeyPatch, names: Names, allowed: Any = LOOPBACK) -> Fetcher:
    """What fetches, with these names."""
    fetcher = Fetcher(reactor, names.resolve, allowed, silence=2.0)
    monkeypatch.setattr(imagejobs, "fetcher_of", lambda services: fetcher)
    return fetcher


async def imported(images: ImageWorld, url: str, **more: Any) -> dict[str, Any]:
    """The row of an image that was imported from there, whatever became of it."""
    made = await images.make({"type": "url", "url": url, **more})
    assert made.status == 202, made.body
    assert made.headers["Location"] == f"/api/v1/images/{made.body['image']['id']}"
    return await images.settled(made.body["image"]["id"])


@asynchronous
async def test_from_a_url(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web, names = Web(), Names(images_example=["127.0.0.1"])
    known(images, monkeypatch, names)
    row = await imported(images, web.url("x/b%20c.qcow2?key=canary"), checksum=SUM)
    assert (row["state"], row["checksum"], row["type"], row["size"]) == ("ready", SUM, "kvm", len(DISK)), row["message"]
    assert images.files() == [row["path"]] == [f"{row['id']}-b_c.qcow2"]
    assert web.asked == [f"images.example:{web.port.getHost().port}"]
    assert "canary" not in str(images.api.trail()) and "x/b%20c.qcow2" in str(images.api.trail())
    redirected = await imported(images, web.url(f"redirect?to={web.url()}"))
    assert redirected["state"] == "ready"
    await stop(web)


@pytest.mark.acceptance(15)
@asynchronous
async def test_a_name_with_a_private_address(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    known(images, monkeypatch, Names(images_example=["127.0.0.1"]), allowed=())
    row = await imported(images, web.url())
    assert row["state"] == "fail" and row["message"] == "The URL leads to an address that is not allowed"
    assert web.asked == [] and images.files() == []
    await stop(web)


@pytest.mark.acceptance(15)
@asynchronous
async def test_a_redirection_to_a_private_address(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    known(
        images, monkeypatch, Names(images_example=["127.0.0.1"], inside_example=["10.1.2.3"], meta=["169.254.169.254"])
    )
    for host in ("inside.example", "meta"):
        row = await imported(images, web.url(f"redirect?to=http://{host}/latest"))
        assert row["state"] == "fail" and "not allowed" in row["message"]
    assert len(web.asked) == 2 and images.files() == []
    await stop(web)


@pytest.mark.acceptance(15)
@asynchronous
async def test_a_name_that_means_something_else_afterwards(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is called: the name is not resolved again."""
    web, names = Web(), Names(images_example=["127.0.0.1", "10.0.0.1"])
    known(images, monkeypatch, names)
    assert (await imported(images, web.url()))["state"] == "ready"
    assert names.asked == ["images.example"]
    # And at the next hop it is checked again.
    names.answers["images.example"] = ["127.0.0.1", "10.0.0.1"]
    row = await imported(images, web.url(f"redirect?to={web.url()}"))
    assert row["state"] == "fail" and "not allowed" in row["message"]
    await stop(web)


PRIVATE = """
    127.0.0.1 10.0.0.1 172.16.5.5 192.168.0.1 169.254.169.254 100.100.100.200 0.0.0.0 224.0.0.1
    ::1 fe80::1 fd00:ec2::254
"""


@pytest.mark.acceptance(15)
@pytest.mark.parametrize("address", PRIVATE.split())
@asynchronous
async def test_addresses_that_are_refused(address: str) -> None:
    fetcher = Fetcher(reactor, Names(x_example=[address]).resolve)
    with pytest.raises(AddressRefused):
        await fetcher.open("https://x.example/")


@pytest.mark.acceptance(15)
@asynchronous
async def test_one_of_several_addresses_is_enough_to_refuse() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(AddressRefused):
        await Fetcher(reactor, both).open("https://x.example/")


URLS = """
    ftp://x/ file:///etc/passwd gopher://x/ http:// http:///x //x/y x http://u:p@x/ http://u@x/ http://x:99999/ http://x:0/
    http://[::1 javascript:alert(1) http://é.example/
""".split()


@pytest.mark.parametrize("url", [*URLS, "http://x/\n", "http://x/ y", "http://x/\r\nHost: y"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_url(url)


@asynchronous
async def test_a_url_that_is_none(images: ImageWorld) -> None:
    for url in ("http://name:canary@x/y", "http://name:canary@[::1/y", "file:///etc/passwd"):
        reply = await images.make({"type": "url", "url": url})
        assert reply.problem == "invalid-value" and images.api.ask("SELECT * FROM dis") == []
    assert "canary" not in str(images.api.trail())


@asynchronous
async def test_servers_that_fail(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    known(images, monkeypatch, Names(images_example=["127.0.0.1"])).silence = 0.3
    for url, said in [
        (web.url("missing"), "answered 404"),
        (web.url("ends"), "ended the connection"),
        (web.url("stalls"), "silent"),
        (web.url(host="other.example"), "name is not known"),
        ("http://images.example:1/", "cannot be reached"),
        (web.url("redirect?to=file:///etc/passwd"), "Only URLs"),
    ]:
        row = await imported(images, url)
        assert row["state"] == "fail", url
        assert said in row["message"], row["message"]
    assert images.files() == []
    await stop(web)


@asynchronous
async def test_endless_redirections(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    fetcher = known(images, monkeypatch, Names(images_example=["127.0.0.1"]))

    async def itself(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    fetcher.resolve = itself
    here = web.url("redirect")
    web.render_GET = lambda request: redirect(request, here)  # type: ignore[method-assign]
    row = await imported(images, here)
    assert "redirects more than" in row["message"]
    await stop(web)


def redirect(request: Any, where: str) -> bytes:
    request.setResponseCode(302)
    request.setHeader(b"location", where.encode())
    return b""


@asynchronous
async def test_from_https_to_http() -> None:
    class Answer:
        code = 302

        def deliverBody(self, protocol: Any) -> None:
            """Nothing comes."""

        @property
        def headers(self) -> Any:
            from twisted.web.http_headers import Headers

            return Headers({b"location": [b"http://x.example/"]})

    class Redirecting(Fetcher):
        async def _request(self, url: str, start: int = 0, mark: str = "") -> Any:
            return Answer()

    with pytest.raises(AddressRefused):
        await Redirecting(reactor, Names().resolve).open("https://x.example/")


@asynchronous
async def test_a_part_that_was_not_asked_for(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    fetcher = known(images, monkeypatch, Names(images_example=["127.0.0.1"]))
    row = await imported(images, web.url("elsewhere"))
    assert row["state"] == "fail" and row["message"] == "The server answered 206"
    for start, mark in ((4, '"one"'), (50, '"one"'), (0, "")):
        with pytest.raises(Unavailable, match="answered 206"):
            await fetcher.open(web.url("elsewhere"), start, mark)
    await stop(web)


@asynchronous
async def test_too_large(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    images.api.services.places = evolve(images.places, largest=len(DISK) - 1)
    known(images, monkeypatch, Names(images_example=["127.0.0.1"]))
    row = await imported(images, web.url())
    assert row["state"] == "fail" and "at most" in row["message"] and images.files() == []
    await stop(web)


@asynchronous
async def test_wrong_checksum(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    known(images, monkeypatch, Names(images_example=["127.0.0.1"]))
    row = await imported(images, web.url(), checksum="0" * 64)
    assert row["state"] == "fail" and "checksum" in row["message"] and images.files() == []
    await stop(web)


@pytest.mark.acceptance(13)
@pytest.mark.parametrize("patient", [True, False])
@asynchronous
async def test_cancelled(images: ImageWorld, monkeypatch: pytest.MonkeyPatch, patient: bool) -> None:
    """In the middle, where the server says nothing any more; and before anybody has begun with it."""
    web, api = Web(), images.api
    known(images, monkeypatch, Names(images_example=["127.0.0.1"])).silence = 3.0 if patient else 20.0
    monkeypatch.setattr(runner, "PATIENCE", 20.0 if patient else 0.5)
    made = await images.make({"type": "url", "url": web.url("stalls")})
    image, job = made.body["image"]["id"], made.body["job"]
    images.bells.ring(runner.CHANNEL)
    await until(lambda: images.files(), "the file")
    assert (await api.call(images.anna, "DELETE", f"/jobs/{job}")).status == 200
    await images.settled(image)
    assert images.row(image)["state"] == "fail" and images.files() == []
    assert images.row(image)["message"] == "It was cancelled" and images.job(image)["state"] == "cancelled"
    await images.stop()
    waiting = (await images.make({"type": "url", "url": web.url()})).body
    await api.call(images.anna, "DELETE", f"/jobs/{waiting['job']}")
    assert images.row(waiting["image"]["id"])["state"] == "uploading"
    images.start()
    await until(lambda: images.row(waiting["image"]["id"])["state"] == "fail", "order")
    assert images.row(waiting["image"]["id"])["message"] == "It was cancelled"
    # And both can be had again.
    web.held.clear()
    api.ask("UPDATE jobs SET cursor = jsonb_set(cursor, '{url}', %s)", f'"{web.url()}"')
    for each in (image, waiting["image"]["id"]):
        again = await api.call(images.anna, "POST", f"/jobs/{images.job(each)['id']}/retry")
        assert again.status == 200, again.body
        assert (await images.settled(each))["state"] == "ready", images.job(each)
    await stop(web)


@pytest.mark.acceptance(13)
@asynchronous
async def test_from_staging_with_progress(images: ImageWorld, tmp_path: Path) -> None:
    write(tmp_path / "staging" / "a b.qcow2")
    made = await images.make(
        {"type": "staging", "file": "a b.qcow2", "checksum": SUM.upper()}, auto_publish=True, tags=["free"]
    )
    image = made.body["image"]["id"]
    assert (await images.settled(image))["state"] == "published"
    job = (await images.api.call(images.anna, "GET", f"/jobs/{made.body['job']}")).body
    assert job["result"] == {
        "image_id": image,
        "state": "published",
        "size": len(DISK),
        "checksum": SUM,
        "type": "kvm",
    }
    assert (job["progress"]["done"], job["progress"]["total"], job["progress"]["unit"]) == (len(DISK),) * 2 + ("bytes",)
    assert (job["object_kind"], job["object_id"], job["state"]) == ("di", image, "succeeded")
    assert images.tags()["free"] == image and images.files() == [f"{image}-a b.qcow2"]


@pytest.mark.acceptance(3)
@asynchronous
async def test_staging_by_the_api(images: ImageWorld, tmp_path: Path) -> None:
    api, acme = images.api, images.api.acme
    write(tmp_path / "staging" / "common.qcow2")
    write(tmp_path / "staging" / f"tenant-{acme}" / "own.qcow2")
    write(tmp_path / "staging" / f"tenant-{api.rival}" / "theirs.qcow2")
    write(tmp_path / "secret")
    os.symlink(tmp_path / "secret", tmp_path / "staging" / "link")
    os.mkfifo(tmp_path / "staging" / "fifo")
    listed = await api.call(api.anna, "GET", "/staging")
    assert [(each["file"], each["shared"]) for each in listed.body["items"]] == [
        ("common.qcow2", True),
        ("own.qcow2", False),
    ]
    assert (await api.call(api.anna, "GET", "/staging/own.qcow2")).body["size"] == len(DISK)
    for name in ("common.qcow2", "own.qcow2"):
        made = await images.make({"type": "staging", "file": name})
        assert made.status == 202, made.body
        assert (await images.settled(made.body["image"]["id"]))["state"] == "ready"
    for name in ("theirs.qcow2", "link", "fifo", "missing", f"tenant-{acme}"):
        assert (await images.make({"type": "staging", "file": name})).problem == "staging-file-not-found", name
        assert (await api.call(api.anna, "GET", f"/staging/{name}")).problem == "staging-file-not-found"
        assert (await api.call(api.anna, "DELETE", f"/staging/{name}")).problem == "staging-file-not-found"
    for name in ("../secret", "..", ".", "/etc/passwd", "a\x00b", "x" * 201, f"tenant-{api.rival}/theirs.qcow2", ""):
        assert (await images.make({"type": "staging", "file": name})).problem == "invalid-value", name
    assert (await api.call(api.anna, "DELETE", "/staging/common.qcow2")).problem == "forbidden"
    assert (await api.call(api.anna, "DELETE", "/staging/own.qcow2")).status == 204
    assert not (tmp_path / "staging" / f"tenant-{acme}" / "own.qcow2").exists()
    assert (await api.call(api.boss, "DELETE", "/staging/common.qcow2")).status == 204


@asynchronous
async def test_permissions_of_sources(images: ImageWorld) -> None:
    api = images.api
    maker = api.with_only(api.anna, "di.create.")
    for source, acl in [
        ({"type": "url", "url": "http://x/y"}, "di.create.url"),
        ({"type": "staging", "file": "a"}, "di.create.staging"),
        ({"type": "upload", "name": "a", "size": 1, "checksum": SUM}, "di.create.upload"),
    ]:
        reply = await api.call(maker, "POST", "/images", {"osf_id": images.osf, "source": source})
        assert reply.problem == "forbidden" and reply.body["acl"] == acl
    for source in ({"type": "other"}, {}, None, {"type": "url"}, {"type": "url", "url": "http://x/y", "more": 1}):
        reply = await api.call(api.anna, "POST", "/images", {"osf_id": images.osf, "source": source})
        assert reply.status == 422, source


@asynchronous
async def test_without_a_folder(images: ImageWorld) -> None:
    images.api.services.places = None
    reply = await images.make({"type": "url", "url": "http://x/y"})
    assert reply.problem == "unavailable"
    assert (await images.api.call(images.anna, "GET", "/staging")).problem == "unavailable"


@pytest.mark.acceptance(13)
@pytest.mark.parametrize("end", ["stops", "is killed"])
@pytest.mark.parametrize("changed", [False, True])
@asynchronous
async def test_restart_in_the_middle(
    images: ImageWorld, monkeypatch: pytest.MonkeyPatch, end: str, changed: bool
) -> None:
    """The next one goes on where the last one has said that all is safe, if it is the same file still."""
    web = Web()
    known(images, monkeypatch, Names(images_example=["127.0.0.1"])).silence = 30.0
    monkeypatch.setattr(imagejobs, "SAVE_EVERY", 500)
    made = await images.make({"type": "url", "url": web.url("tagged?key=canary"), "checksum": SUM})
    image = made.body["image"]["id"]
    images.bells.ring(runner.CHANNEL)
    await until(lambda: (images.job(image)["cursor"] or {}).get("at"), "what is safe")
    if end == "stops":
        await images.stop()
        assert images.job(image)["state"] == "queued"
    else:
        images.api.ask("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'")
    assert images.files() == [f".uploads/{image}"] and images.row(image)["state"] == "uploading"
    web.etag = '"other"' if changed else web.etag
    web.whole = True
    images.start("another one")
    if end == "is killed":
        # It has lost the job, and holds the file for a while.
        web.held.pop().transport.abortConnection()
    row = await images.settled(image)
    assert (row["state"], row["checksum"]) == ("ready", SUM), row["message"]
    assert images.job(image)["state"] == "succeeded" and images.files() == [row["path"]]
    assert web.ranges == [None, "bytes=1000-"]
    # The key is nowhere to be read, and gone now that it is of no more use.
    assert "canary" not in str(images.api.ask("SELECT * FROM jobs"))
    assert "canary" not in str(images.api.ask("SELECT * FROM dis"))
    await stop(web)


@pytest.mark.acceptance(13)
@asynchronous
async def test_restart_of_a_copy_from_staging(
    images: ImageWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "staging" / "a.qcow2")
    monkeypatch.setattr(imagejobs, "BLOCK", 1000)
    monkeypatch.setattr(imagejobs, "SAVE_EVERY", 1000)
    await images.stop()
    made = await images.make({"type": "staging", "file": "a.qcow2"})
    image = made.body["image"]["id"]
    read, held = imagefiles.SharedFile.read, threading.Event()
    reads: list[int] = []

    def some(file: Any, most: int) -> bytes:
        reads.append(os.lseek(file._fd, 0, os.SEEK_CUR))
        if len(reads) == 4:
            held.wait(10)
        return read(file, most)

    monkeypatch.setattr(imagefiles.SharedFile, "read", some)
    images.start()
    await until(lambda: len(reads) == 4, "the middle")
    stopping = spawn(images.stop())
    held.set()
    await stopping
    assert images.job(image)["cursor"]["at"] == 3000 and images.job(image)["state"] == "queued"
    reads.clear()
    images.start()
    row = await images.settled(image)
    assert (row["state"], row["checksum"]) == ("ready", SUM), row["message"]
    assert reads[0] == 3000
    assert any("Going on at byte 3000" in line for line in images.job(image)["log"])


@pytest.mark.acceptance(14)
@asynchronous
async def test_full_disk(images: ImageWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "staging" / "a.qcow2")

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        made = await images.make({"type": "staging", "file": "a.qcow2"})
        image = made.body["image"]["id"]
        row = await images.settled(image)
    job = (await images.api.call(images.anna, "GET", f"/jobs/{made.body['job']}")).body
    assert (job["state"], job["problem"]["type"]) == ("failed", "/problems/insufficient-storage")
    assert job["problem"]["detail"] == row["message"] == "There is no room left for the image in the storage"
    assert row["state"] == "fail" and images.files() == []
    await images.api.call(images.anna, "POST", f"/jobs/{job['id']}/retry")
    assert (await images.settled(image))["state"] == "ready"


@pytest.mark.acceptance(13)
@asynchronous
async def test_given_up_after_too_many_restarts(images: ImageWorld) -> None:
    await images.stop()
    made = await images.make({"type": "url", "url": "http://images.example/a"})
    image = made.body["image"]["id"]
    images.api.ask(
        "UPDATE jobs SET state = 'running', attempts = 5, token = gen_random_uuid(), holder = 'gone',"
        " lease_until = clock_timestamp() - interval '1 second'"
    )
    write(images.folder / ".uploads" / str(image), DISK[:100])
    images.start()
    await until(lambda: images.row(image)["state"] == "fail" and not images.files(), "order")
    assert "(gone) ended in the middle, 5 times" in images.row(image)["message"]
    assert images.job(image)["state"] == "failed"


@asynchronous
async def test_whoever_asked_may_not_any_more(images: ImageWorld, tmp_path: Path) -> None:
    write(tmp_path / "staging" / "a.qcow2")
    images.api.people[images.anna.administrator_id] = images.api.with_only(images.anna, "di.create.")
    made = await images.make({"type": "staging", "file": "a.qcow2"})
    row = await images.settled(made.body["image"]["id"])
    assert row["state"] == "fail" and "di.create.staging" in row["message"] and images.files() == []
