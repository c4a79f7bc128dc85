"""Files that are sent: from where an earlier attempt came to, whatever the connection does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from qvd.apiclient import Api, ApiError, ApiProblem, Unreachable, uploads
from tests.apiclient.test_api import scripted
from tests.apiclient.world import Installation, installation
from tests.fakes.asynchronous import asynchronous

__all__ = ["installation"]
DISK = b"QFI\xfb" + bytes(range(256)) * 4096


def announced(api: Api, data: bytes = DISK, **more: Any) -> Any:
    osf = api.request("POST", "/osfs", body={"name": "desktop", "tenant_id": 1}).body["id"]
    checksum = hashlib.sha256(data).hexdigest()
    source = {"type": "upload", "name": "a.qcow2", "size": len(data), "checksum": checksum}
    return api.request("POST", "/images", body={"osf_id": osf, "source": source, **more}).body


@asynchronous
async def test_a_file_is_sent(installation: Installation, tmp_path: Path) -> None:
    installation.ask("INSERT INTO tenants (id, name) VALUES (1, 'acme')")
    path = tmp_path / "a.qcow2"
    path.write_bytes(DISK)
    told: list[tuple[int, int]] = []

    def work(api: Api) -> None:
        made = announced(api)
        target = f"/uploads/{made['upload']['id']}"
        # Half of it is there already.
        half = {"Upload-Offset": "0", "Content-Type": uploads.MEDIA}
        api.request("PATCH", target, body=DISK[:500_000], headers=half)
        reply = api.upload(target, path, lambda sent, size: told.append((sent, size)))
        assert reply.status == 204 and "monitor" in reply.headers["link"]
        with pytest.raises(ApiProblem):
            api.upload("/uploads/999", path)

    await installation.run(work)
    assert told[0] == (500_000, len(DISK)) and told[-1] == (len(DISK), len(DISK)) and told == sorted(told)


@asynchronous
async def test_connections_that_break(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece comes through each time; the rest of the connection does not."""
    installation.ask("INSERT INTO tenants (id, name) VALUES (1, 'acme')")
    path = tmp_path / "a.qcow2"
    path.write_bytes(DISK)
    monkeypatch.setattr(uploads, "PIECE", 100_000)
    plain, broken = uploads.pieces, []

    def breaking(file: Any, offset: int, size: int, tell: Any) -> Any:
        for number, piece in enumerate(plain(file, offset, size, tell)):
            if number == 2:
                broken.append(offset)
                raise Unreachable("The connection broke")
            yield piece

    monkeypatch.setattr(uploads, "pieces", breaking)
    done = await installation.run(
        lambda api: api.upload(f"/uploads/{announced(api)['upload']['id']}", path), wait=lambda seconds: None
    )
    assert done.status == 204 and len(broken) >= 5 and broken == sorted(broken)


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    answer = (200, {"Upload-Offset": "0", "Upload-Length": "4"}, b"")
    with scripted(tmp_path, answer) as server, pytest.raises(ApiError, match="4 bytes; this one has 3"):
        server.client().upload("/uploads/1", path)
    with pytest.raises(ApiError, match="cannot be read"):
        server.client().upload("/uploads/1", tmp_path / "missing")


def test_a_server_that_stays_away(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with scripted(tmp_path, None) as server, pytest.raises(Unreachable):
        server.client().upload("/uploads/1", path)
    assert len(server.asked) == uploads.ATTEMPTS and server.waited == sorted(server.waited)
