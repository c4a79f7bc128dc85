# -*- test-case-name: tests.doctor.test_hanging -*-
"""
Has somebody else look, and waits no longer than the deadlines promise.

A process that waits for a dead file server may be beyond any signal. This one is not: it leaves it behind.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from qvd.doctor.findings import About, Finding, failure, finding_of
from qvd.doctor.look import Orders

COMMAND = (sys.executable, "-P", "-m", "qvd.doctor.look")
SECONDS, DEEP_SECONDS = 120.0, 3600.0
"""For all checks together, which have their own deadlines."""
CHUNK = 65536


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
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders.document()).encode() + b"\n")
        process.stdin.close()
        for line in lines(process, limit):
            if line is None:
                yield silent(limit)
            if not line:
                return
            yield finding_of(json.loads(line))
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)


def silent(seconds: float) -> Finding:
    """Said in place of what is missing."""
    found = failure(
        "the doctor itself",
        f"The process that looks ended early, or did not end within {seconds:g} s: some checks were not made",
        "see what it wrote on the standard error; run it again with --only and the checks that are missing",
    )
    return found.of("doctor.whole", About.INSTALLATION, seconds)
