"""Placement rules as properties: what is understood, and the sentence for what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.affinity import KEYS, MOST_TERMS, Profile, WrongRule, wanted_by
from qvd.model.placement import Wanted


def wanted(**rules: str) -> Wanted:
    """By rules' short names; others are the VM's own."""
    named = {f"qvd.placement.{name}": text for name, text in rules.items()}
    return wanted_by(Profile(5, "kvm", {"service": "dns", "project": "x", **named}))


def test_none() -> None:
    assert wanted() == Wanted(5, "kvm")


def test_all() -> None:
    assert wanted(
        require="gpu=yes, site = north ", prefer="ssd=a=b", apart="service", together="project , service"
    ) == Wanted(
        5,
        "kvm",
        require={"gpu": "yes", "site": "north"},
        prefer={"ssd": "a=b"},
        apart={"service": "dns"},
        together={"project": "x", "service": "dns"},
    )


@pytest.mark.parametrize("rule", ["require", "prefer", "apart", "together"])
def test_an_empty_one_lifts_the_rule(rule: str) -> None:
    assert wanted(**{rule: " "}) == Wanted(5, "kvm")


@pytest.mark.parametrize(
    ("rule", "text", "complaint"),
    [
        ("require", "gpu", "the property qvd.placement.require needs the form name=value, name=value: 'gpu' is not"),
        ("require", "=yes", "the property qvd.placement.require needs the form name=value, name=value: '=yes' is not"),
        ("prefer", "gpu= ", "the property qvd.placement.prefer needs the form name=value, name=value: 'gpu=' is not"),
        (
            "prefer",
            "a=b,,c=d",
            "the property qvd.placement.prefer has nothing between two commas, or at an end: 'a=b,,c=d'",
        ),
        ("require", "a=b,", "the property qvd.placement.require has nothing between two commas, or at an end: 'a=b,'"),
        ("require", "a=b, a=c", "the property qvd.placement.require names a twice"),
        ("apart", "service=dns", "the property qvd.placement.apart needs names without values: 'service=dns' has one"),
        (
            "together",
            "team",
            "the property qvd.placement.together names team, which neither the virtual machine nor its user, image or"
            " OSF has as a property",
        ),
        (
            "apart",
            ",".join("abcdefghijklmnopq"),
            "the property qvd.placement.apart names 17 properties: at most 16 are allowed",
        ),
        (
            "requires",
            "gpu=yes",
            "the property qvd.placement.requires is no placement rule: there are qvd.placement.require,"
            " qvd.placement.prefer, qvd.placement.apart, qvd.placement.together",
        ),
    ],
)
def test_what_is_not_understood_is_said(rule: str, text: str, complaint: str) -> None:
    assert MOST_TERMS == 16
    with pytest.raises(WrongRule) as caught:
        wanted(**{rule: text})
    assert caught.value.text == complaint


@given(st.sampled_from(KEYS), st.text(alphabet="ab=, \n\0é", max_size=20))
def test_anything_is_understood_or_refused(key: str, text: str) -> None:
    try:
        found = wanted_by(Profile(5, None, {key: text, "a": "1", "b": "2"}))
    except WrongRule as error:
        assert key in error.text
    else:
        assert (found == Wanted(5)) == (not text.strip()), "never a silent pass"
