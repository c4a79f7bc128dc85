# -*- test-case-name: tests.doctor.test_hanging -*-
"""
Has somebody else look, and waits no longer than the deadlines promise.

A process that waits for a dead file server may be beyond any signal. This one is not: it leaves it behind. So it hands
none of its own files on: whoever reads them would wait for that process, too.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

from qvd.doctor.findings import About, Finding, failure, finding_of
from qvd.doctor.look import Orders

COMMAND = (sys.executable, "-P", "-m", "qvd.doctor.look")
SECONDS, DEEP_SECONDS = 120.0, 3600.0
"""For all checks together, which have their own deadlines."""
CHUNK = 65536
MOST_SAID = 2000


class Unfinished(Exception):
    """The process that looks has not told all."""


def lines(process: subprocess.Popen[bytes], seconds: float) -> Iterator[bytes | None]:
    """What it says, line by line; an empty one is the last, L{None} means that it said no more."""
    assert process.stdout is not None
    until, rest = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            line, found, rest_ = rest.partition(b"\n")
            if found:
                rest = rest_
                yield line
                continue
            if not selector.select(max(until - time.monotonic(), 0.0)):
                break
            data = process.stdout.read1(CHUNK)  # type: ignore[attr-defined]  # a buffered pipe
            if not data:
                break
            rest += data
    yield None


def ask(orders: Orders, seconds: float | None = None) -> Iterator[Finding]:
    """All findings, as they come."""
    limit = seconds or (DEEP_SECONDS if orders.wishes.deep else SECONDS)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
        try:
            yield from told(process, orders, limit)
        except Unfinished:
            complaints.seek(0)
            yield silent(limit, complaints.read()[-MOST_SAID:].decode("utf-8", "replace"))
        finally:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)


def told(process: subprocess.Popen[bytes], orders: Orders, limit: float) -> Iterator[Finding]:
    """@raise Unfinished: not all was told in time."""
    with suppress(BrokenPipeError):
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders.document()).encode() + b"\n")
        process.stdin.close()
    for line in lines(process, limit):
        if line is None:
            raise Unfinished
        if not line:
            return
        yield finding_of(json.loads(line))


def silent(seconds: float, complaints: str = "") -> Finding:
    """Said in place of what is missing."""
    last = (complaints.strip().splitlines() or [""])[-1]
    found = failure(
        "the doctor itself",
        f"The process that looks ended early, or did not end within {seconds:g} s, so some checks were not made"
        + (last and f" ({last})"),
        "run it again, with --only and the checks that are missing; if that is no better, report it as a fault",
    )
    return found.of("doctor.whole", About.INSTALLATION, seconds)
