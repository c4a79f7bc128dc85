"""Values of custom properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.errors import InvalidRequest
from qvd.model.properties import LARGEST, SMALLEST, PropertyType, check_product, shown, stored

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
