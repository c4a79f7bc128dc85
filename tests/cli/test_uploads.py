"""Images from files, and from where the server finds them: with what is seen meanwhile, and after an interruption."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qvd.apiclient import Unreachable, uploads
from tests.apiclient.world import Installation, installation
from tests.cli.terminal import Terminal, terminal_of
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture

__all__ = ["installation"]
DISK = b"QFI\xfb" + bytes(range(256)) * 4096


@asynchronous_fixture
async def root(installation: Installation, tmp_path: Path) -> AsyncIterator[Terminal]:
    """Who may do everything; there is an OSF C{desktop}."""
    installation.ask("INSERT INTO tenants (id, name) VALUES (1, 'acme')")
    installation.ask("INSERT INTO osfs (id, tenant_id, name, memory) VALUES (3, 1, 'desktop', 1048576)")
    server = installation.server
    yield terminal_of(tmp_path, server.url, server.ca_file, installation.token)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "desk.qcow2"
    path.write_bytes(DISK)
    return path


def tags(installation: Installation) -> set[str]:
    return {row["tag"] for row in installation.ask("SELECT tag FROM di_tags")}


@asynchronous
async def test_a_file_becomes_an_image(root: Terminal, installation: Installation, disk: Path) -> None:
    options = ("--tag", "test", "--publish", "--version", "1", "--description", "New", "-o", "json")
    done = await root.start("di", "upload", str(disk), "--osf", "desktop", *options)
    assert done.status == 0, done.err
    made = done.json
    assert (made["state"], made["size"], made["version"], made["description"]) == ("published", len(DISK), "1", "New")
    assert tags(installation) >= {"1", "test", "head"}
    [file] = [path for path in installation.images.iterdir() if path.is_file()]
    assert file.read_bytes() == DISK
    again = await root.start("di", "upload", str(disk), "--osf", "3", "--no-wait", "-o", "json")
    assert again.status == 0 and again.json["id"] != made["id"]
    tagged = await root.start("di", "tag", str(made["id"]), "other")
    assert tagged.status == 0 and "other" in tags(installation)


@asynchronous
async def test_it_goes_on_where_it_was(
    root: Terminal, installation: Installation, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PIECE", 100_000)
    plain, offsets = uploads.pieces, list[int]()

    def interrupted(file: Any, offset: int, size: int, tell: Any) -> Any:
        offsets.append(offset)
        for number, piece in enumerate(plain(file, offset, size, tell)):
            if number == 4:
                raise KeyboardInterrupt
            yield piece

    with monkeypatch.context() as now:
        now.setattr(uploads, "pieces", interrupted)
        first = await root.start("di", "upload", str(disk), "--osf", "3")
        assert first.status == 130
    assert len(installation.ask("SELECT id FROM dis")) == 1

    def seen(file: Any, offset: int, size: int, tell: Any) -> Any:
        offsets.append(offset)
        return plain(file, offset, size, tell)

    monkeypatch.setattr(uploads, "pieces", seen)
    second = await root.start("di", "upload", str(disk), "--osf", "3", "-o", "json")
    assert second.status == 0, second.err
    assert second.json["state"] == "ready" and "Going on with image" in second.err
    assert offsets[0] == 0 and offsets[-1] > 0 and len(installation.ask("SELECT id FROM dis")) == 1


@asynchronous
async def test_what_was_begun_is_gone(
    root: Terminal, installation: Installation, disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> Any:
        raise Unreachable("The connection broke")

    monkeypatch.setattr(uploads, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(uploads, "LONGEST_WAIT", 0.001)
    with monkeypatch.context() as now:
        now.setattr(uploads, "pieces", broken)
        assert (await root.start("di", "upload", str(disk), "--osf", "3")).status == 9
    place = tmp_path / "state/qvd/uploads.json"
    assert place.stat().st_mode & 0o777 == 0o600 and len(json.loads(place.read_text())) == 1
    [image] = installation.ask("SELECT id FROM dis")
    installation.ask("DELETE FROM uploads")
    installation.ask("DELETE FROM dis")
    done = await root.start("di", "upload", str(disk), "--osf", "3", "-o", "json")
    assert done.status == 0, done.err
    assert done.json["id"] != image["id"] and json.loads(place.read_text()) == {}


@asynchronous
async def test_somebody_watches(root: Terminal, disk: Path) -> None:
    root.interactive = True
    done = await root.start("di", "upload", str(disk), "--osf", "3")
    assert done.status == 0, done.err
    assert "desk.qcow2" in done.err and "100%" not in done.out


@asynchronous
async def test_files_that_are_none(root: Terminal, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for arguments, said in (
        (("missing", "--osf", "3"), "does not exist"),
        ((str(tmp_path / "empty"), "--osf", "3"), "is empty"),
        ((str(disk),), "--osf"),
    ):
        done = await root.start("di", "upload", *arguments)
        assert done.status == 2 and said in done.err, done.err
    assert (await root.start("di", "upload", str(disk), "--osf", "none")).status == 5
    assert (await root.start("di", "upload", str(disk), "--osf", "99")).status == 2
    (tmp_path / "text.qcow2").write_text("no image")
    done = await root.start("di", "upload", str(tmp_path / "text.qcow2"), "--osf", "3")
    assert done.status == 1 and "Image" in done.err, done.err


@asynchronous
async def test_files_that_the_server_has(root: Terminal, installation: Installation) -> None:
    (installation.staging / "desk.qcow2").write_bytes(DISK)
    done = await root.start("di", "import", "desk.qcow2", "--osf", "desktop", "--default", "--publish", "-o", "json")
    assert done.status == 0, done.err
    assert done.json["state"] == "published" and "default" in tags(installation)
    absent = await root.start("di", "import", "missing.qcow2", "--osf", "3")
    assert absent.status != 0 and "staging" in absent.err
    refused = await root.start("di", "import", "https://127.0.0.1/desk.qcow2", "--osf", "3")
    assert refused.status != 0, refused.err
