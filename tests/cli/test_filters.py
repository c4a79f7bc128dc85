"""Filters as the API takes them."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.cli.exits import CommandError
from qvd.cli.filters import query_filter, search_filter
from tests.cli.described import description

VMS = description().collections["vms"]


def leaf(field: str, op: str, value: Any) -> dict[str, Any]:
    return {"field": field, "op": op, "value": value}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("state=running", leaf("state", "eq", "running")),
        ("name~lab", leaf("name", "like", "%lab%")),
        ("name~lab%", leaf("name", "like", "lab%")),
        ("name~lab_1", leaf("name", "like", "lab_1")),
        ("name~*LAB", leaf("name", "ilike", "%LAB%")),
        ("lab-1", leaf("name", "eq", "lab-1")),
        ("user=ana", leaf("user_name", "eq", "ana")),
        ("host!=null", leaf("host_name", "null", False)),
        ("id=[1,2]", leaf("id", "in", ["1", "2"])),
        ("id!=[1,2]", leaf("id", "nin", ["1", "2"])),
        ("id=[1:9]", leaf("id", "between", ["1", "9"])),
        ("id!=[1:9]", {"not": leaf("id", "between", ["1", "9"])}),
        ("since<2026-01-01T00:00:00Z", leaf("since", "lt", "2026-01-01T00:00:00Z")),
        ("property.cost-center=ES", leaf("property.cost-center", "eq", "ES")),
        (
            "state=running,(osf_id=3;osf_id=4),!blocked=1",
            {
                "and": [
                    leaf("state", "eq", "running"),
                    {"or": [leaf("osf_id", "eq", "3"), leaf("osf_id", "eq", "4")]},
                    {"not": leaf("blocked", "eq", "1")},
                ]
            },
        ),
    ],
)
def test_bodies_of_searches(text: str, wanted: object) -> None:
    assert search_filter(text, VMS) == wanted


def test_query_strings() -> None:
    found = query_filter("state=running,name~lab,id=[1,2],host=null", VMS.fields, "name")
    assert found == {
        "state[eq]": ["running"],
        "name[like]": ["%lab%"],
        "id[in]": ["1,2"],
        "host_name[null]": ["true"],
    }
    for text in ("a=1", "state=a;state=b", "!state=a", "id=['a,b']"):
        with pytest.raises(CommandError):
            query_filter(text, VMS.fields, "name")


@pytest.mark.parametrize(
    ("text", "said", "position"),
    [
        ("stat=running", "state?", 1),
        ("state=running,zzzzzz=1", "there are", 15),
        ("since<soon", "moment", 1),
        ("state=", "expected a value", 7),
    ],
)
def test_mistakes(text: str, said: str, position: int) -> None:
    with pytest.raises(CommandError) as caught:
        search_filter(text, VMS)
    assert said.lower() in caught.value.text.lower()
    assert f"at character {position} of" in caught.value.text
    lines = caught.value.text.splitlines()
    assert lines[2].index("^") - 2 == position - 1


def test_objects_without_names() -> None:
    with pytest.raises(CommandError, match="no names"):
        search_filter("x", description().collections["jobs"])
