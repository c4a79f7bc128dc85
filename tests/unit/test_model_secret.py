"""A secret does not show itself."""

from __future__ import annotations

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.secret import Secret

CANARY = "canary-4711"


@frozen
class Holder:
    password: Secret


def test_it_shows_stars() -> None:
    secret = Secret(CANARY)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{Holder(secret)}", repr([secret])):
        assert CANARY not in text
        assert "*****" in text


def test_it_has_no_dictionary_to_look_into() -> None:
    assert not hasattr(Secret(CANARY), "__dict__")


def test_it_is_revealed_on_demand() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_equal_secrets_are_equal() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


wire_texts = st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))


@given(wire_texts, wire_texts)
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    """Also such as come from a wire, with surrogates for bytes that are not UTF-8."""
    assert Secret(one).matches(other) == (one == other)


def test_a_text_with_surrogates_is_no_match() -> None:
    assert not Secret(CANARY).matches("\udcff")
    assert Secret(CANARY) != Secret("\udcff")
