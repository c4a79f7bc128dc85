"""What the service manager is told."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.task import Clock

from qvd.hkd.notify import Pulse, notify, pulse_seconds


class FakeSocket:
    """Where datagrams go.

    @ivar error: what the kernel says.
    """

    def __init__(self, error: OSError | None = None) -> None:
        self.sent: list[tuple[bytes, str]] = []
        self.closed = False
        self._error = error

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *reason: object) -> None:
        self.closed = True

    def sendto(self, data: bytes, address: str) -> None:
        if self._error is not None:
            raise self._error
        self.sent.append((data, address))


@pytest.mark.parametrize(("path", "address"), [("/run/notify", "/run/notify"), ("@abstract", "\0abstract")])
def test_it_is_told(monkeypatch: pytest.MonkeyPatch, path: str, address: str) -> None:
    channel: Any = FakeSocket()
    monkeypatch.setattr(socket, "socket", lambda *kind: channel)
    assert notify({"NOTIFY_SOCKET": path}, "READY=1")
    assert channel.sent == [(b"READY=1", address)]
    assert channel.closed


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_service_manager(environment: dict[str, str]) -> None:
    assert not notify(environment, "READY=1")


def test_one_that_does_not_listen_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    channel: Any = FakeSocket(ConnectionRefusedError())
    monkeypatch.setattr(socket, "socket", lambda *kind: channel)
    assert not notify({"NOTIFY_SOCKET": "/run/notify"}, "READY=1")
    assert channel.closed


@pytest.mark.parametrize(
    ("text", "seconds"), [("12000000", 6.0), ("1", 5e-7), ("0", None), ("", None), ("-3", None), ("soon", None)]
)
def test_the_pulse_is_twice_as_fast_as_the_watchdog(text: str, seconds: float | None) -> None:
    assert pulse_seconds({"WATCHDOG_USEC": text, "WATCHDOG_PID": "1"}) == seconds


def test_no_watchdog_no_pulse() -> None:
    assert pulse_seconds({}) is None
    clock, told = Clock(), list[str]()
    pulse = Pulse(clock, None, told.append)
    pulse.start()
    clock.pump([10.0] * 3)
    pulse.stop()
    assert told == []


def test_the_pulse_beats_from_start_to_stop() -> None:
    clock, told = Clock(), list[str]()
    pulse = Pulse(clock, 6.0, told.append)
    pulse.start()
    assert told == ["WATCHDOG=1"]
    clock.pump([5.0, 1.0, 6.0])
    assert told == ["WATCHDOG=1"] * 3
    pulse.stop()
    pulse.stop()
    clock.pump([6.0, 6.0])
    assert len(told) == 3
    assert clock.getDelayedCalls() == []
