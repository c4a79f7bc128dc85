"""What the watchdog makes of a promise, the time and the VMs that are there."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, field

from qvd.hkd import watchdog_launch
from qvd.hkd.hypervisor import signals as supervised_signals
from qvd.hkd.watchdog_launch import (
    KILL_PAUSE,
    LEASE,
    PAUSE,
    Log,
    Process,
    Promise,
    Verdict,
    Watchdog,
    boot_id,
    decide,
    decode,
    identify,
    newest,
    send,
)

DAEMON = Process(4711, 99)
PROMISE = Promise("boot", 3, 100.0, DAEMON)
RELEASED = PROMISE._replace(released=True)
BEFORE, AT, AFTER = 99.9, 100.0, 1000.0


@pytest.mark.parametrize(
    ("promise", "now", "daemon_lives", "vms", "verdict"),
    [
        (PROMISE, BEFORE, True, True, Verdict.WAIT),
        (PROMISE, BEFORE, True, False, Verdict.WAIT),
        # Killed: its successor may come in time. Where there is nothing to kill, it starts a watchdog of its own.
        (PROMISE, BEFORE, False, True, Verdict.WAIT),
        (PROMISE, BEFORE, False, False, Verdict.END),
        # Stopped in order: the same.
        (RELEASED, BEFORE, True, True, Verdict.WAIT),
        (RELEASED, BEFORE, True, False, Verdict.END),
        (RELEASED, BEFORE, False, True, Verdict.WAIT),
        (RELEASED, BEFORE, False, False, Verdict.END),
        # Whoever is there or not, the VMs must be gone.
        (PROMISE, AT, True, True, Verdict.KILL),
        (PROMISE, AFTER, True, True, Verdict.KILL),
        (PROMISE, AFTER, False, True, Verdict.KILL),
        (RELEASED, AFTER, True, True, Verdict.KILL),
        (RELEASED, AFTER, False, True, Verdict.KILL),
        # A daemon that is stopped may go on and start one.
        (PROMISE, AFTER, True, False, Verdict.WAIT),
        (PROMISE, AFTER, False, False, Verdict.END),
        (RELEASED, AFTER, True, False, Verdict.END),
        (RELEASED, AFTER, False, False, Verdict.END),
    ],
)
def test_decide(promise: Promise, now: float, daemon_lives: bool, vms: bool, verdict: Verdict) -> None:
    assert decide(promise, now, daemon_lives, lambda: vms) is verdict


def test_no_vm_is_looked_for_while_all_is_well() -> None:
    def look() -> bool:
        raise AssertionError

    assert decide(PROMISE, BEFORE, True, look) is Verdict.WAIT


def test_a_promise_round_trip() -> None:
    for promise in (PROMISE, RELEASED):
        assert decode(promise.encode()) == promise


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"boot": "boot"}', PROMISE.encode()[:-9]])
def test_what_cannot_be_read_changes_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)
    assert newest(PROMISE, text.encode()) == PROMISE


def test_the_promise_that_was_read_last_holds() -> None:
    later = PROMISE._replace(until=200.0)
    assert newest(PROMISE, later.encode().encode()) == later
    assert newest(later, PROMISE.encode().encode()) == PROMISE
    assert newest(PROMISE, None) == PROMISE
    assert newest(PROMISE, later._replace(boot="another").encode().encode()) == PROMISE


def test_signal_only_to_that_process() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        known = identify(process.pid)
        assert known is not None
        assert not send(known._replace(started=known.started - 1), signal.SIGKILL)
        assert process.poll() is None
        assert send(known, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert identify(process.pid) is None
        assert not send(known, signal.SIGKILL)
    assert not send(known, signal.SIGKILL)


def test_the_log_is_bounded_and_never_in_the_way(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), 100)
    for number in range(20):
        log.say(f"line {number}")
    kept = (tmp_path / "log.1").read_text() + ((tmp_path / "log").read_text() if (tmp_path / "log").exists() else "")
    assert "line 19" in kept
    assert len(kept) < 300
    assert len(list(tmp_path.iterdir())) <= 2
    Log(str(tmp_path / "nowhere" / "log")).say("lost")


@define
class World:
    """A run folder with VMs that are ordinary processes of the test's own."""

    run: Path
    vms: dict[int, list[tuple[int, int, int]]] = field(factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(factory=list)
    locks: list[int] = field(factory=list)
    now: float = BEFORE
    broken: bool = False

    def promise(self, **changes: object) -> Promise:
        daemon = identify(os.getpid())
        assert daemon is not None
        return Promise(boot_id(), 3, 100.0, daemon)._replace(**changes)  # type: ignore[arg-type]

    def watchdog(self) -> Watchdog:
        log = Log(str(self.run / "log"))
        return Watchdog(str(self.run), self.signals, self.promise(), lambda: self.now, log, self.lock())

    def lock(self) -> int:
        """Open it once more, and lock it where it is free."""
        fd = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT)
        self.locks.append(fd)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def is_locked(self) -> bool:
        fd = os.open(self.run / "lock", os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def write(self, **changes: object) -> None:
        (self.run / LEASE).write_text(self.promise(**changes).encode())

    def signals(self, run: str, boot: str) -> dict[int, list[tuple[int, int, int]]]:
        if self.broken:
            raise OSError("too many open files")
        assert (run, boot) == (str(self.run), boot_id())
        return self.vms

    def start(self, vm: int, *words: str, numbers: Sequence[int] = (signal.SIGKILL,)) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words or ["sleep", "1000"], stdout=subprocess.PIPE)
        self.processes.append(process)
        known = identify(process.pid)
        assert known is not None
        self.vms.setdefault(vm, []).extend((*known, number) for number in numbers)
        return process

    @property
    def log(self) -> str:
        return (self.run / "log").read_text() if (self.run / "log").exists() else ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    for lock in made.locks:
        os.close(lock)


def test_a_vm_lives_until_the_deadline_and_no_longer(world: World) -> None:
    process = world.start(7)
    watchdog = world.watchdog()
    assert watchdog.look() is Verdict.WAIT
    assert process.poll() is None
    world.now = AT
    assert watchdog.look() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL
    assert watchdog.look() is Verdict.WAIT
    assert "killing VMs 7" in world.log
    assert f"SIGKILL to process {process.pid}" in world.log
    assert "VM 7: gone" in world.log


def test_a_renewal_moves_the_deadline(world: World) -> None:
    process = world.start(7)
    watchdog = world.watchdog()
    world.write(until=200.0)
    world.now = AT
    assert watchdog.look() is Verdict.WAIT
    world.now = 200.0
    assert watchdog.look() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL


def test_without_the_file_the_deadline_stays(world: World) -> None:
    process = world.start(7)
    watchdog = world.watchdog()
    world.write(until=200.0)
    watchdog.look()
    (world.run / LEASE).unlink()
    world.now = 199.0
    assert watchdog.look() is Verdict.WAIT
    world.now = 200.0
    assert watchdog.look() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL


def test_a_vm_started_after_the_deadline_is_killed_too(world: World) -> None:
    watchdog = world.watchdog()
    world.now = AFTER
    assert watchdog.look() is Verdict.WAIT
    process = world.start(8)
    assert watchdog.look() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL


def test_again_and_again_with_more_force(world: World) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('', flush=True); time.sleep(1000)"
    )
    numbers = [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
    process = world.start(7, sys.executable, "-c", script, numbers=numbers)
    assert process.stdout is not None and process.stdout.readline()
    watchdog = world.watchdog()
    world.now = AFTER
    for _ in numbers:
        assert process.poll() is None
        assert watchdog.look() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL


def test_a_process_that_got_the_number_of_another_is_let_be(world: World) -> None:
    process = world.start(7)
    pid, started, number = world.vms[7][0]
    world.vms[7] = [(pid, started - 1, number)]
    world.now = AFTER
    assert world.watchdog().look() is Verdict.WAIT
    assert process.poll() is None


def test_a_look_that_fails_is_not_the_last(world: World) -> None:
    process = world.start(7)
    watchdog = world.watchdog()
    world.now, world.broken = AFTER, True
    assert watchdog.look_safely() is Verdict.WAIT
    assert "too many open files" in world.log
    world.broken = False
    assert watchdog.look_safely() is Verdict.KILL
    assert process.wait() == -signal.SIGKILL


def test_the_end(world: World) -> None:
    watchdog = world.watchdog()
    assert watchdog.look() is Verdict.WAIT
    world.write(released=True)
    assert watchdog.look() is Verdict.END


def test_the_end_after_a_daemon_that_was_killed(world: World) -> None:
    watchdog = world.watchdog()
    daemon = world.promise().daemon
    world.write(daemon=daemon._replace(started=daemon.started - 1))
    assert watchdog.look() is Verdict.END


def test_the_lock_is_let_go_at_the_end(world: World) -> None:
    watchdog = world.watchdog()
    world.write(released=True)
    assert watchdog.look() is Verdict.END
    assert world.is_locked()
    assert watchdog.let_go()
    assert not world.is_locked()


def test_a_daemon_that_comes_at_the_last_moment_is_seen(world: World) -> None:
    watchdog = world.watchdog()
    world.write(released=True)
    assert watchdog.look() is Verdict.END
    # It finds the lock held, so it starts no watchdog.
    world.write(until=200.0)
    assert not watchdog.let_go()
    assert world.is_locked()


def test_so_is_one_that_has_started_another_watchdog(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = world.watchdog()
    world.write(released=True)
    assert watchdog.look() is Verdict.END

    def come() -> Verdict:
        world.write(until=200.0)
        world.lock()
        return watchdog.look()

    monkeypatch.setattr(watchdog, "look_safely", come)
    assert watchdog.let_go()
    assert world.is_locked()


def test_it_looks_often_enough() -> None:
    assert KILL_PAUSE < PAUSE <= 0.25


@pytest.mark.parametrize("module", [watchdog_launch, supervised_signals])
def test_only_the_standard_library(module: object) -> None:
    tree = ast.parse(Path(str(getattr(module, "__file__", ""))).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in names if name.split(".")[0] not in sys.stdlib_module_names] == []
