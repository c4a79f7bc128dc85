"""Conditions in addresses and forms."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.admin.api import all_endpoints
from qvd.panel.filters import Condition, conditions_of, escaped, tidied, tree_of, unescaped
from qvd.panel.kinds import kinds_of
from qvd.panel.visit import Fields, fields_of

VMS = kinds_of(all_endpoints())["vms"]
MADRID = ZoneInfo("Europe/Madrid")


@pytest.mark.parametrize(
    "sent, tidy",
    [
        ("state=&name[ilike]=&sort=", []),
        ("name[ilike]=lab", [("name[ilike]", "%lab%")]),
        ("name[ilike]=a*b_c", [("name[ilike]", "%a%b\\_c%")]),
        ("name[ilike]=%25x", [("name[ilike]", "%x")]),
        ("since[ge]=2026-07-01T10:00", [("since[ge]", "2026-07-01T10:00:00+02:00")]),
        ("since[ge]=2026-07-01T10:00:00Z", [("since[ge]", "2026-07-01T10:00:00Z")]),
        ("f=state&o=eq&v=running", [("state", "running")]),
        ("f=state&o=null&v=", [("state[null]", "true")]),
        ("f=state&o=ne&v=", []),
        ("name=+&state=%00", [("state", "\0")]),
        ("columns=a&columns=b,c&columns=a", [("columns", "a,b,c")]),
        ("state=running&state=running&limit=10", [("state", "running"), ("limit", "10")]),
    ],
)
def test_forms_become_addresses(sent: str, tidy: list[tuple[str, str]]) -> None:
    assert tidied(VMS, fields_of(sent), MADRID) == tidy
    assert tidied(VMS, Fields(tuple(tidy)), MADRID) == tidy, "an address stays as it is"


def test_conditions_as_a_tree() -> None:
    conditions = conditions_of(fields_of("state=running,stopped&name[ilike]=%25x%25&blocked=true&id[between]=1,5"))
    assert tree_of(conditions) == {
        "and": [
            {"field": "state", "op": "in", "value": ["running", "stopped"]},
            {"field": "name", "op": "ilike", "value": "%x%"},
            {"field": "blocked", "op": "eq", "value": "true"},
            {"field": "id", "op": "between", "value": ["1", "5"]},
        ]
    }
    assert tree_of([]) == {}


@given(st.text(st.characters(exclude_characters="%*\0")))
def test_what_is_typed_is_shown_again(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(st.text(), st.text(), st.sampled_from(["", "ilike", "ge", "null", "in"]))
def test_any_address_is_settled_at_once(name: str, value: str, operator: str) -> None:
    sent = Fields(((f"{name}[{operator}]" if operator else name, value),))
    once = tidied(VMS, sent, MADRID)
    assert tidied(VMS, Fields(tuple(once)), MADRID) == once


def test_patterns_are_shown_as_typed() -> None:
    assert Condition("name", "ilike", "%a\\_b%").text == "a_b"
    assert Condition("name", "like", "a%").text == "a%"
