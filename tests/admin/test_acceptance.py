"""
The acceptance checklist of the administration reference, point by point, and which tests show them: those with
C{pytest.mark.acceptance(n)}. C{pytest -m acceptance} runs them all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent.parent
POINTS: Mapping[int, str] = {
    1: "whatever the original can be asked for, this API can, or it is written down why not",
    2: "each permission lets in, and nothing else does in its place",
    3: "what another tenant has is as good as absent, wherever it is named",
    4: "nobody gives, by whatever way, what they do not hold",
    5: "each stream of events has one administrator's view, and ends with it",
    6: "no secret is in a URL, a log, the trail, an error or an export",
    7: "what only reads writes nothing",
    8: "a foreign page can do nothing with somebody's cookie",
    9: "passwords are kept as argon2id; those of the original are replaced at the first login",
    10: "whoever guesses passwords waits, and only they",
    11: "of two changes of one version, one is made",
    12: "a request that is sent twice acts once",
    13: "thousands of VMs are listed at once, and acted on by jobs that survive their service",
    14: "an upload goes on where it broke off, and leaves nothing behind when it cannot",
    15: "an import reads nothing from the addresses within",
    16: "an image changes its state by one table, and a node starts what the API says",
    17: "no two VMs get one address, however many are made at a time",
    18: "properties have types, can be taken away, and are merged alike in API and node",
    19: "roles add up as in the original, and never in a circle",
    20: "an installation has one tenant or several, and changes from one to the other in order",
    21: "the nearest value of a setting counts, and several are set together or not at all",
    22: "each change is in the trail, with before and after, for as long as it must be",
    23: "events come once and in order, and a gap is told",
    24: "the API is described, and answers as described",
    25: "what the original's command line was shown to do can be done",
    26: "later: panel",
    27: "later: portal",
    28: "whoever damaged all roles can be helped on the machine itself",
}
"""In our words. The half of point 24 that is about the command line comes with it."""
LATER = frozenset(number for number, text in POINTS.items() if text.startswith("later"))


def marks(tree: ast.Module) -> Iterator[tuple[str, list[object]]]:
    """Names of tests with what their marks of acceptance say."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for each in node.decorator_list:
            if isinstance(each, ast.Call) and ast.unparse(each.func) == "pytest.mark.acceptance":
                yield node.name, [getattr(argument, "value", None) for argument in each.args]


def marked() -> dict[str, list[object]]:
    """The same of all tests, by file and name."""
    found: dict[str, list[object]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.acceptance" in text:
            for name, points in marks(ast.parse(text)):
                found[f"{path.relative_to(TESTS)}::{name}"] = points
    return found


def test_each_mark_names_points_of_the_list() -> None:
    for name, points in marked().items():
        assert points, name
        assert all(point in POINTS for point in points), (name, points)


def test_each_point_is_shown() -> None:
    shown = {point for points in marked().values() for point in points}
    assert POINTS.keys() - shown == LATER, "a point has no test; or one that was for later has: take it from LATER"


def test_the_list_is_whole() -> None:
    assert list(POINTS) == list(range(1, 29))
