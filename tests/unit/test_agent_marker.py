"""What the driver tells the agent, and that there is no agent without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.agent.marker import GuestMarker, parse_marker, read_marker
from qvd.model.errors import SettingsError

SECRET = "a secret of forty three characters, or so ..."
WHOLE: dict[str, object] = {
    "driver": "sandbox",
    "vm_id": 9,
    "secret": SECRET,
    "address": "127.0.0.1",
    "vma_port": 40123,
    "display": 1234,
    "login": "alice",
    "home": "/home/alice",
    "x_session": "/.qvd/x-session",
}


def parsed(**changes: object) -> GuestMarker:
    return parse_marker(json.dumps(WHOLE | changes).encode(), "guest.json", 3030, 100)


def test_a_whole_one() -> None:
    marker = parsed()
    assert (marker.driver, marker.vm_id, marker.vma_port, marker.display) == ("sandbox", 9, 40123, 1234)
    assert (marker.login, marker.home, marker.x_session) == ("alice", "/home/alice", "/.qvd/x-session")
    assert marker.secret.reveal() == SECRET
    assert SECRET not in repr(marker)
    assert marker.sandboxed
    assert marker.loopback


def test_the_least_that_a_machine_of_its_own_says() -> None:
    marker = parse_marker(json.dumps({"driver": "kvm", "vm_id": 1, "secret": SECRET}).encode(), "x", 3030, 100)
    assert (marker.address, marker.vma_port, marker.display) == ("", 3030, 100)
    assert (marker.login, marker.home, marker.x_session) == (None, None, None)
    assert not marker.sandboxed
    assert not marker.loopback


def test_null_is_the_same_as_nothing() -> None:
    assert parsed(x_session=None).x_session is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"driver": None}, "driver: missing"),
        ({"vm_id": "9"}, "vm_id: expected int, found str"),
        ({"vm_id": True}, "vm_id: expected int, found bool"),
        ({"secret": "short"}, "secret: shorter"),
        ({"secret": 1}, "secret: expected str"),
        ({"address": "localhost"}, "address: no IP address"),
        ({"vma_port": 0}, "vma_port: 0 is not within"),
        ({"vma_port": 65536}, "vma_port: 65536 is not within"),
        ({"display": 61536}, "display: 61536 is not within"),
    ],
)
def test_a_wrong_one_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parsed(**changes)
    assert "short" not in caught.value.text.replace("shorter", "")


@given(st.binary(max_size=200))
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsError, match=r"guest\.json"):
        parse_marker(data, "guest.json", 3030, 100)


def test_without_it_there_is_no_agent(tmp_path: Path) -> None:
    path = tmp_path / "guest.json"
    with pytest.raises(SettingsError, match="works only inside a VM") as caught:
        read_marker(str(path), 3030, 100)
    assert str(path) in caught.value.text
    path.write_text(json.dumps(WHOLE))
    assert read_marker(str(path), 3030, 100).vm_id == 9
