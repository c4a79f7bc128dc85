"""The daemon's side of the watchdog: the file, the lock, and when the program is started."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from qvd.hkd.watchdog import FAREWELL, FAREWELL_LOOKS, LAUNCH, LEASE, Watchdog
from qvd.hkd.watchdog_launch import LOCK, Promise, boot_id, decode, identify
from qvd.interfaces import IDeadline
from qvd.model.errors import TransientError
from qvd.model.ids import Epoch, HostId
from qvd.model.records import Lease

HELD = Lease(HostId(7), Epoch(3))
SIGNALS = Path("/signals.py")


class Reactor(MemoryReactorClock):  # type: ignore[misc,unused-ignore]
    """Starts no process, but keeps what it would inherit."""

    def __init__(self) -> None:
        cast(Any, super()).__init__()
        self.started: list[list[str]] = []
        self.locks: list[int] = []

    def spawnProcess(self, protocol: Any, executable: str, argv: list[str], **keywords: Any) -> None:
        self.started.append(argv)
        self.locks.append(os.dup(keywords["childFDs"][LOCK]))

    def program_ends(self) -> None:
        os.close(self.locks.pop())


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    while made.locks:
        made.program_ends()


def watchdog(reactor: Reactor, run: Path, wait: bool = True) -> Watchdog:
    return Watchdog(cast(Any, reactor), run, SIGNALS, wait)


def written(run: Path) -> Promise:
    return decode((run / LEASE).read_bytes())


def test_the_file(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path / "run")
    assert verifyObject(IDeadline, made)
    made.extend(HELD, 123.5)
    assert written(tmp_path / "run") == Promise(boot_id(), 3, 123.5, cast(Any, identify(os.getpid())))
    assert (tmp_path / "run" / LEASE).stat().st_mode & 0o777 == 0o600
    made.extend(HELD, 124.5)
    assert written(tmp_path / "run").until == 124.5
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == [LEASE, "watchdog.lock"]


def test_the_program_is_started_once(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    made.extend(HELD, 2.0)
    ((_, *words, promise),) = reactor.started
    assert words == ["-I", "-S", LAUNCH, str(tmp_path), str(SIGNALS)]
    assert decode(promise).until == 1.0


def test_one_that_is_there_is_adopted(tmp_path: Path, reactor: Reactor) -> None:
    watchdog(reactor, tmp_path).extend(HELD, 1.0)
    watchdog(reactor, tmp_path).extend(HELD, 2.0)
    assert len(reactor.started) == 1
    assert written(tmp_path).until == 2.0


def test_one_that_has_died_is_started_again(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    reactor.program_ends()
    made.extend(HELD, 2.0)
    assert len(reactor.started) == 2


def test_no_descriptor_is_left(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    before = len(os.listdir("/proc/self/fd"))
    made.extend(HELD, 2.0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_former_deadline_stands_when_it_cannot_be_written(
    tmp_path: Path, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(TransientError, match="No space left"):
        made.extend(HELD, 2.0)
    monkeypatch.undo()
    assert written(tmp_path).until == 1.0


def test_goodbye(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    done = Deferred.fromCoroutine(made.release())
    assert written(tmp_path).released
    assert written(tmp_path).until == 1.0
    assert not done.called
    reactor.program_ends()
    reactor.advance(FAREWELL)
    assert done.called


def test_goodbye_is_not_for_ever(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    done = Deferred.fromCoroutine(made.release())
    reactor.pump([FAREWELL] * FAREWELL_LOOKS)
    assert done.called


def test_a_watchdog_that_stays_with_the_vms_is_not_waited_for(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path, wait=False)
    made.extend(HELD, 1.0)
    assert Deferred.fromCoroutine(made.release()).called
    assert written(tmp_path).released


def test_nothing_to_let_go(tmp_path: Path, reactor: Reactor) -> None:
    assert Deferred.fromCoroutine(watchdog(reactor, tmp_path).release()).called
    assert list(tmp_path.iterdir()) == []


def test_the_promise_of_another_daemon_is_not_ours_to_let_go(tmp_path: Path, reactor: Reactor) -> None:
    made = watchdog(reactor, tmp_path)
    made.extend(HELD, 1.0)
    daemon = written(tmp_path).daemon
    other = written(tmp_path)._replace(daemon=daemon._replace(started=daemon.started + 1))
    (tmp_path / LEASE).write_text(other.encode())
    assert Deferred.fromCoroutine(made.release()).called
    assert written(tmp_path) == other


def test_the_lock_is_one_that_programs_inherit(tmp_path: Path, reactor: Reactor) -> None:
    watchdog(reactor, tmp_path).extend(HELD, 1.0)
    with open(tmp_path / "watchdog.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
