"""The language of filters."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qvd.cli.grammar import OPERATORS, And, Condition, Filter, FilterError, Not, Or, parse, write

KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z-]{1,5})?", fullmatch=True)
VALUES = st.text(max_size=12)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    form = draw(st.sampled_from(("one", "list", "range", "null", "name")))
    match form:
        case "name":
            return Condition("", "=", (draw(VALUES),))
        case "one":
            operator = draw(st.sampled_from([each for each in OPERATORS if each != "<>"]))
            return Condition(draw(KEYS), operator, (draw(VALUES),))
        case _:
            size = {"list": (1, 4), "range": (2, 2), "null": (0, 0)}[form]
            values = draw(st.lists(VALUES, min_size=size[0], max_size=size[1]))
            return Condition(draw(KEYS), draw(st.sampled_from(("=", "!="))), tuple(values), form)


FILTERS: st.SearchStrategy[Filter] = st.recursive(
    conditions(),
    lambda parts: st.one_of(
        st.lists(parts, min_size=2, max_size=4).map(lambda found: And(tuple(found))),
        st.lists(parts, min_size=2, max_size=4).map(lambda found: Or(tuple(found))),
        parts.map(Not),
    ),
    max_leaves=12,
)


# Trees take a while to be made, on a machine with other work longer than Hypothesis has patience.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(FILTERS)
def test_what_is_written_is_read_as_it_was(node: Filter) -> None:
    assert parse(write(node)) == node


@given(st.text(alphabet="abn=!<>~*,;()[]:'\"\\ %_1", max_size=30))
def test_whatever_is_typed_is_a_filter_or_an_error_with_a_place(text: str) -> None:
    try:
        found = parse(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        assert error.text
    else:
        assert parse(write(found)) == found


def test_the_original_s_examples() -> None:
    assert parse("state=running") == Condition("state", "=", ("running",))
    assert parse("name~adm%, tenant_id=10001") == And(
        (Condition("name", "~", ("adm%",)), Condition("tenant_id", "=", ("10001",)))
    )
    assert parse("id=[10801,10802, 10805]") == Condition("id", "=", ("10801", "10802", "10805"), "list")
    assert parse("id=[1:3]") == Condition("id", "=", ("1", "3"), "range")
    assert parse("(state=stopped; state=zombie), host_id=10004") == And(
        (
            Or((Condition("state", "=", ("stopped",)), Condition("state", "=", ("zombie",)))),
            Condition("host_id", "=", ("10004",)),
        )
    )
    assert parse("node-07") == Condition("", "=", ("node-07",))
    assert parse("!blocked=1") == Not(Condition("blocked", "=", ("1",)))
    assert parse("name='a, b'") == Condition("name", "=", ("a, b",))
    assert parse("host_id=null") == Condition("host_id", "=", (), "null")
    assert parse("host_id='null'") == Condition("host_id", "=", ("null",))
    assert parse("since<2026-01-02T03:04:05Z") == Condition("since", "<", ("2026-01-02T03:04:05Z",))


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "expected a condition"),
        ("state=", 6, "expected a value"),
        ("state=running,", 14, "expected a condition"),
        ("(state=running", 0, "parenthesis is not closed"),
        ("state=running)", 13, "unexpected ')'"),
        ("a=1,b=2;c=3", 7, "parentheses"),
        ("name='lab", 5, "quote is not closed"),
        ("id=[1,2", 3, "list is not closed"),
        ("id<[1,2]", 3, "goes with = and !="),
        ("id~null", 3, "goes with = and !="),
        ("since=[10:00:00]", 12, "in quotes"),
        ("a=b c", 4, "unexpected 'c'"),
        ("!" * 50 + "a", 21, "more levels"),
    ],
)
def test_errors_say_where(text: str, position: int, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert (caught.value.position, said in caught.value.text) == (position, True), caught.value.text
