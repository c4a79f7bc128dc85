"""What daemons tell of themselves."""

from __future__ import annotations

import io
import json

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from qvd.interfaces import PoolLoad
from qvd.model.errors import SettingsError
from qvd.telemetry.lag import INTERVAL, LagWatch
from qvd.telemetry.lines import json_observer
from qvd.telemetry.numbers import ProcessNumbers, is_within, networks_of
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_the_lag_is_how_late_the_reactor_is() -> None:
    clock, lags = Clock(), list[float]()
    watch = LagWatch(clock, lags.append)
    await watch.start()
    clock.advance(INTERVAL)
    clock.advance(INTERVAL)
    assert lags == pytest.approx([0.0, 0.0])
    clock.advance(3.4 * INTERVAL)
    assert lags[2] == pytest.approx(2.4 * INTERVAL)
    clock.advance(0.6 * INTERVAL)
    assert lags[3] == pytest.approx(0.0)
    await watch.stop()
    clock.advance(10)
    assert len(lags) == 4
    assert clock.getDelayedCalls() == []


@asynchronous
async def test_a_process_has_numbers() -> None:
    clock = Clock()
    numbers = ProcessNumbers(clock, lambda: PoolLoad(True, 2, 3, 4))
    numbers.watch("qvd_things", "Things", lambda: 5)
    await numbers.lag.start()
    clock.advance(INTERVAL + 0.02)
    await numbers.lag.stop()
    text = numbers.exposition().decode()
    for line in (
        'qvd_database_connections{state="busy"} 2.0',
        'qvd_database_connections{state="idle"} 3.0',
        "qvd_database_waiting 4.0",
        "qvd_database_available 1.0",
        "qvd_things 5.0",
        'qvd_reactor_lag_seconds_bucket{le="0.01"} 0.0',
        'qvd_reactor_lag_seconds_bucket{le="0.025"} 1.0',
    ):
        assert line in text.splitlines()


def test_networks() -> None:
    networks = networks_of("10.0.0.0/8, ::1 192.168.1.7", "key")
    for address in ("10.9.9.9", "::1", "192.168.1.7", "::ffff:10.0.0.1"):
        assert is_within(address, networks)
    for address in ("11.0.0.1", "::2", "192.168.1.8", "::ffff:11.0.0.1", "", "None", "fe80::1%eth0"):
        assert not is_within(address, networks)
    assert networks_of("", "key") == ()
    with pytest.raises(SettingsError) as caught:
        networks_of("10.0.0.1/8", "file: key")
    assert caught.value.text.startswith("file: key: 10.0.0.1/8 has host bits set")


def test_a_log_as_json() -> None:
    file = io.StringIO()
    log = Logger(namespace="qvd.here", observer=json_observer(file))
    log.info("{client} said {what!r}, request {request}", client="::1", what="a\nb", request="r-1")
    log.failure("broken", Failure(ValueError("x")))  # type: ignore[no-untyped-call]
    log.emit(LogLevel.warn, "{missing}")
    first, second, third = [json.loads(line) for line in file.getvalue().splitlines()]
    assert first["message"] == "::1 said 'a\\nb', request r-1"
    assert (first["level"], first["logger"], first["request_id"], first["client"]) == ("info", "qvd.here", "r-1", "::1")
    assert first["time"].endswith("+00:00")
    assert "ValueError: x" in second["failure"] and second["level"] == "critical"
    assert third["level"] == "warn"
