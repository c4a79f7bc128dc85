"""C{qvd-image register}, on a real PostgreSQL."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from attrs import evolve

from qvd.db.registration import NewImage, finish, register
from qvd.images.cli import main
from qvd.model.errors import Conflict, InvalidRequest, NotFound
from tests.contract.stores import World
from tests.unit.tars import tar_bytes

IMAGE = NewImage("desk.tar", "2026-11", "lxc", 10240, "ab" * 32)
CAUSE = "test"


@pytest.fixture
def world(database: str) -> World:
    return World(database)


def di(world: World, version: str = "2026-11") -> dict[str, object]:
    rows = world.ask("SELECT osf_id, path, state, type, size, checksum FROM dis WHERE version = %s", version)
    return rows[0] if rows else {}


def tags(world: World, version: str = "2026-11") -> set[str]:
    rows = world.ask("SELECT g.tag FROM di_tags g JOIN dis d ON d.id = g.di_id WHERE d.version = %s", version)
    return {row["tag"] for row in rows}


def test_a_new_image_is_ready_and_no_more(database: str, world: World) -> None:
    register(database, str(world.osf), IMAGE, CAUSE, None)
    row = di(world)
    assert (row["osf_id"], row["path"], row["state"]) == (world.osf, "desk.tar", "ready")
    assert (row["type"], row["size"], row["checksum"]) == ("lxc", 10240, "ab" * 32)
    assert tags(world) == {"2026-11"}


def test_a_published_one_takes_its_tags(database: str, world: World) -> None:
    done = register(database, osf_name(world), IMAGE, CAUSE, ["trial", "default"])
    assert di(world)["state"] == "published"
    assert tags(world) == {"2026-11", "head", "trial", "default"}
    assert done.osf == osf_name(world)
    assert [event["cause"] for event in world.events("di.published")][-1] == CAUSE


def test_the_osfs_hypervisor_decides(database: str, world: World) -> None:
    world.ask("UPDATE osfs SET hypervisor = 'kvm'")
    with pytest.raises(InvalidRequest, match=r"'desk.tar' is made for lxc, but .* under kvm"):
        register(database, str(world.osf), IMAGE, CAUSE, None)
    assert di(world) == {}


@pytest.mark.parametrize("osf", ["4711", "nobody/desk"])
def test_an_osf_that_is_not_there(database: str, world: World, osf: str) -> None:
    with pytest.raises(NotFound, match="There is no OSF"):
        register(database, osf, IMAGE, CAUSE, None)


def test_a_name_without_its_tenant(database: str, world: World) -> None:
    with pytest.raises(InvalidRequest, match="TENANT/NAME"):
        register(database, "desk", IMAGE, CAUSE, None)


def test_a_version_is_given_once(database: str, world: World) -> None:
    register(database, str(world.osf), IMAGE, CAUSE, None)
    with pytest.raises(Conflict, match="'2026-11' of 'acme/desk' is a version or a tag already"):
        register(database, str(world.osf), IMAGE, CAUSE, None)


@pytest.mark.parametrize("version", ["", "head", "default"])
def test_what_is_no_version(database: str, world: World, version: str) -> None:
    with pytest.raises((Conflict, InvalidRequest), match="choose another one"):
        register(database, str(world.osf), evolve(IMAGE, version=version), CAUSE, None)


def test_a_file_that_was_replaced_is_refused(database: str, world: World) -> None:
    register(database, str(world.osf), IMAGE, CAUSE, None)
    other = evolve(IMAGE, version="2026-12", checksum="cd" * 32)
    with pytest.raises(Conflict, match="with another content"):
        register(database, str(world.osf), other, CAUSE, None)


def test_a_wrong_tag_undoes_all_of_it(database: str, world: World) -> None:
    with pytest.raises(InvalidRequest, match="cannot be moved"):
        register(database, str(world.osf), IMAGE, CAUSE, ["1"])
    assert di(world) == {}


def test_what_waits_is_no_blocking_transaction() -> None:
    class Never:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def wait() -> None:
        await Never()

    with pytest.raises(RuntimeError):
        finish(wait())


class TestCommand:
    """The whole of it, with a file and a configuration."""

    def command(self, database: str, folder: Path, file: Path, *more: str) -> int:
        config = folder / "node.conf"
        config.write_text(
            f'nodename = "n"\npath.storage.images = "{folder / "images"}"\n'
            'l7r.tls.cert = "/nowhere"\nl7r.tls.key = "/nowhere"\n'
        )
        words = ["register", str(file), "--version", "7", "--config", str(config), "--dsn", database]
        return main([*words, *more])

    def image(self, folder: Path, name: str = "desk.tar") -> Path:
        (folder / "images").mkdir()
        file = folder / "images" / name
        file.write_bytes(tar_bytes({"etc/": b""}))
        return file

    def test_it_computes_what_the_row_says(self, database: str, world: World, tmp_path: Path) -> None:
        file = self.image(tmp_path)
        assert self.command(database, tmp_path, file, "--osf", osf_name(world), "--publish", "--tag", "trial") == 0
        row = di(world, "7")
        data = file.read_bytes()
        assert (row["path"], row["type"], row["size"]) == ("desk.tar", "lxc", len(data))
        assert row["checksum"] == hashlib.sha256(data).hexdigest()
        assert tags(world, "7") == {"7", "head", "trial"}

    def test_a_file_elsewhere_is_refused(
        self, database: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        inside = self.image(tmp_path)
        outside = inside.rename(tmp_path / "desk.tar")
        (tmp_path / "images" / "link.tar").symlink_to(outside)
        for file in (outside, tmp_path / "images" / "link.tar"):
            assert self.command(database, tmp_path, file, "--osf", str(world.osf)) == 1
            assert "path.storage.images" in capsys.readouterr().err
        assert di(world, "7") == {}

    def test_a_file_of_no_type_is_refused(
        self, database: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = self.image(tmp_path)
        file.write_bytes(b"text")
        assert self.command(database, tmp_path, file, "--osf", str(world.osf)) == 1
        assert "no driver starts" in capsys.readouterr().err


def osf_name(world: World) -> str:
    rows = world.ask("SELECT t.name AS tenant, o.name FROM osfs o JOIN tenants t ON t.id = o.tenant_id")
    return f"{rows[0]['tenant']}/{rows[0]['name']}"
