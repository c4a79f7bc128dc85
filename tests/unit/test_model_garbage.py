"""What in the storage is garbage, and what becomes of it."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.garbage import (
    HANDFUL,
    MARKED,
    OF_USERS,
    Fate,
    Key,
    Kind,
    Known,
    Mark,
    Terms,
    Thing,
    decide,
    judge,
    reference,
    suspicion,
)
from qvd.model.garbage_words import FATES, table
from qvd.model.ids import VMId

TERMS = Terms(age=30.0, trash_age=90.0)
OLD = Mark("2026-01-01 00:00", 1000.0)
NOTHING = Known({}, ())

ids = st.integers(1, 6).map(VMId)
kinds = st.sampled_from(Kind)
images = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([None, "1", "2"]))
known = st.builds(Known, st.dictionaries(ids, st.sampled_from([None, "n1", "n2"])), st.frozensets(images))
terms = st.builds(Terms, st.floats(0, 100), st.floats(0, 100), st.booleans())
marks = st.builds(Mark, st.just("then"), st.floats(0, 200))


def thing(kind: Kind, vm_id: int | None = 1, image: str = "", path: str = "x", trouble: str = "") -> Thing:
    return Thing(Key("s", path), kind, None if vm_id is None else VMId(vm_id), image, trouble=trouble)


BASE = Thing(Key("s", "x"), Kind.BASE, image="d.tar", checksum="2")


@st.composite
def storages(draw: st.DrawFn) -> list[Thing]:
    made = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(kinds)
        image = draw(st.sampled_from(["a", "b", "c", "d"])) if kind in (Kind.BASE, Kind.IMAGE) else ""
        owned = kind in (Kind.HOME, Kind.PERSISTENT, Kind.LAYER)
        trouble = draw(st.sampled_from(["", "", "", "a link"]))
        checksum = draw(st.sampled_from(["", "1", "2"]))
        node = draw(st.sampled_from(["", "n1", "n2"]))
        made.append(Thing(Key("s", str(number)), kind, draw(ids) if owned else None, image, checksum, trouble, node))
    return made


@given(storages(), known, st.data(), terms)
def test_nothing_with_a_reference_is_touched(
    things: list[Thing], database: Known, data: st.DataObject, of: Terms
) -> None:
    noted = {each.key: data.draw(marks) for each in things if data.draw(st.booleans())}
    plan = decide(things, database, noted, of)
    for verdict in plan.verdicts:
        if reference(verdict.thing, database)[0]:
            assert verdict.fate is Fate.KEEP
            assert verdict.thing.key not in noted or verdict.thing.key in plan.unmark
        if verdict.fate in (Fate.TRASH, Fate.DELETE):
            mark = noted[verdict.thing.key]
            assert mark.age >= of.limit(verdict.thing.kind)
            assert not verdict.thing.trouble
        if verdict.fate is Fate.TRASH:
            assert of.homes
        if verdict.thing.kind in OF_USERS:
            assert verdict.fate is not Fate.DELETE
        if verdict.thing.kind is Kind.IMAGE:
            assert verdict.fate in (Fate.KEEP, Fate.REPORT, Fate.LEAVE)


@given(storages(), known, terms)
def test_a_first_run_only_marks(things: list[Thing], database: Known, of: Terms) -> None:
    plan = decide(things, database, {}, of)
    assert plan.of(Fate.TRASH, Fate.DELETE, Fate.WAIT, Fate.HOLD) == ()
    assert plan.unmark == ()


@given(storages(), known, terms)
def test_a_second_run_at_once_does_not_mark_again(things: list[Thing], database: Known, of: Terms) -> None:
    of = evolve(of, age=of.age + 1, trash_age=of.trash_age + 1)
    first = decide(things, database, {}, of)
    noted = {verdict.thing.key: Mark("now", 0.0) for verdict in first.of(Fate.MARK)}
    second = decide(things, database, noted, of)
    assert second.of(Fate.MARK, Fate.TRASH, Fate.DELETE) == ()
    assert second.unmark == ()
    assert {verdict.thing.key for verdict in second.of(Fate.WAIT)} == set(noted)


@given(storages(), known, st.data(), terms)
def test_all_is_done_after_one_run(things: list[Thing], database: Known, data: st.DataObject, of: Terms) -> None:
    noted = {each.key: data.draw(marks) for each in things}
    plan = decide(things, database, noted, of)
    taken = {verdict.thing.key for verdict in plan.of(Fate.TRASH, Fate.DELETE)}
    left = [each for each in things if each.key not in taken]
    kept = {key: mark for key, mark in noted.items() if key not in plan.unmark and key not in taken}
    again = decide(left, database, kept, of)
    assert again.of(Fate.TRASH, Fate.DELETE, Fate.MARK) == ()
    assert again.unmark == ()


@pytest.mark.parametrize(
    ("kind", "homes", "fate"),
    [
        (Kind.HOME, False, Fate.HOLD),
        (Kind.HOME, True, Fate.TRASH),
        (Kind.PERSISTENT, True, Fate.TRASH),
        (Kind.LAYER, False, Fate.DELETE),
        (Kind.BASE, False, Fate.DELETE),
        (Kind.UNFINISHED, False, Fate.DELETE),
        (Kind.TRASH, False, Fate.HOLD),
        (Kind.TRASH, True, Fate.DELETE),
        (Kind.IMAGE, True, Fate.REPORT),
    ],
)
def test_what_becomes_of_each_kind(kind: Kind, homes: bool, fate: Fate) -> None:
    assert judge(thing(kind), NOTHING, OLD, evolve(TERMS, homes=homes)).fate is fate


def test_the_trash_has_an_age_of_its_own() -> None:
    homes = evolve(TERMS, homes=True)
    assert judge(thing(Kind.TRASH), NOTHING, Mark("then", 89.0), homes).fate is Fate.WAIT
    assert judge(thing(Kind.HOME), NOTHING, Mark("then", 31.0), homes).fate is Fate.TRASH


@pytest.mark.parametrize(
    ("given", "database", "refers", "reason"),
    [
        (thing(Kind.HOME, 7), Known({VMId(7): None}, ()), True, "VM 7 exists"),
        (thing(Kind.HOME, 7), NOTHING, False, "there is no VM 7"),
        (thing(Kind.LAYER, 7), Known({VMId(7): "n1"}, ()), True, "VM 7 is on n1"),
        (evolve(thing(Kind.LAYER, 7), node="n1"), Known({VMId(7): "n1"}, ()), True, "VM 7 is on n1"),
        (
            evolve(thing(Kind.LAYER, 7), node="n2"),
            Known({VMId(7): "n1"}, ()),
            False,
            "VM 7 is on n1, and this is what it had on n2",
        ),
        (thing(Kind.LAYER, 7), Known({VMId(7): None}, ()), False, "VM 7 is stopped, and its layer does not persist"),
        (thing(Kind.LAYER, 7), NOTHING, False, "there is no VM 7"),
        (
            thing(Kind.BASE, None, "d.tar"),
            Known({}, {("d.tar", None)}),
            True,
            "an image with the file d.tar is registered",
        ),
        (BASE, Known({}, {("d.tar", "1")}), False, "the file d.tar has been replaced since"),
        (BASE, Known({}, {("d.tar", "1"), ("d.tar", "2")}), True, "an image with the file d.tar is registered"),
        (BASE, Known({}, {("d.tar", None)}), True, "an image with the file d.tar is registered"),
        (BASE, Known({}, {("e.tar", "2")}), False, "no image with the file d.tar is registered"),
        (thing(Kind.IMAGE, None, "d.tar"), NOTHING, False, "no image with the file d.tar is registered"),
    ],
)
def test_references(given: Thing, database: Known, refers: bool, reason: str) -> None:
    assert reference(given, database) == (refers, reason)


def test_what_must_not_be_touched_has_no_mark() -> None:
    linked = thing(Kind.HOME, trouble="a link")
    plan = decide([linked], NOTHING, {linked.key: OLD}, TERMS)
    assert (plan.verdicts[0].fate, plan.verdicts[0].reason) == (Fate.LEAVE, "a link")
    assert plan.unmark == (linked.key,)


def test_a_mark_goes_with_its_thing() -> None:
    assert decide([], NOTHING, {Key("s", "gone"): OLD}, TERMS).unmark == (Key("s", "gone"),)


class TestSuspicion:
    """Of a database that does not go with the storage."""

    def test_no_vm_at_all(self) -> None:
        assert "knows no VM at all" in (suspicion([thing(Kind.HOME)], NOTHING) or "")
        assert suspicion([thing(Kind.TRASH, None), thing(Kind.BASE, None, "a")], NOTHING) is None

    @pytest.mark.parametrize("kind", [Kind.HOME, Kind.PERSISTENT, Kind.LAYER])
    def test_more_than_half_of_a_kind(self, kind: Kind) -> None:
        lost = [thing(kind, 100 + number) for number in range(HANDFUL + 1)]
        rest = [thing(kind, 1)] * HANDFUL
        database = Known({VMId(1): "n1"}, ())
        assert f"nothing of {HANDFUL + 1} of {2 * HANDFUL + 1} things" in (suspicion(lost + rest, database) or "")
        assert suspicion([*lost, *rest, thing(kind, 1)], database) is None
        assert suspicion(lost[:HANDFUL], database) is None

    def test_one_kind_does_not_hide_another(self) -> None:
        lost = [thing(Kind.HOME, 100 + number) for number in range(HANDFUL + 1)]
        assert suspicion([*lost, *[thing(Kind.LAYER, 1)] * 100], Known({VMId(1): "n1"}, ())) is not None

    def test_layers_of_stopped_vms_say_nothing(self) -> None:
        database = Known({VMId(number): None for number in range(1, 20)}, ())
        assert suspicion([thing(Kind.LAYER, number) for number in range(1, 20)], database) is None

    def test_unpacked_images(self) -> None:
        lost = [thing(Kind.BASE, None, f"{number}.tar") for number in range(HANDFUL + 1)]
        assert "'unpacked image'" in (suspicion(lost, NOTHING) or "")


def test_the_table() -> None:
    kept = evolve(judge(thing(Kind.LAYER, 7), NOTHING, OLD, TERMS), size=3 << 19)
    lines = table([("/layers/7", kept), ("/homes/1/8", judge(thing(Kind.HOME, 8), NOTHING, None, TERMS))])
    assert [line.split() for line in lines] == [
        ["WHAT", "WHERE", "FATE", "SINCE", "MiB", "WHY"],
        "writable layer /layers/7 is removed 2026-01-01 00:00 1.5 there is no VM 7".split(),
        "home /homes/1/8 is marked - - there is no VM 8".split(),
    ]


def test_each_fate_has_words() -> None:
    assert set(FATES) == set(Fate)
    assert MARKED.isdisjoint({Fate.KEEP, Fate.LEAVE, Fate.REPORT})
