"""Values of custom properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.errors import InvalidRequest
from qvd.model.properties import (
    LARGEST,
    ROOM,
    SERVERS,
    SMALLEST,
    PropertyType,
    check_product,
    forced,
    shown,
    stored,
)

TEXT, INTEGER, BOOLEAN, SECRET = PropertyType


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (TEXT, "", ""),
        (TEXT, "12", "12"),
        (INTEGER, 12, "12"),
        (INTEGER, "-012", "-12"),
        (BOOLEAN, True, "true"),
        (BOOLEAN, "False", "false"),
        (SECRET, "s", "s"),
    ],
)
def test_values_become_text(kind: PropertyType, value: Any, text: str) -> None:
    assert stored(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TEXT, 1),
        (TEXT, True),
        (TEXT, "x" * 32769),
        (TEXT, "\0"),
        (INTEGER, True),
        (INTEGER, "1.0"),
        (INTEGER, "²"),
        (INTEGER, LARGEST + 1),
        (BOOLEAN, 1),
        (BOOLEAN, "yes"),
        (SECRET, 12345),
    ],
)
def test_what_is_none_of_the_type_is_refused_and_not_repeated(kind: PropertyType, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        stored(kind, value)
    assert str(value) not in caught.value.text or value in ("\0", 1)


@given(st.one_of(st.integers(SMALLEST, LARGEST), st.booleans(), st.text(st.characters(exclude_characters="\0"))))
def test_what_was_stored_is_shown(value: int | bool | str) -> None:
    kind = BOOLEAN if isinstance(value, bool) else INTEGER if isinstance(value, int) else TEXT
    assert shown(kind, stored(kind, value)) == value
    assert shown(SECRET, str(value)) is None


@given(st.sampled_from(PropertyType), st.text())
def test_any_text_can_be_shown(kind: PropertyType, text: str) -> None:
    shown(kind, text)


@pytest.mark.parametrize(
    ("kind", "key", "text", "wrong"),
    [
        ("vm", "qvd.placement.require", "gpu=yes", ""),
        ("user", "qvd.placement.apart", "service, site", ""),
        ("osf", "qvd.placement.prefer", "", ""),
        ("di", "qvd.placement.require", "gpu", "needs the form"),
        ("vm", "qvd.placement.apart", "a=b", "without values"),
        ("vm", "qvd.placement.nowhere", "", "no placement rule"),
        ("host", "qvd.placement.require", "gpu=yes", "no property"),
        ("vm", "qvd.other", "", "no property"),
    ],
)
def test_keys_of_the_product(kind: str, key: str, text: str, wrong: str) -> None:
    if wrong:
        with pytest.raises(InvalidRequest, match=wrong):
            check_product(kind, key, text)
    else:
        check_product(kind, key, text)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("qvd.client.link", "lan", "lan,slave=1"),
        ("qvd.client.geometry", "1024x768", "a b"),
        ("qvd.client.fullscreen", "", "!"),
        ("qvd.client.nxagent.extra_args", "shadow=1,clipboard=both", "slave=1"),
        ("qvd.client.printing.enabled", "0", "no"),
        ("qvd.client.timezone", "Europe/Madrid", "../x y"),
        ("qvd.vm.user.groups", "audio, video", "audio;video"),
        ("qvd.vm.user.home", "/home/alice", "home"),
        ("qvd.vm.user.uid", "1001", "one"),
    ],
)
def test_what_may_be_forced_upon_sessions(key: str, good: str, bad: str) -> None:
    for kind in ("user", "vm", "osf", "di"):
        check_product(kind, key, good)
        with pytest.raises(InvalidRequest):
            check_product(kind, key, bad)
    with pytest.raises(InvalidRequest):
        check_product("host", key, good)


@pytest.mark.parametrize("key", ["qvd.client.nothing", "qvd.vm.user.name", "qvd.slave.key", "qvd.vm.user.shell"])
def test_what_may_not(key: str) -> None:
    with pytest.raises(InvalidRequest):
        check_product("vm", key, "x")


TEXTS = st.dictionaries(st.text(min_size=1, max_size=8) | st.sampled_from(sorted(SERVERS)), st.text(max_size=8))


@given(TEXTS, TEXTS)
def test_an_administrators_word_is_above_the_clients_and_below_the_servers(
    wished: dict[str, str], properties: dict[str, str]
) -> None:
    made, left_out = forced(wished, properties)
    assert left_out == []
    for key in {*wished, *properties}:
        if key in properties and key not in SERVERS:
            assert made[key] == properties[key]
        else:
            assert made.get(key) == wished.get(key)


def test_what_does_not_fit_is_left_out_and_named() -> None:
    made, left_out = forced({"a": "wish"}, {"a": "x" * ROOM, "b": "é" * (ROOM // 7), "c": "short"})
    assert (made["a"], made["c"], left_out) == ("wish", "short", ["a"])
    assert len(made["b"]) == ROOM // 7


def test_placement_rules_are_no_business_of_the_guest() -> None:
    assert forced({}, {"qvd.placement.require": "gpu=yes"}) == ({}, [])
