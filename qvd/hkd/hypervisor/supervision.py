# -*- test-case-name: tests.unit.test_hypervisor_supervision -*-
"""The daemon's side of L{qvd.hkd.hypervisor.supervisor}: one line to it, one line back."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.ids import VMId

LIMIT = 8192
"""Bytes of an answer, and of what is kept of its error output."""
PASSING = tuple(
    os.strerror(number)
    for number in (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EUSERS, errno.EDQUOT)
)
"""Ends of messages that speak of the node's load, not of the VM."""


class Supervision(ProcessProtocol):
    """Hands the plan over and waits for the answer.

    @ivar started: fires when the guest's first program runs; fails with a L{DriverError} when nothing
        is left of a start that failed.
    """

    def __init__(self, vm_id: VMId) -> None:
        self.started: Deferred[None] = Deferred()
        self._vm_id = vm_id
        self._answer = b""
        self._errors = b""
        self._decided = False

    def go(self, plan: Mapping[str, Any]) -> None:
        """Only now may anything run: who is responsible for it has been written down."""
        assert self.transport is not None
        self.transport.write(json.dumps(plan).encode() + b"\n")

    def outReceived(self, data: bytes) -> None:
        self._answer = (self._answer + data)[:LIMIT]
        if b"\n" in self._answer and self._read().get("started") and not self._decided:
            self._decided = True
            self.started.callback(None)

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-LIMIT:]

    def processEnded(self, reason: Failure) -> None:
        # Only now has it failed: while the supervisor is about, it holds the home.
        if not self._decided:
            self._decided = True
            self.started.errback(failure_of(self._vm_id, self._read()))

    def _read(self) -> Mapping[str, Any]:
        line, end, _ = self._answer.partition(b"\n")
        if end:
            answer: Mapping[str, Any] = json.loads(line)
            return answer
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return {"error": lines[-1] if lines else "the supervisor ended before it began"}


def failure_of(vm_id: VMId, answer: Mapping[str, Any]) -> DriverError:
    """Why a start failed, in words."""
    if answer.get("busy"):
        return PermanentError(f"The home of VM {vm_id} is in use by another process")
    text = str(answer.get("error"))
    kind = TransientError if text.endswith(PASSING) else PermanentError
    return kind(f"VM {vm_id} could not be started: {text}")
