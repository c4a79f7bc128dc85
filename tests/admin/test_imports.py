"""Imports from the staging folder and from URLs; and which servers are never called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from qvd.admin import imports
from qvd.admin.fetch import AddressRefused, Fetcher, checked_url
from qvd.admin.imports import import_image, recover
from qvd.model.errors import InvalidRequest
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
        listen: Any = reactor
        site = Site(self)  # type: ignore[no-untyped-call]
        self.port = listen.listenTCP(0, site, interface="127.0.0.1")

    def url(self, path: str = "a.qcow2", host: str = "images.example") -> str:
        return f"http://{host}:{self.port.getHost().port}/{path}"

    def render_GET(self, request: Any) -> Any:
        """Whatever the path says."""
        self.asked.append(request.getHeader(b"host").decode())
        what, _, where = request.uri.decode()[1:].partition("?to=")
        if what == "redirect":
            request.setResponseCode(302)
            request.setHeader(b"location", where.encode())
            return b""
        if what == "missing":
            request.setResponseCode(404)
            return b"no"
        if what in ("stalls", "ends"):
            request.setHeader(b"content-length", str(len(self.body)).encode())
            request.write(self.body[:1000])
            self.held.append(request)
            if what == "ends":
                request.transport.loseConnection()
            return NOT_DONE_YET
        return self.body


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
    monkeypatch.setattr(imports, "fetcher_of", lambda services: fetcher)
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
        async def _request(self, url: str) -> Any:
            return Answer()

    with pytest.raises(AddressRefused):
        await Redirecting(reactor, Names().resolve).open("https://x.example/")


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


@asynchronous
async def test_cancelled(images: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    known(images, monkeypatch, Names(images_example=["127.0.0.1"])).silence = 1.0
    image = images.image("1", "uploading")
    arguments = {"image_id": image, "source": {"type": "url", "url": web.url("stalls")}}
    working = spawn(import_image(images.api.services, arguments))
    working.addErrback(lambda failure: None)
    await until(lambda: web.held, "the request")
    await until(lambda: images.files(), "the file")
    working.cancel()
    await images.settled(image)
    await until(lambda: images.row(image)["state"] == "fail", "the failure")
    await until(lambda: not images.files(), "the end of the file")
    assert images.row(image)["message"] == "It was cancelled"
    await stop(web)


@asynchronous
async def test_from_staging_with_progress(images: ImageWorld, tmp_path: Path) -> None:
    write(tmp_path / "staging" / "a b.qcow2")
    image = images.image("1", "uploading")
    images.api.ask("UPDATE dis SET auto_publish = true, future_tags = '{free}' WHERE id = %s", image)
    seen: list[tuple[int, int | None]] = []
    source = {"type": "staging", "file": "a b.qcow2", "checksum": SUM.upper()}
    result = await import_image(
        images.api.services, {"image_id": image, "source": source}, lambda done, total: seen.append((done, total))
    )
    assert result == {"image_id": image, "state": "published", "size": len(DISK), "checksum": SUM, "type": "kvm"}
    assert seen == [(len(DISK), len(DISK))] and images.tags()["free"] == image
    assert images.files() == [f"{image}-a b.qcow2"]


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


@asynchronous
async def test_restart_in_the_middle(images: ImageWorld) -> None:
    image = images.image("1", "uploading")
    images.api.ask("UPDATE dis SET source = 'url', path = '' WHERE id = %s", image)
    write(images.folder / ".uploads" / str(image), DISK[:100])
    await recover(images.api.services)
    assert images.row(image)["state"] == "fail" and "restarted" in images.row(image)["message"]
    assert images.files() == []
