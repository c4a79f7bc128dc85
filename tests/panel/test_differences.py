"""What became of an object, for people."""

from __future__ import annotations

from qvd.panel.differences import Line, difference


def test_fields_that_are_another_come_first() -> None:
    lines = difference({"name": "a", "blocked": False}, {"name": "a", "blocked": True, "memory": 1024})
    assert lines == [
        Line("blocked", "false", "true", "changed"),
        Line("memory", "", "1024", "added"),
        Line("name", "a", "a", "same"),
    ]


def test_what_is_new_and_what_is_gone() -> None:
    assert difference(None, {"name": "a"}) == [Line("name", "", "a", "added")]
    assert difference({"name": "a"}, None) == [Line("name", "a", "", "removed")]


def test_values_are_written_as_people_write_them() -> None:
    before = {"properties": {"room": "12", "seat": None}, "tags": ["a", "b"], "acls": [1]}
    fields = {line.field: line.before for line in difference(before, None)}
    assert fields == {"properties.room": "12", "properties.seat": "—", "tags": "a, b", "acls": "[1]"}


def test_what_is_deeper_than_anybody_reads_is_written_out() -> None:
    deep: dict[str, object] = {"end": 1}
    for _ in range(20):
        deep = {"in": deep}
    (line,) = difference(None, deep)
    assert line.field.count(".") == 6 and line.after.startswith("{")
