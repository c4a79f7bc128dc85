"""Crashes, races and storages in trouble."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.task import LoopingCall

from qvd.hkd.storage import unpacks
from qvd.hkd.storage.unpacks import LAUNCH
from qvd.model.errors import DriverError, TransientError
from qvd.model.ids import VMId
from qvd.model.records import Persistence, VMSpec
from tests.fakes.asynchronous import asynchronous, pause, spawn, until
from tests.machines.storage import (
    BASE,
    ROOT,
    Storage,
    archive,
    content,
    entry,
    exists,
    folder,
    memory_disk,
    reactor,
    silent,
    spec,
    write,
)

pytestmark = [pytest.mark.private, pytest.mark.lxc]

NOISE = random.Random(1).randbytes(1 << 20)
LARGE = archive(*ROOT, *[entry(f"noise{number}", NOISE) for number in range(40)])


def programs() -> list[int]:
    """Those that unpack here: each has its own, which do the work."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if LAUNCH.encode() in words:
            found.append(int(name))
    return sorted(found)


def first_program() -> int:
    """The one that the daemon has started, and that the others die with."""
    found = set(programs())
    (first,) = [pid for pid in found if parent_of(pid) == os.getpid()]
    return first


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


@asynchronous
async def test_all_vms_of_a_node_share_one_program(storage: Storage) -> None:
    storage.put("desk", LARGE)
    roots, told = storage.roots(), [list[str]() for _ in range(5)]
    waiting = [spawn(roots.prepare(spec("desk", number), said.append)) for number, said in enumerate(told)]
    await until(programs)
    first = first_program()
    assert [pid for pid in programs() if parent_of(pid) == os.getpid()] == [first]
    for done in waiting:
        await done
    assert all(said[-1] == "Unpacking the image, 100 %" for said in told)
    assert len(storage.bases()) == 1


@asynchronous
async def test_who_gives_up_does_not_end_it(storage: Storage) -> None:
    storage.put("desk", LARGE)
    roots = storage.roots()
    waiting = spawn(roots.prepare(spec("desk"), silent))
    await until(programs)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    await until(lambda: storage.bases())
    await until(lambda: not programs())


@asynchronous
async def test_two_nodes_unpack_it_once(storage: Storage) -> None:
    checksum = storage.put("desk", LARGE)
    wanted = spec("desk", checksum=checksum)
    first, second = storage.roots("n1"), storage.roots("n2")
    said: list[str] = []
    one = spawn(first.prepare(wanted, silent))
    await until(lambda: storage.leftovers())
    signals_all(signal.SIGSTOP)
    two = spawn(second.prepare(wanted, said.append))
    await until(lambda: "Waiting for another node, which unpacks the image" in said)
    (before,) = storage.leftovers()
    signals_all(signal.SIGCONT)
    await one
    await two
    assert (storage.bases(), storage.leftovers()) == ([f"desk@{checksum[:16]}"], [])
    assert before.startswith(f".desk@{checksum[:16]}.")


def signals_all(number: signal.Signals) -> None:
    for pid in programs():
        os.kill(pid, number)


@asynchronous
async def test_killed_and_tried_again(storage: Storage) -> None:
    storage.put("desk", LARGE)
    storage.put("other", archive(*ROOT))
    roots = storage.roots()
    waiting = spawn(roots.prepare(spec("desk"), silent))
    await until(lambda: storage.leftovers())
    os.kill(first_program(), signal.SIGKILL)
    with pytest.raises(TransientError, match="has ended unexpectedly"):
        await waiting
    await until(lambda: not programs(), "the end of all that it had started")
    assert len(storage.leftovers()) == 1
    await roots.prepare(spec("other"), silent)
    assert storage.leftovers() == [], "whoever unpacks next removes it, whatever it is"
    await roots.prepare(spec("desk"), silent)
    assert len(storage.bases()) == 2


@asynchronous
async def test_a_program_that_hangs_is_given_up(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacks, "SILENCE", 1.0)
    storage.put("desk", LARGE)
    roots = storage.roots()
    said: list[str] = []
    waiting = spawn(roots.prepare(spec("desk"), said.append))
    await until(lambda: "Unpacking the image, 10 %" in said)
    signals_all(signal.SIGSTOP)
    with pytest.raises(TransientError, match="has not answered for 1 s; is its server there"):
        await waiting
    await until(lambda: not programs(), "the end of all that it had started")
    # The reactor is about to hear of it.
    await pause(0.1)
    await roots.prepare(spec("desk"), silent)
    assert (len(storage.bases()), storage.leftovers()) == (1, [])


@asynchronous
async def test_full_disk(storage: Storage) -> None:
    storage.put("desk", LARGE)
    with memory_disk(storage.layout.bases, "16m"):
        with pytest.raises(TransientError, match="is full; make room there or give it more"):
            await storage.roots().prepare(spec("desk"), silent)
        assert (storage.bases(), storage.leftovers()) == ([], [])
    await storage.roots().prepare(spec("desk"), silent)
    assert len(storage.bases()) == 1


@asynchronous
async def test_full_disk_of_layers(storage: Storage) -> None:
    storage.put("desk", archive(*ROOT))
    roots = storage.roots()
    await roots.prepare(spec("desk"), silent)
    with memory_disk(storage.layout.overlays, "64k,nr_inodes=4"):
        with pytest.raises(TransientError, match=r"writable layers .* is full"):
            await roots.lay_out(spec("desk"))
        await roots.clean(VMId(1))
    assert (await roots.lay_out(spec("desk"))).upper


@asynchronous
async def test_read_only(storage: Storage) -> None:
    storage.put("desk", archive(*ROOT))
    roots = storage.roots()
    with memory_disk(storage.layout.bases, "1m") as place:
        remount(place, "ro")
        with pytest.raises(TransientError, match="is mounted read-only; mount it for writing"):
            await roots.prepare(spec("desk"), silent)
    await roots.prepare(spec("desk"), silent)
    with memory_disk(storage.layout.overlays, "1m") as place:
        remount(place, "ro")
        with pytest.raises(TransientError, match=r"writable layers .* is mounted read-only"):
            await roots.lay_out(spec("desk"))
        remount(place, "rw")
        await roots.lay_out(spec("desk"))


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


def write_over(folder_path: str) -> None:
    write("mine", folder_path, "mine")


@pytest.mark.parametrize("persistence", [Persistence.NOTHING, Persistence.HOME])
@asynchronous
async def test_a_fresh_layer_for_each_run(storage: Storage, persistence: Persistence) -> None:
    storage.put("desk", archive(*ROOT))
    roots, wanted = storage.roots(), spec("desk", persistence=persistence)
    await roots.prepare(wanted, silent)
    plan = await roots.lay_out(wanted)
    assert owner_and_mode(plan.upper) == (BASE, 0o755)
    write_over(plan.upper)
    assert await roots.left() == {VMId(1)}
    assert await storage.roots("n2").left() == set(), "it is none of another node's"
    await storage.roots("n2").clean(VMId(1))
    assert exists(plan.upper, "mine")
    await roots.clean(VMId(1))
    await roots.clean(VMId(1))
    assert await roots.left() == set()
    again = await roots.lay_out(wanted)
    assert not exists(again.upper, "mine")


def owner_and_mode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_uid, status.st_mode & 0o7777


async def run_once(storage: Storage, wanted: VMSpec) -> str:
    """@return: the writable layer of this run."""
    roots = storage.roots()
    await roots.prepare(wanted, silent)
    plan = await roots.lay_out(wanted)
    await roots.clean(wanted.vm_id)
    assert await roots.left() == set()
    return plan.upper


@asynchronous
async def test_a_layer_that_persists_belongs_to_its_image(storage: Storage) -> None:
    """An update begins anew; going back finds what was there, even where the image has another name by now."""
    old, new = archive(*ROOT), archive(*ROOT, folder("new"))
    storage.put("desk1", old)
    storage.put("desk2", new)
    storage.put("renamed", old)
    first = spec("desk1", persistence=Persistence.EVERYTHING)
    write_over(await run_once(storage, first))
    assert content(await run_once(storage, first), "mine") == b"mine"
    assert not exists(await run_once(storage, evolve(first, image="desk2")), "mine")
    assert content(await run_once(storage, first), "mine") == b"mine"
    assert content(await run_once(storage, evolve(first, image="renamed")), "mine") == b"mine"
    assert not exists(await run_once(storage, evolve(first, vm_id=VMId(2))), "mine")


@asynchronous
async def test_a_file_that_was_replaced_is_another_image(storage: Storage) -> None:
    storage.put("desk", archive(*ROOT))
    roots = storage.roots()
    await roots.prepare(spec("desk"), silent)
    storage.put("desk", archive(*ROOT, folder("new")))
    with pytest.raises(DriverError, match="was changed just now"):
        await roots.lay_out(spec("desk"))
    await roots.prepare(spec("desk"), silent)
    assert len(storage.bases()) == 2
    assert exists((await roots.lay_out(spec("desk"))).lower, "new")


@asynchronous
async def test_the_reactor_is_not_held_up(storage: Storage) -> None:
    """Figures, for a tree like that of a desktop."""
    made = storage.layout.images / "desk"
    pack("/usr/lib/x86_64-linux-gnu", made)
    gaps: list[float] = [0.0]
    turns = [reactor.seconds()]

    def turn() -> None:
        gaps.append(reactor.seconds() - turns[-1] - 0.005)
        turns.append(reactor.seconds())

    storage.layout = evolve(storage.layout, limit=4 << 30)
    looping: Any = LoopingCall(turn)
    looping.start(0.005)
    began = reactor.seconds()
    await storage.roots().prepare(spec("desk"), silent)
    took = reactor.seconds() - began
    await pause(0)
    looping.stop()
    (base,) = storage.bases()
    said = json.loads(content(str(storage.layout.bases), base, "image.json"))
    figures = {"seconds": round(took, 2), "lag_ms": round(max(gaps) * 1000, 1), "files": said["files"]}
    sys.stderr.write(json.dumps(figures | {"MiB": said["bytes"] >> 20}) + "\n")
    assert len(gaps) > 10, "the reactor turned meanwhile"


def pack(top: str, target: Path) -> None:
    words = ["tar", "-cf", str(target), "--transform", "s,^,usr/,", "-C", top, "."]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["tar", "-rf", str(target), "--transform", "s,.*,bin/sh,", "-C", "/bin", "dash"], check=True)
