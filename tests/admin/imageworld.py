"""Images in the API of a test: a folder for them, OSFs, VMs, and bodies that come in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from qvd.admin.bodies import BodyLost
from qvd.admin.imagework import ImageWork
from qvd.admin.jobs.images import IMAGE_JOBS
from qvd.admin.jobs.runner import CHANNEL, JobRunner
from qvd.admin.places import ImagePlaces
from qvd.model.declared import Principal
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous_fixture, until
from tests.fakes.bells import FakeBells

DISK = b"QFI\xfb" + bytes(range(256)) * 40
"""What begins as an image for kvm does."""
SUM = hashlib.sha256(DISK).hexdigest()


@define
class Pieces:
    """A body that comes piece by piece. A deferred among them is waited for; an exception is raised.

    @ivar length: announced.
    """

    pieces: list[bytes | Exception | Deferred[None]]
    length: int | None = None

    async def read(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Deferred):
            await piece
            return await self.read()
        if isinstance(piece, Exception):
            raise piece
        return piece


def cut(*pieces: bytes) -> Pieces:
    """A body whose connection is lost after the pieces."""
    return Pieces([*pieces, BodyLost("The connection ended before the body did")])


@define
class ImageWorld:
    """@ivar osf: of acme. C{foreign}: of rival.

    @ivar runners: services that run its jobs.
    """

    api: ApiWorld
    places: ImagePlaces
    osf: int
    foreign: int
    bells: FakeBells = field(factory=FakeBells)
    runners: list[JobRunner] = field(factory=list)
    _users: dict[int, int] = field(factory=dict)

    @property
    def anna(self) -> Principal:
        return self.api.anna

    @property
    def folder(self) -> Path:
        return self.places.images

    def files(self) -> list[str]:
        """Whatever is in the folder of images, unfinished or not."""
        found = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        return sorted(str(path) for path in found)

    def image(self, version: str, state: str = "published", osf: int | None = None) -> int:
        """One that was registered by hand."""
        return self.api.insert(
            "dis (tenant_id, osf_id, path, version, state) SELECT tenant_id, id, %s, %s, %s FROM osfs WHERE id = %s",
            f"{version}.qcow2",
            version,
            state,
            osf or self.osf,
        )

    def vm(self, name: str, tag: str = "default", runs: int | None = None) -> int:
        """A VM of the OSF; C{runs}: the image that it runs from."""
        api = self.api
        if self.osf not in self._users:
            self._users[self.osf] = api.insert("users (tenant_id, login) VALUES (%s, 'user')", api.acme)
        made = api.insert(
            "vms (tenant_id, user_id, osf_id, name, di_tag) VALUES (%s, %s, %s, %s, %s)",
            api.acme,
            self._users[self.osf],
            self.osf,
            name,
            tag,
        )
        api.ask("INSERT INTO vm_runtimes (vm_id, tenant_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", made, api.acme)
        if runs is not None:
            host = api.ask("SELECT id FROM hosts") or [{"id": api.insert("hosts (name, address) VALUES ('n', '1')")}]
            api.ask(
                "UPDATE vm_runtimes SET vm_state = 'running', phase = 'running', host_id = %s, host_epoch = 1,"
                " current_di_id = %s, vm_address = '10.0.0.1', vm_vma_port = 1, vm_x_port = 2 WHERE vm_id = %s",
                host[0]["id"],
                runs,
                made,
            )
        return made

    def row(self, image_id: int) -> dict[str, Any]:
        """The image's row."""
        return self.api.ask("SELECT * FROM dis WHERE id = %s", image_id)[0]

    def tags(self, osf: int | None = None) -> dict[str, int]:
        """Where the OSF's tags lead."""
        rows = self.api.ask("SELECT tag, di_id FROM di_tags WHERE osf_id = %s", osf or self.osf)
        return {row["tag"]: row["di_id"] for row in rows}

    async def make(self, source: Mapping[str, Any], **more: Any) -> Reply:
        """Make an image of a source."""
        body = {"osf_id": self.osf, "source": dict(source), **more}
        return await self.api.call(self.anna, "POST", "/images", body)

    async def upload(self, data: bytes = DISK, **more: Any) -> tuple[int, int]:
        """Begin an upload. Returns the ids of the image and of the upload."""
        source = {"type": "upload", "name": "a.qcow2", "size": len(data), "checksum": hashlib.sha256(data).hexdigest()}
        made = await self.make(source, **more)
        assert made.status == 201, made.body
        return made.body["image"]["id"], made.body["upload"]["id"]

    async def send(
        self,
        upload: int,
        offset: object,
        body: bytes | Pieces,
        who: Principal | None = None,
        media: str = "application/offset+octet-stream",
    ) -> Reply:
        """Send a piece of a file."""
        api = self.api
        endpoint, parameters = api.find("PATCH", f"/uploads/{upload}")
        api.gate.principal = who or self.anna
        headers = {"Content-Type": media, "Upload-Offset": str(offset)}
        call = api.make_call(endpoint, parameters, f"/uploads/{upload}", headers)
        stream = Pieces([body], len(body)) if isinstance(body, bytes) else body
        call.request = SimpleNamespace(body=stream)
        answer = await api.dispatcher.dispatch(call, b"")
        return Reply(answer.status, answer.body, answer.headers)

    async def offset(self, upload: int) -> int:
        """Where the upload goes on."""
        reply = await self.api.call(self.anna, "HEAD", f"/uploads/{upload}")
        assert reply.status == 200
        return int(reply.headers["Upload-Offset"])

    async def settled(self, image_id: int) -> dict[str, Any]:
        """Wait until nothing is done about images; the image's row then."""
        self.bells.ring(CHANNEL)
        await until(lambda: self.api.services.image_work.idle and not self.open_jobs(), "the end of the work")
        return self.row(image_id)

    def open_jobs(self) -> list[dict[str, Any]]:
        """Jobs that wait or run."""
        return self.api.ask("SELECT * FROM jobs WHERE state IN ('queued', 'running')")

    def job(self, image_id: int) -> dict[str, Any]:
        """The last job about the image."""
        return self.api.ask("SELECT * FROM jobs WHERE object_id = %s ORDER BY id DESC LIMIT 1", image_id)[0]

    def start(self, name: str = "images") -> JobRunner:
        """A service that runs jobs about images."""
        runner = JobRunner(self.api.services, IMAGE_JOBS, reactor, name, self.bells)
        self.runners.append(runner)
        runner.start()
        return runner

    async def stop(self) -> None:
        """All of them."""
        while self.runners:
            await self.runners.pop().stop()


@asynchronous_fixture
async def images(api: ApiWorld, tmp_path: Path) -> AsyncIterator[ImageWorld]:
    for name in ("images", "staging"):
        (tmp_path / name).mkdir(exist_ok=True)
    places = ImagePlaces(images=tmp_path / "images", staging=tmp_path / "staging", reserve=0, silence=5.0)
    work = ImageWork(reactor)
    work.start()
    api.services.places, api.services.image_work = places, work
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desktop', 1048576)", api.acme)
    foreign = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'desktop', 1048576)", api.rival)
    made = ImageWorld(api, places, osf, foreign)
    made.start()
    yield made
    await made.stop()
    await work.stop()


def write(path: Path, data: bytes = DISK) -> Path:
    """A file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def chunks(data: bytes, size: int) -> Iterable[bytes]:
    """Pieces of that size."""
    return (data[start : start + size] for start in range(0, len(data), size))
