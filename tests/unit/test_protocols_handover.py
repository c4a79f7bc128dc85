"""What two daemons of one node say to each other."""

from __future__ import annotations

import json

import pytest

from qvd.model.ids import Epoch, HostId
from qvd.model.records import Lease
from qvd.protocols.handover import (
    LIMIT,
    End,
    Follow,
    Handed,
    HandOver,
    Message,
    NoLease,
    Refused,
    Serving,
    decode,
    encode,
)

EVERY: tuple[Message, ...] = (
    HandOver("a", "n1"),
    Handed(("l7r", "control")),
    Refused("not now"),
    Follow("b"),
    Serving(7, 3, 12.5, "Server is blocked"),
    Serving(7, 3, 12.5),
    NoLease("gone"),
    End("stopped"),
)


def test_each_message_is_a_line_and_comes_back() -> None:
    for message in EVERY:
        line = encode(message)
        assert line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) < LIMIT
        assert decode(line[:-1]) == message


def test_the_lease_of_a_message() -> None:
    assert Serving(7, 3, 12.5).lease == Lease(HostId(7), Epoch(3))


def test_what_a_newer_release_adds_is_overlooked() -> None:
    line = json.dumps({"kind": "serving", "host_id": 7, "epoch": 3, "until": 1, "colour": "blue"}).encode()
    assert decode(line) == Serving(7, 3, 1.0)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"kind": "sing"}',
        b'{"kind": []}',
        b'{"kind": "handed"}',
        b'{"kind": "handed", "names": 3}',
        b'{"kind": "serving", "host_id": 7, "epoch": 1e999, "until": 1}',
        b'{"kind": "serving", "host_id": null, "epoch": 3, "until": 1}',
        b'{"kind": "end"}',
    ],
)
def test_anything_else_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)
