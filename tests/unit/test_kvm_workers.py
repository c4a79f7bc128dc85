"""Threads that may hang. They are real here: what they wait for, the test says."""

from __future__ import annotations

import threading

import pytest
from twisted.internet import reactor

from qvd.hkd.hypervisor.kvm.workers import Workers
from qvd.model.errors import TransientError
from qvd.model.ids import VMId
from tests.fakes.asynchronous import asynchronous, spawn, until


def made(most: int = 2) -> Workers:
    return Workers(reactor, "The thing", most)  # type: ignore[arg-type]


@asynchronous
async def test_work_is_done_elsewhere() -> None:
    workers = made()
    assert await workers.run(60, threading.current_thread) is not threading.current_thread()
    workers.close()


@asynchronous
async def test_an_error_comes_out() -> None:
    workers = made()

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await workers.run(60, fail)
    workers.close()


@asynchronous
async def test_nobody_waits_for_ever() -> None:
    workers, let_go = made(1), threading.Event()
    with pytest.raises(TransientError, match="The thing did not answer in 0"):
        await workers.run(0.01, let_go.wait)
    ran: list[int] = []
    with pytest.raises(TransientError):
        await workers.run(0.01, lambda: ran.append(1))
    let_go.set()
    await workers.run(60, lambda: ran.append(2))
    assert ran == [2], "what nobody waited for any more was not begun"
    workers.close()


@asynchronous
async def test_a_vms_work_waits_for_its_earlier_work() -> None:
    workers, let_go, order = made(), threading.Event(), list[str]()

    def first() -> None:
        let_go.wait(60)
        order.append("first")

    begun = workers.begin(first, VMId(9))
    begun.addErrback(lambda failure: None)
    begun.cancel()
    # It had begun, or was not to be: both are in order.
    second = spawn(workers.run(60, lambda: order.append("second"), VMId(9)))
    await workers.run(60, lambda: order.append("other"), VMId(8))
    let_go.set()
    await second
    assert order in (["other", "first", "second"], ["other", "second"], ["second", "other"])
    workers.close()


@asynchronous
async def test_threads_end() -> None:
    workers = made()
    before = threading.active_count()
    for _ in range(5):
        await workers.run(60, int)
    workers.close()
    await until(lambda: threading.active_count() <= before)
