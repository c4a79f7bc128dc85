"""Checks run beside each other, and none can spoil the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from qvd.doctor.findings import About, Finding, Result, failure, ok
from qvd.doctor.programs import run as run_program
from qvd.doctor.running import Look, Task, run
from qvd.model.errors import Conflict


def task(look: Look, seconds: float = 20.0, check: str = "a.b") -> Task:
    return Task(check, About.NODE, "the thing", seconds, look)


def test_findings_carry_whose_they_are() -> None:
    [found] = run([task(lambda: [ok("it", "well")])])
    assert (found.check, found.about, found.result) == ("a.b", About.NODE, Result.OK)
    assert found.seconds >= 0


def test_one_that_hangs_is_given_up_with_what_it_had_said() -> None:
    release = threading.Event()

    def look() -> Iterator[Finding]:
        yield ok("first", "well")
        release.wait(60)

    first, hung, other = run([task(look, 0.2), task(lambda: [ok("other", "well")])])
    release.set()
    assert first.looked_at == "first"
    assert hung.result is Result.FAILURE and "0.2 s" in hung.sentence
    assert other.looked_at == "other"


def test_many_that_hang_hang_together() -> None:
    release = threading.Event()
    begun = time.monotonic()
    found = list(run([task(lambda: [ok(str(release.wait(60)), "")], 0.5) for _ in range(6)]))
    release.set()
    assert len(found) == 6
    assert time.monotonic() - begun < 20


def test_one_that_fails_says_so() -> None:
    def broken() -> Iterator[Finding]:
        yield ok("first", "well")
        raise ZeroDivisionError("by nought")

    def refused() -> list[Finding]:
        raise Conflict("It is not the time")

    first, failed, sentence = run([task(broken), task(refused)])
    assert first.result is Result.OK
    assert failed.result is Result.FAILURE and "by nought" in failed.sentence
    assert sentence.sentence == "It is not the time"


def test_programs() -> None:
    assert run_program(["sh", "-c", "cat; echo bad >&2; exit 3"], "given").status == 3
    assert run_program(["sh", "-c", "cat; echo bad >&2; exit 3"], "given").reason == "bad"
    assert run_program(["sh", "-c", "cat"], "given").out == "given"
    assert run_program(["sleep", "60"], seconds=0.1).status is None
    assert "not installed" in run_program(["no-such-program"]).reason
    assert failure("a", "b", "c").bad
