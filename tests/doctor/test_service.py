"""The doctor beside a reactor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from qvd.doctor import service
from qvd.doctor.findings import About
from qvd.doctor.service import Doctor
from tests.fakes.asynchronous import asynchronous

TELLS = (
    "sh",
    "-c",
    """echo x >> "$0.looks"; echo '{"result": "ok", "looked_at": "it", "sentence": "well", "mend": "","""
    """ "check": "a.b", "about": "admin", "seconds": 0.5}'; echo; sleep 60""",
)


def doctor(monkeypatch: pytest.MonkeyPatch, path: Path, *command: str, seconds: float = 30.0) -> Doctor:
    monkeypatch.setattr(service, "COMMAND", tuple(word.replace("$0", str(path)) for word in command))
    return Doctor(reactor, About.ADMIN, path, seconds)


@asynchronous
async def test_those_who_ask_at_a_time_are_told_of_one_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = doctor(monkeypatch, tmp_path / "admin.conf", *TELLS)
    both = [Deferred.fromCoroutine(asked.report()) for _ in range(2)]
    (one, age), (other, _) = [await each for each in both]
    assert one == other
    assert [each["sentence"] for each in one["findings"]] == ["well"]
    assert 0 <= age < 5
    await asked.report()
    assert (tmp_path / "admin.conf.looks").read_text() == "x\n"


@asynchronous
async def test_one_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document, _ = await doctor(monkeypatch, tmp_path / "c", "sleep", "60", seconds=0.3).report()
    [found] = document["findings"]
    assert found["check"] == "doctor.whole"
    assert "0.3 s" in found["sentence"]


@asynchronous
async def test_one_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document, _ = await doctor(monkeypatch, tmp_path / "c", "false").report()
    assert [each["check"] for each in document["findings"]] == ["doctor.whole"]


@asynchronous
async def test_a_machine_without_room_for_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    asked = doctor(monkeypatch, tmp_path / "c", *TELLS)
    with monkeypatch.context() as patched:
        patched.setattr(reactor, "spawnProcess", refuse)
        document, _ = await asked.report()
    assert "Resource temporarily unavailable" in document["findings"][0]["sentence"]


@asynchronous
async def test_who_goes_away_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = doctor(monkeypatch, tmp_path / "c", *TELLS)
    gone: Any = Deferred.fromCoroutine(asked.report())
    stays = Deferred.fromCoroutine(asked.report())
    gone.cancel()
    with pytest.raises(CancelledError):
        await gone
    assert (await stays)[0]["result"] == "ok"


@asynchronous
async def test_the_end_of_the_daemon_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = doctor(monkeypatch, tmp_path / "c", "sleep", "60")
    waiting = Deferred.fromCoroutine(asked.report())
    asked.stop()
    assert [each["check"] for each in (await waiting)[0]["findings"]] == ["doctor.whole"]
    asked.stop()
