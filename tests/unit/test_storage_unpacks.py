"""The daemon's side of the programs that unpack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from qvd.hkd.storage.layout import StorageLayout
from qvd.hkd.storage.unpacks import SILENCE, Unpack, Unpacks
from qvd.model.errors import PermanentError, TransientError
from tests.fakes.case import Case

LAYOUT = StorageLayout(Path("/i"), Path("/b"), Path("/o"), "n1", 1000000, 1 << 30)
ENDED = Failure(ProcessTerminated(1))  # type: ignore[no-untyped-call]


class Program:
    """One that was started, and does what the test says."""

    def __init__(self, protocol: Unpack) -> None:
        self.protocol = protocol
        self.heard = b""
        self.signals: list[str] = []
        protocol.transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        self.heard += data

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def say(self, **words: Any) -> None:
        self.protocol.outReceived(json.dumps(words).encode() + b"\n")

    def end(self) -> None:
        self.protocol.processEnded(ENDED)


class StartingClock(Clock):
    """A clock that starts programs."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: list[Program] = []

    def spawnProcess(self, protocol: Unpack, *words: object, **options: object) -> Program:
        self.programs.append(Program(protocol))
        return self.programs[-1]


class UnpacksTests(Case):
    def setUp(self) -> None:
        self.clock = StartingClock()
        self.unpacks = Unpacks(self.clock, LAYOUT)  # type: ignore[arg-type]
        self.told: list[str] = []
        self.waiting = self.begin(self.unpacks.provide("desk", None, self.told.append))
        (self.program,) = self.clock.programs

    def test_plan(self) -> None:
        plan = json.loads(self.program.heard)
        assert (plan["image"], plan["images"], plan["bases"]) == ("desk", "/i", "/b")

    def test_progress_and_result(self) -> None:
        self.program.say(waiting=True)
        self.program.protocol.outReceived(b'{"percent"')
        self.program.protocol.outReceived(b": 40}\n")
        self.program.say(base="desk@1")
        assert self.waits(self.waiting), "until it has ended"
        self.program.end()
        assert self.result(self.waiting) == "desk@1"
        assert self.told == ["Waiting for another node, which unpacks the image", "Unpacking the image, 40 %"]

    def test_refused(self) -> None:
        self.program.say(refused="is an empty file")
        self.program.end()
        assert self.failure(self.waiting, PermanentError).text == "The image desk is an empty file"

    def test_storage_in_trouble(self) -> None:
        self.program.say(errno=28, error="No space left on device")
        self.program.end()
        assert "(/b) or of images (/i) is full" in self.failure(self.waiting, TransientError).text

    def test_died(self) -> None:
        self.program.protocol.errReceived(b"Killed")
        self.program.end()
        assert "has ended unexpectedly" in self.failure(self.waiting, TransientError).text

    def test_silent(self) -> None:
        self.clock.advance(SILENCE - 1)
        self.program.say(percent=1)
        self.clock.advance(SILENCE - 1)
        assert self.waits(self.waiting)
        self.clock.advance(1)
        assert "has not answered for 60 s" in self.failure(self.waiting, TransientError).text
        assert self.program.signals == ["KILL"]

    def test_one_that_cannot_even_be_killed_keeps_nobody_waiting(self) -> None:
        self.clock.advance(SILENCE)
        self.failure(self.waiting, TransientError)
        again = self.begin(self.unpacks.provide("desk", None, self.told.append))
        self.failure(again, TransientError)
        self.program.end()
        self.begin(self.unpacks.provide("desk", None, self.told.append))
        assert len(self.clock.programs) == 2

    def test_shared(self) -> None:
        second = self.begin(self.unpacks.provide("desk", None, self.told.append))
        self.begin(self.unpacks.provide("desk", "f" * 64, self.told.append))
        assert len(self.clock.programs) == 2
        self.program.say(base="desk@1")
        self.program.end()
        assert self.result(self.waiting) == self.result(second) == "desk@1"

    def test_cancelled(self) -> None:
        self.waiting.addErrback(lambda failure: None)
        self.waiting.cancel()
        self.program.say(percent=1)
        self.program.say(base="desk@1")
        self.program.end()
        assert (self.told, self.program.signals) == ([], [])

    def test_closed(self) -> None:
        self.unpacks.close()
        assert self.program.signals == ["KILL"]
        self.program.end()
        self.failure(self.waiting, TransientError)
