"""The collection of garbage with a real database and real folders, as C{qvd-node garbage} does it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2
import psycopg2.extensions
import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from qvd.db.garbage import Garbage
from qvd.hkd.cli import arguments
from qvd.hkd.collector import GONE, Collector, Report
from qvd.hkd.console.farm import Farm
from qvd.hkd.garbage.storage import Folders, Storage
from qvd.hkd.garbage.worker import Worker, in_daemon_thread
from qvd.interfaces import ITransaction
from qvd.model.errors import Conflict, DatabaseUnavailable, OwnershipLost, QVDError, TransientError
from qvd.model.garbage import DAY, Fate, Known, Terms, Thing
from qvd.model.settings_node import parse_node
from tests.contract.stores import World
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture, spawn, until
from tests.fakes.looplag import LoopLag

TERMS = Terms(30 * DAY, 90 * DAY)
HOMES = evolve(TERMS, homes=True)
MAKE_VM = "INSERT INTO vms (id, tenant_id, user_id, osf_id, name) SELECT 57, tenant_id, user_id, osf_id, 'new' FROM vms"


class Store(World):
    """A database and the storage that goes with it. Its one VM is number 1."""

    def __init__(self, dsn: str, folder: Path) -> None:
        super().__init__(dsn)
        self.folder = folder
        self.dsn = dsn
        self.folders = Folders(folder / "homes", folder / "overlays", folder / "images", folder / "bases")
        for path in (self.folders.homes, self.folders.overlays, self.folders.images, self.folders.bases):
            path.mkdir()
        self.garbage = Garbage(self.pool)
        self.worker = Worker(reactor, 20.0, in_daemon_thread)
        self.storage = Storage(self.folders, self.worker)
        self.collector = Collector(self.garbage, self.storage, "test")

    def fill(self, *names: str) -> None:
        for name in names:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text("x")

    def has(self, *names: str) -> list[bool]:
        return [(self.folder / name).exists() for name in names]

    def files(self) -> list[str]:
        """All that is no folder."""
        paths = (path.relative_to(self.folder) for path in self.folder.rglob("*") if not path.is_dir())
        return sorted(str(path) for path in paths if path.name != ".qvd-installation")

    def age(self, days: float) -> None:
        """Let time pass."""
        self.ask("UPDATE garbage_marks SET since = since - %s * interval '1 day'", days)

    async def later(self, terms: Terms = TERMS, days: float = 31) -> Report:
        """A run that marks, and one after so many days."""
        await self.collector.collect(terms)
        self.age(days)
        return await self.collector.collect(terms)


def fates(report: Report) -> dict[str, Fate]:
    return {verdict.thing.key.path: verdict.fate for verdict in report.verdicts}


@asynchronous_fixture
async def store(database: str, tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(database, tmp_path)
    await made.pool.start()
    yield made
    await made.close()


class TestLife:
    """Of garbage, from its mark to its end."""

    @asynchronous
    async def test_a_layer(self, store: Store) -> None:
        store.fill("overlays/57/upper/file", "overlays/1/upper/file")
        first = await store.collector.collect(TERMS)
        assert fates(first) == {"1": Fate.MARK, "57": Fate.MARK}
        assert fates(await store.collector.collect(TERMS)) == {"1": Fate.WAIT, "57": Fate.WAIT}
        store.age(31)
        last = await store.collector.collect(TERMS)
        assert fates(last) == {"1": Fate.DELETE, "57": Fate.DELETE}
        assert last.removed == 2
        assert store.files() == []
        assert store.ask("SELECT path FROM garbage_marks") == []
        assert len(store.events("garbage.deleted")) == 2

    @asynchronous
    async def test_what_is_used_again_is_garbage_anew(self, store: Store) -> None:
        store.fill("overlays/1/upper/file")
        await store.collector.collect(TERMS)
        store.age(31)
        lease = await store.running_host()
        await store.claimed(lease)
        assert fates(await store.collector.collect(TERMS)) == {"1": Fate.KEEP}
        await store.vms.order_stop(store.vm_id, "test")
        await store.ownership.release(lease, store.vm_id, None)
        assert fates(await store.collector.collect(TERMS)) == {"1": Fate.MARK}

    @asynchronous
    async def test_a_home_needs_to_be_asked_for_and_goes_to_the_trash(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/57.lock", "homes/1/1/file", "overlays/persistent/57/upper/file")
        held = await store.later()
        assert fates(held) == {"1/1": Fate.KEEP, "1/57": Fate.HOLD, "persistent/57": Fate.HOLD}
        moved = await store.collector.collect(HOMES)
        assert fates(moved) == {"1/1": Fate.KEEP, "1/57": Fate.TRASH, "persistent/57": Fate.TRASH}
        assert moved.removed == 0
        home, lock, other = (name for name in store.files() if name.startswith("homes/"))
        assert (home[-8:], lock[-8:], other) == ("/57.lock", "/57/file", "homes/1/1/file")
        assert home.startswith("homes/.trash/")

    @asynchronous
    async def test_the_trash_is_emptied_when_its_own_age_is_over(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/1/file")
        await store.later(HOMES)
        store.age(89)
        await store.collector.collect(HOMES)
        assert len(store.files()) == 2
        store.age(2)
        assert (await store.collector.collect(TERMS)).removed == 0
        assert (await store.collector.collect(HOMES)).removed == 1
        assert store.files() == ["homes/1/1/file"]
        assert [event["before"]["kind"] for event in store.events("garbage.deleted")] == ["trash"]

    @asynchronous
    async def test_a_home_that_is_put_back_is_a_home_again(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/1/file")
        await store.later(HOMES)
        (trashed,) = (store.folder / "homes/.trash").iterdir()
        os.rename(trashed / "57", store.folder / "homes/1/57")
        assert fates(await store.collector.collect(HOMES))["1/57"] is Fate.MARK
        store.age(31)
        store.ask(MAKE_VM)
        assert fates(await store.collector.collect(HOMES))["1/57"] is Fate.KEEP

    @asynchronous
    async def test_images_are_only_reported_and_bases_are_collected(self, store: Store) -> None:
        store.fill("images/desk", "images/old.tar")
        for name in ("desk", "old.tar"):
            store.fill(f"bases/{name}@1/rootfs/file")
            (store.folder / f"bases/{name}@1/image.json").write_text(json.dumps({"image": name, "sha256": ""}))
        store.fill("bases/.old.tar@2.0123456789abcdef.new/rootfs/file", "bases/.old.tar@2.lock")
        report = await store.later()
        assert fates(report) == {
            "desk@1": Fate.KEEP,
            "old.tar@1": Fate.DELETE,
            ".old.tar@2.0123456789abcdef.new": Fate.DELETE,
            "desk": Fate.KEEP,
            "old.tar": Fate.REPORT,
        }
        assert store.has("images/old.tar", "bases/desk@1", "bases/old.tar@1") == [True, True, False]


class TestDryRun:
    @asynchronous
    async def test_it_changes_nothing_at_all(self, store: Store) -> None:
        def state() -> Any:
            rows = [store.ask(f"SELECT * FROM {table}") for table in ("garbage_marks", "garbage_collector", "events")]
            files = sorted((str(path), path.lstat().st_mtime_ns) for path in store.folder.rglob("*"))
            return rows, files

        store.fill("overlays/57/upper/file", "homes/1/57/file")
        untouched = state()
        assert set(fates(await store.collector.look(HOMES)).values()) == {Fate.MARK}
        assert state() == untouched
        await store.collector.collect(HOMES)
        store.age(31)
        marked = state()
        report = await store.collector.look(HOMES)
        assert fates(report) == {"57": Fate.DELETE, "1/57": Fate.TRASH}
        assert state() == marked


class TestDoubt:
    """Of a database that may be the wrong one."""

    @asynchronous
    async def test_the_storage_of_another_installation(self, store: Store) -> None:
        store.fill("overlays/57/upper/file")
        await store.later(days=0)
        store.ask("UPDATE installation SET id = gen_random_uuid()")
        for run in (store.collector.collect(TERMS), store.collector.look(TERMS)):
            with pytest.raises(Conflict, match="another installation"):
                await run
        assert store.has("overlays/57") == [True]

    @asynchronous
    async def test_an_empty_database(self, store: Store) -> None:
        store.fill("overlays/57/upper/file", "homes/1/1/file")
        await store.collector.collect(TERMS)
        store.age(1000)
        store.ask("DELETE FROM vms")
        with pytest.raises(Conflict, match="knows no VM at all"):
            await store.collector.collect(HOMES)
        assert (await store.collector.look(HOMES)).suspicion is not None
        assert len(store.files()) == 2
        forced = await store.collector.collect(HOMES, force=True)
        assert fates(forced) == {"57": Fate.DELETE, "1/1": Fate.MARK}

    @asynchronous
    async def test_more_homes_without_a_vm_than_with_one(self, store: Store) -> None:
        store.fill("homes/1/1/file", *(f"homes/1/{number}/file" for number in range(50, 60)))
        with pytest.raises(Conflict, match="10 of 11 things of the kind 'home'"):
            await store.collector.collect(HOMES)
        assert store.ask("SELECT * FROM garbage_marks") == []
        # The right was given back all the same.
        await store.garbage.take("somebody", 1.0)


class Interfering(Garbage):
    """One that lets the test do something between the look at the database and what follows."""

    async def known(self) -> Known:
        answer = await super().known()
        await self.db.transact("interfere", self.interfere)
        return answer

    async def interfere(self, tx: ITransaction) -> None:
        """Nothing, unless a test says what."""


class Failing(Garbage):
    """One whose server is lost before the end of the transaction."""

    async def collect(self, *words: Any) -> bool:
        try:
            return await super().collect(*words)
        except psycopg2.Error:
            raise DatabaseUnavailable("The database does not answer") from None


class Dying(Storage):
    """One whose node dies after so many things were moved."""

    left = 1

    async def trash(self, thing: Thing, date: str) -> str:
        return self._die(await super().trash(thing, date))

    async def doom(self, thing: Thing, date: str) -> str:
        return self._die(await super().doom(thing, date))

    def _die(self, path: str) -> str:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")
        return path


class TestHostile:
    @asynchronous
    async def test_a_vm_that_is_made_after_the_look(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/1/file")
        await store.collector.collect(HOMES)
        store.age(31)
        garbage = Interfering(store.pool)
        with mock.patch.object(Interfering, "interfere", lambda _, tx: deferToThread(store.ask, MAKE_VM)):
            report = await evolve(store.collector, garbage=garbage).collect(HOMES)
        assert [(verdict.fate, verdict.reason) for verdict in report.verdicts][1] == (Fate.KEEP, GONE)
        assert store.has("homes/1/57/file") == [True]
        assert store.events("garbage.trashed") == []

    @asynchronous
    async def test_two_at_once(self, store: Store) -> None:
        store.fill(*(f"overlays/{number}/upper/file" for number in range(50, 55)))
        await store.later(days=0)
        store.age(31)
        other = Collector(store.garbage, Storage(store.folders, Worker(reactor, 20.0, in_daemon_thread)), "other")
        results = await gatherResults([spawn(outcome(store.collector)), spawn(outcome(other))])
        assert sorted(str(type(result).__name__) for result in results) == ["Conflict", "Report"]
        assert store.files() == []
        assert len(store.events("garbage.deleted")) == 5

    @asynchronous
    async def test_a_right_that_passed_on_during_a_run(self, store: Store) -> None:
        store.fill("overlays/57/upper/file")
        await store.later(days=0)
        store.age(31)

        async def pass_on(_: object, tx: ITransaction) -> None:
            await tx.execute("UPDATE garbage_collector SET token = gen_random_uuid(), holder = 'other'")

        with mock.patch.object(Interfering, "interfere", pass_on), pytest.raises(OwnershipLost):
            await evolve(store.collector, garbage=Interfering(store.pool)).collect(TERMS)
        assert store.has("overlays/57/upper/file") == [True]
        (row,) = store.ask("SELECT holder, token FROM garbage_collector")
        assert row["holder"] == "other" and row["token"] is not None

    @asynchronous
    async def test_a_node_that_dies_between_two_things(self, store: Store) -> None:
        store.fill("overlays/50/upper/file", "overlays/51/upper/file", "overlays/52/upper/file")
        await store.later(days=0)
        store.age(31)
        dying = evolve(store.collector, storage=Dying(store.folders, store.worker))
        with pytest.raises(RuntimeError):
            await dying.collect(TERMS)
        # The first was taken away in order; of the second, the move but not its record.
        assert store.has("overlays/50", "overlays/51", "overlays/52") == [False, False, True]
        assert [row["path"] for row in store.ask("SELECT path FROM garbage_marks ORDER BY path")] == ["51", "52"]
        report = await store.collector.collect(TERMS)
        assert (report.removed, store.files()) == (3, [])
        assert store.ask("SELECT path FROM garbage_marks") == []

    @asynchronous
    async def test_a_node_that_dies_as_a_home_was_moved(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/1/file")
        await store.later(days=0)
        store.age(31)
        storage = Dying(store.folders, store.worker)
        storage.left = 0
        with pytest.raises(RuntimeError):
            await evolve(store.collector, storage=storage).collect(HOMES)
        report = await store.collector.collect(HOMES)
        # Its time in the trash begins when it is seen there.
        assert [verdict.fate for verdict in report.verdicts] == [Fate.KEEP, Fate.MARK]
        assert [row["kind"] for row in store.ask("SELECT kind FROM garbage_marks")] == ["trash"]
        assert len(store.files()) == 2

    @asynchronous
    async def test_a_transaction_that_fails_after_the_move(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/57.lock", "overlays/58/upper/file", "homes/1/1/file")
        await store.later(days=0)
        store.age(31)
        before = store.files()
        store.ask("REVOKE INSERT ON events FROM qvd_node")
        for terms in (TERMS, HOMES):
            with pytest.raises(DatabaseUnavailable):
                await evolve(store.collector, garbage=Failing(store.pool)).collect(terms)
            assert store.files() == before
        assert len(store.ask("SELECT path FROM garbage_marks")) == 2

    @asynchronous
    async def test_a_home_whose_lock_is_held(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/57.lock", "homes/1/58/file", "homes/1/1/file")
        await store.later(days=0)
        store.age(31)
        holder = os.open(store.folder / "homes/1/57.lock", os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        report = await store.collector.collect(HOMES)
        os.close(holder)
        assert fates(report) == {"1/1": Fate.KEEP, "1/57": Fate.LEAVE, "1/58": Fate.TRASH}
        assert store.has("homes/1/57/file") == [True]
        assert fates(await store.collector.collect(HOMES))["1/57"] is Fate.TRASH

    @asynchronous
    async def test_a_link_in_place_of_a_marked_home(self, store: Store) -> None:
        store.fill("homes/1/57/file", "elsewhere/file", "homes/1/1/file")
        await store.later(days=0)
        store.age(31)
        os.rename(store.folder / "homes/1/57", store.folder / "was")
        (store.folder / "homes/1/57").symlink_to(store.folder / "elsewhere")
        report = await store.collector.collect(HOMES)
        assert fates(report)["1/57"] is Fate.LEAVE
        assert (store.folder / "homes/1/57").is_symlink() and store.has("elsewhere/file") == [True]


async def outcome(collector: Collector) -> object:
    try:
        return await collector.collect(TERMS)
    except QVDError as error:
        return error


class TestHungStorage:
    """It does not answer. The reactor goes on, the run ends, and nothing happens late."""

    @asynchronous
    async def test_from_the_start(self, store: Store) -> None:
        store.fill("overlays/57/upper/file")
        gate = threading.Event()
        storage = Storage(store.folders, Worker(reactor, 0.3, hanging(gate)))
        collector = evolve(store.collector, storage=storage)
        with LoopLag(reactor) as lag:
            looking = spawn(collector.look(TERMS))
            await lag.turned(10)
            assert not looking.called
            with pytest.raises(TransientError, match="does not answer"):
                await looking
            with pytest.raises(TransientError, match="still waits"):
                await collector.look(TERMS)
        lag.say()
        gate.set()
        await until(lambda: storage._worker._busy is None)
        assert fates(await collector.look(TERMS)) == {"57": Fate.MARK}

    @asynchronous
    async def test_a_move_that_comes_late_is_undone(self, store: Store) -> None:
        store.fill("homes/1/57/file", "homes/1/57.lock", "homes/1/1/file")
        await store.later(days=0)
        store.age(31)
        gate, rename = threading.Event(), os.rename

        def late(source: str, target: str, **folders: int) -> None:
            gate.wait(20)
            rename(source, target, **folders)

        storage = Storage(store.folders, Worker(reactor, 0.3, in_daemon_thread))
        with mock.patch("qvd.hkd.garbage.moving.os.rename", late), LoopLag(reactor) as lag:
            with pytest.raises(TransientError):
                await evolve(store.collector, storage=storage).collect(HOMES)
            gate.set()
            await until(lambda: storage._worker._busy is None)
        lag.say()
        assert store.files() == ["homes/1/1/file", "homes/1/57.lock", "homes/1/57/file"]
        assert list((store.folder / "homes/.trash").iterdir()) == []
        assert store.events("garbage.trashed") == []
        assert fates(await store.collector.collect(HOMES))["1/57"] is Fate.TRASH


def hanging(gate: threading.Event) -> Callable[[Callable[[], None]], None]:
    def start(work: Callable[[], None]) -> None:
        def run() -> None:
            gate.wait(20)
            work()

        in_daemon_thread(run)

    return start


class TestCommand:
    """C{qvd-node garbage}."""

    def run(self, store: Store, *words: str) -> Deferred[str]:
        parameters = psycopg2.extensions.parse_dsn(store.dsn)
        settings = parse_node(
            {
                "nodename": "node1",
                "l7r.tls.cert": "",
                "l7r.tls.key": "",
                "database.host": parameters["host"],
                "database.port": int(parameters["port"]),
                "database.name": parameters["dbname"],
                "path.storage.homes": str(store.folders.homes),
                "path.storage.overlays": str(store.folders.overlays),
                "path.storage.images": str(store.folders.images),
                "path.storage.bases": str(store.folders.bases),
            },
            "node.conf",
        )
        options = arguments().parse_args(["garbage", *words])
        return spawn(options.run(Farm(reactor, settings, "garbage"), options))

    @asynchronous
    async def test_the_table(self, store: Store) -> None:
        store.fill("overlays/57/upper/file", "homes/1/57/file", "homes/1/1/file", "images/mine.tar")
        dry = await self.run(store, "--dry-run")
        assert dry.splitlines()[-2:] == ["1 things have a reference, 3 have none", "Nothing was changed"]
        await self.run(store)
        store.age(8)
        held = await self.run(store, "--older-than", "7")
        rows = [line.split("  ") for line in held.splitlines()]
        assert {row[0]: [word for word in row if word][2].strip() for row in rows[1:4]} == {
            "home": "needs --homes",
            "writable layer": "is removed",
            "image file": "is left to you",
        }
        assert held.endswith("1 were removed for good")
        assert str(store.folders.homes / "1/57") in held
        assert "there is no VM 57" in await self.run(store, "--older-than", "7", "--homes")
        assert len(store.events("garbage.trashed")) == 1
        assert "qvd-node garbage" in store.events("garbage.trashed")[0]["cause"]

    @asynchronous
    async def test_json(self, store: Store) -> None:
        store.fill("overlays/57/upper/file")
        document = json.loads(await self.run(store, "--json", "--dry-run"))
        (thing,) = document["things"]
        assert thing["bytes"] > 0
        assert {**thing, "bytes": 0} == {
            "kind": "layer",
            "path": str(store.folders.overlays / "57"),
            "vm_id": 57,
            "fate": "mark",
            "reason": "there is no VM 57",
            "since": None,
            "bytes": 0,
        }

    @asynchronous
    async def test_a_refusal_and_force(self, store: Store) -> None:
        store.fill("homes/1/57/file")
        store.ask("DELETE FROM vms")
        assert "A run would be refused without --force" in await self.run(store, "--dry-run")
        with pytest.raises(Conflict, match="qvd-node garbage --force"):
            await self.run(store)
        assert "is marked" in await self.run(store, "--force")

    @pytest.mark.parametrize("word", ["x", "-1", "nan", "inf"])
    def test_days_are_a_number(self, word: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            arguments().parse_args(["garbage", f"--older-than={word}"])
        assert "is no number of days" in capsys.readouterr().err
