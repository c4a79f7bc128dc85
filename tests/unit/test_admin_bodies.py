"""Bodies that come faster than they are stored."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred

from qvd.admin.bodies import HIGH, BodyLost, BodyStream


@define
class Sender:
    """Notes whether it is held back."""

    _held: bool = False
    stream: BodyStream = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stream = BodyStream(None, self.pause, self.resume)

    def pause(self) -> None:
        assert not self._held
        self._held = True

    def resume(self) -> None:
        assert self._held
        self._held = False

    def is_held(self) -> bool:
        return self._held

    def read(self) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.stream.read())


def test_held_back_until_somebody_reads() -> None:
    sender = Sender()
    assert sender.is_held()
    reading = sender.read()
    assert not sender.is_held() and not reading.called
    sender.stream.feed(b"a")
    assert reading.result == b"a" and not sender.is_held()


def test_held_back_when_much_waits() -> None:
    sender = Sender()
    sender.read()
    sender.stream.feed(b"a")
    sender.stream.feed(b"b" * (HIGH - 1))
    assert not sender.is_held()
    sender.stream.feed(b"c")
    assert sender.is_held()
    assert sender.read().result == b"b" * (HIGH - 1) + b"c"
    assert not sender.is_held()


def test_end() -> None:
    sender = Sender()
    reading = sender.read()
    sender.stream.end()
    assert reading.result == b"" and sender.read().result == b""


def test_loss_comes_after_what_came() -> None:
    sender = Sender()
    sender.stream.feed(b"a")
    sender.stream.lose("gone")
    assert sender.read().result == b"a"
    failed = sender.read()
    failed.addErrback(lambda failure: failure.value)
    assert isinstance(failed.result, BodyLost)


def test_loss_wakes_the_reader() -> None:
    sender = Sender()
    failed = sender.read()
    sender.stream.lose("gone")
    failed.addErrback(lambda failure: failure.value)
    assert isinstance(failed.result, BodyLost)
