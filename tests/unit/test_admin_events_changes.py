"""Changes of a turn: several of one object become one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.admin.events import changes
from qvd.admin.events.changes import Happening, Turn
from qvd.interfaces.events import Change


def change(seq: int, op: str = "changed", object_id: str = "1", tenant: int | None = 1, kind: str = "vm") -> Change:
    return Change(seq, seq, kind, object_id, tenant, op)


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        (["changed", "changed"], "changed"),
        (["added", "changed"], "added"),
        (["changed", "removed"], "removed"),
        (["added", "changed", "removed"], "removed"),
    ],
)
def test_one_of_several(ops: list[str], told: str) -> None:
    for order in (1, -1):
        turn = Turn()
        for seq, op in list(enumerate(ops, 1))[::order]:
            turn.add(change(seq, op))
        assert turn.of("vm", None) == {"1": Happening(told, len(ops))}


def test_scope() -> None:
    turn = Turn()
    for number, tenant in enumerate((1, 2, -1, None)):
        turn.add(change(number, object_id=str(number), tenant=tenant))
    assert set(turn.of("vm", {1}) or {}) == {"0"}
    assert set(turn.of("vm", {2, -1}) or {}) == {"1", "2"}
    assert set(turn.of("vm", None) or {}) == {"0", "1", "2", "3"}
    assert turn.of("user", None) == {}


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST", 3)
    turn = Turn()
    for number in range(4):
        turn.add(change(number, object_id=str(number), tenant=1))
        turn.add(change(number, object_id="9", tenant=2))
    assert turn.of("vm", {1}) is None and turn.of("vm", None) is None
    assert set(turn.of("vm", {2}) or {}) == {"9"}


@given(st.lists(st.tuples(st.sampled_from(["added", "changed", "removed"]), st.sampled_from("abc"), st.integers(1, 3))))
def test_each_object_once_with_its_last_number(made: list[tuple[str, str, int]]) -> None:
    turn, last = Turn(), {}
    for seq, (op, object_id, tenant) in enumerate(made):
        turn.add(change(seq, op, f"{object_id}{tenant}", tenant))
        last[f"{object_id}{tenant}"] = seq
    assert {key: each.seq for key, each in (turn.of("vm", None) or {}).items()} == last
