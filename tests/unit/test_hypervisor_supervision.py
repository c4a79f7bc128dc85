"""The conversation with a VM's supervisor."""

from __future__ import annotations

import errno
import io
import json
import os

import pytest
from twisted.python.failure import Failure

from qvd.hkd.hypervisor.supervision import LIMIT, Supervision, failure_of
from qvd.model.errors import DriverError, PermanentError, TransientError
from qvd.model.ids import VMId
from tests.fakes.case import Case

NINE = VMId(9)
ENDED = Failure(RuntimeError("ended"))  # type: ignore[no-untyped-call]


class SupervisionTests(Case):
    """What the driver hears of it."""

    def setUp(self) -> None:
        self.supervision = Supervision(NINE)

    def test_plan(self) -> None:
        written = io.BytesIO()
        self.supervision.transport = written  # type: ignore[assignment]
        self.supervision.go({"lock": "/a b"})
        line = written.getvalue()
        assert json.loads(line) == {"lock": "/a b"}
        assert line.endswith(b"\n")

    def test_started(self) -> None:
        self.supervision.outReceived(b'{"star')
        assert self.waits(self.supervision.started)
        self.supervision.outReceived(b'ted": true}\n')
        self.result(self.supervision.started)
        self.supervision.processEnded(ENDED)

    def test_failed_only_when_it_has_ended(self) -> None:
        self.supervision.outReceived(b'{"error": "bwrap: no"}\n')
        assert self.waits(self.supervision.started)
        self.supervision.processEnded(ENDED)
        error = self.failure(self.supervision.started, PermanentError)
        assert error.text == "VM 9 could not be started: bwrap: no"

    def test_died_without_a_word(self) -> None:
        self.supervision.processEnded(ENDED)
        error = self.failure(self.supervision.started, DriverError)
        assert error.text == "VM 9 could not be started: the supervisor ended before it began"

    def test_died_of_an_error(self) -> None:
        self.supervision.errReceived(b"Traceback ...\n" + b"x" * 2 * LIMIT)
        self.supervision.errReceived(b"\nOSError: it broke\n")
        self.supervision.processEnded(ENDED)
        error = self.failure(self.supervision.started, DriverError)
        assert error.text == "VM 9 could not be started: OSError: it broke"

    def test_nobody_waits_any_more(self) -> None:
        self.supervision.started.addErrback(lambda failure: None)
        self.supervision.started.cancel()
        self.supervision.outReceived(b'{"started": true}\n')
        self.supervision.processEnded(ENDED)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ({"busy": True}, PermanentError, "The home of VM 9 is in use by another process"),
        ({"error": "bwrap: broken"}, PermanentError, "VM 9 could not be started: bwrap: broken"),
        (
            {"error": f"bwrap: fork: {os.strerror(errno.EAGAIN)}"},
            TransientError,
            f"VM 9 could not be started: bwrap: fork: {os.strerror(errno.EAGAIN)}",
        ),
    ],
)
def test_whether_to_try_again(answer: dict[str, object], kind: type[DriverError], text: str) -> None:
    error = failure_of(NINE, answer)
    assert type(error) is kind
    assert error.text == text
