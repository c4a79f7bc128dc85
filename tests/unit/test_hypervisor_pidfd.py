"""Processes told apart by number and start time; the end of one that is not our child."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.testing import MemoryReactorClock

from qvd.hkd.hypervisor.pidfd import (
    ExitReader,
    ProcessGroupWatch,
    ProcessId,
    boot_id,
    first_child,
    identify,
    open_process,
    send_signal,
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as started:
        yield started
        started.kill()


def known(process: subprocess.Popen[bytes]) -> ProcessId:
    found = identify(process.pid)
    assert found is not None
    return found


def test_identify(process: subprocess.Popen[bytes]) -> None:
    found = known(process)
    assert found.pid == process.pid
    assert identify(process.pid) == found
    assert found != identify(os.getpid())


def test_dead_before_it_is_reaped(process: subprocess.Popen[bytes]) -> None:
    found = known(process)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identify(process.pid) is None
    assert open_process(found) is None


def test_gone(process: subprocess.Popen[bytes]) -> None:
    found = known(process)
    process.kill()
    process.wait()
    assert identify(process.pid) is None
    assert not send_signal(found, signal.SIGTERM)


def test_signal(process: subprocess.Popen[bytes]) -> None:
    assert send_signal(known(process), signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


def test_no_signal_to_another_of_that_number(process: subprocess.Popen[bytes]) -> None:
    earlier = ProcessId(process.pid, known(process).started - 1)
    before = len(os.listdir("/proc/self/fd"))
    assert open_process(earlier) is None
    assert not send_signal(earlier, signal.SIGKILL)
    assert process.poll() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_first_child_only_of_a_namespaces_init(process: subprocess.Popen[bytes]) -> None:
    own = identify(os.getpid())
    assert own is not None
    assert first_child(own) is None


def test_boot_id() -> None:
    assert boot_id() == boot_id() != ""


def test_exit_reader(process: subprocess.Popen[bytes]) -> None:
    reactor = cast(Any, MemoryReactorClock)()
    fd = open_process(known(process))
    assert fd is not None
    told: list[str] = []
    reader = ExitReader(reactor, fd, lambda: told.append("gone"))
    assert reactor.getReaders() == [reader]
    assert reader.fileno() == fd
    reader.doRead()
    assert told == ["gone"]
    assert reactor.getReaders() == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    reader.close()


def test_group_is_gone_with_its_last(process: subprocess.Popen[bytes]) -> None:
    reactor = cast(Any, MemoryReactorClock)()
    told: list[str] = []
    fds = [os.pidfd_open(process.pid) for _ in range(2)]
    ProcessGroupWatch(reactor, fds, lambda: told.append("gone"))
    one, two = reactor.getReaders()
    two.doRead()
    assert told == []
    one.doRead()
    assert told == ["gone"]


def test_group_watch_closed(process: subprocess.Popen[bytes]) -> None:
    reactor = cast(Any, MemoryReactorClock)()
    told: list[str] = []
    watch = ProcessGroupWatch(reactor, [os.pidfd_open(process.pid)], lambda: told.append("gone"))
    watch.close()
    assert reactor.getReaders() == []
    assert told == []
