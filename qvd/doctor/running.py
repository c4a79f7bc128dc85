# -*- test-case-name: tests.doctor.test_running -*-
"""
Runs checks, each with a deadline of its own.

A look at a file server that hangs cannot be ended from outside, so each check has a thread that nobody waits for
longer than the deadline. The threads that are left then end with the process, which L{qvd.doctor.asking} sees to.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from attrs import frozen

from qvd.doctor.findings import About, Finding, failure
from qvd.model.errors import QVDError

AT_ONCE = 6
Look = Callable[[], Iterable[Finding]]


@frozen
class Task:
    """One check, ready to run.

    @ivar seconds: its deadline.
    """

    check: str
    about: About
    title: str
    seconds: float
    look: Look


def run(tasks: Sequence[Task], clock: Callable[[], float] = time.monotonic) -> Iterator[Finding]:
    """All findings, each as soon as its check has ended or is given up."""
    with ThreadPoolExecutor(AT_ONCE, "doctor") as waiting:
        for found in waiting.map(lambda task: run_one(task, clock), tasks):
            yield from found


def run_one(task: Task, clock: Callable[[], float] = time.monotonic) -> list[Finding]:
    """Its findings; what it had found before it hung, too."""
    begun = clock()
    told: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def tell(finding: Finding) -> None:
        told.put(finding.of(task.check, task.about, clock() - begun))

    def look() -> None:
        try:
            for finding in task.look():
                tell(finding)
        except QVDError as error:
            tell(failure(task.title, error.text, "see what it says; docs/doctor.md has more about this check"))
        except Exception as error:  # noqa: BLE001  one check that fails must not hide what the others found
            sentence = f"The check itself failed ({type(error).__name__}): {error}"
            tell(failure(task.title, sentence, "report it as a fault of qvd-doctor; the other checks are not affected"))
        told.put(None)

    threading.Thread(target=look, name=f"doctor {task.check}", daemon=True).start()
    found: list[Finding] = []
    while True:
        try:
            finding = told.get(timeout=max(task.seconds - (clock() - begun), 0.0))
        except queue.Empty:
            hung = failure(
                task.title,
                f"No answer within {task.seconds:g} s: what is looked at hangs",
                "find out what does not answer (a file server, a daemon): all that QVD does with it hangs as well",
            )
            return [*found, hung.of(task.check, task.about, clock() - begun)]
        if finding is None:
            return found
        found.append(finding)
