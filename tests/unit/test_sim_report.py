"""Figures, words and pictures of a run."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from qvd.sim.plot import nice, panels, svg
from qvd.sim.record import Record, Sample, percentiles, phase_of
from qvd.sim.report import is_good, text
from qvd.sim.scenario import parse
from qvd.sim.users import Person, Visit

DAY = """
title = "a < b"
start = "08:00"
end = "08:10"
[[nodes]]
count = 2
memory_gib = 4
[[tenants]]
name = "a"
vms = 3
"""


def person(number: int) -> Person:
    return Person(number, number, "a")


def record() -> Record:
    """Two desktops, one of them after a queue, and one user who was refused twice."""
    made = Record(parse(DAY, "day"))
    made.users = 3
    made.began([1, 2])
    news = [(28800.0, "Session acquired for VM_ID: 1"), (28801.0, "Booting"), (28811.0, "Starting X session at VM 1")]
    made.visits.append(Visit(person(1), "n1", 28800.0, news=news, desktop_at=28812.0))
    queue = [(28800.0, "Position 3 in the queue of node n2, waiting to be prepared"), (28830.0, "Booting")]
    made.visits.append(Visit(person(2), "n1", 28800.0, news=queue, desktop_at=28840.0, cut_off=True))
    for at in (28805.0, 28825.0):
        made.visits.append(Visit(person(3), "n2", at, failed_at=at + 1, status=503, reason=f"No room on n{at:.0f}"))
    for at, guests in ((28805.0, 0), (28810.0, 2)):
        made.samples.append(Sample(at, {"n1": guests, "n2": 0}, {"booting": 2 - guests}, {"n1": 4.0, "n2": 1.0}))
    return made


def test_percentiles() -> None:
    assert percentiles([]) == {"count": 0}
    assert percentiles([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    hundred = percentiles([float(number) for number in range(1, 101)])
    assert (hundred["p50"], hundred["p95"], hundred["p99"]) == (50.0, 95.0, 99.0)


@pytest.mark.parametrize(
    ("told", "phase"),
    [
        ("Position 3 in the queue of node n2, waiting to boot", "queued"),
        ("Waiting for the desktop's agent", "boot"),
        ("Starting X session at VM 9", "X session"),
        ("Connecting X session for VM_ID: 9", "X session"),
        ("Starting virtual machine", "placement"),
        ("Unpacking the simulated image", "preparation"),
        ("Aborting contending session for VM_ID: 9", "take-over"),
        ("Powering off", "other"),
    ],
)
def test_phases(told: str, phase: str) -> None:
    assert phase_of(told) == phase


def test_the_document() -> None:
    document = record().document()
    assert (document["desktops"], document["users_without_desktop"], document["cut_off"]) == (2, 1, 1)
    assert document["time_to_desktop_s"]["max"] == 40.0
    assert document["phases_s"]["boot"] == {"count": 2, "p50": 10.0, "p95": 10.0, "p99": 10.0, "max": 10.0}
    assert document["phases_s"]["queued"]["max"] == 30.0
    assert document["refused"] == {"503 No room on nN": 2}
    assert document["queued"] == {
        "clients": 1,
        "told_their_position": 1,
        "overtaken": 0,
        "most_waiting": {"booting": 2},
    }
    assert document["queries_per_s_per_node"] == {"mean": 2.5, "peak": 4.0}
    assert is_good(document)


def test_what_must_not_be_is_not_good() -> None:
    for name in ("violations", "overbooked", "internal_errors"):
        made = record()
        setattr(made, name, 1)
        assert not is_good(made.document()), name
    made = record()
    made.wrong.append("VM 1: its client was given somebody else's")
    assert not is_good(made.document())


def test_the_words() -> None:
    made = record()
    words = text(made.document(), ["at 3.000 s: VM 1 runs on n2 and on n1"])
    assert words.startswith("a < b\n  2 nodes, 3 VMs, 3 users")
    assert "503 No room on nN" in words
    assert "1 clients, 1 told their position" in words
    assert words.endswith("VM 1 runs on n2 and on n1")
    assert "2 desktops, 2 refusals" in made.news()


def test_the_picture_is_one() -> None:
    made = record()
    picture = ElementTree.fromstring(svg("a < b", 28800.0, 29400.0, panels(made)))
    space = "{http://www.w3.org/2000/svg}"
    lines = picture.findall(f".//{space}polyline")
    assert len(lines) == 3 + 1 + 2
    dots = picture.findall(f".//{space}circle")
    assert len(dots) == 4
    for dot in dots:
        assert 70 <= float(dot.get("cx", "0")) <= 940
    words = {element.text for element in picture.findall(f".//{space}text")}
    assert {"a < b", "08:00:00", "08:10:00", "booting"} <= words


def test_a_run_without_anything_has_a_picture_too() -> None:
    empty = Record(parse(DAY, "day"))
    ElementTree.fromstring(svg("empty", 28800.0, 29400.0, panels(empty)))
    assert text(empty.document(), []).startswith("a < b")


@pytest.mark.parametrize(
    ("value", "end"), [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (18.0, 20.0), (99.0, 100.0), (210, 300)]
)
def test_axes_end_at_round_numbers(value: float, end: float) -> None:
    assert nice(value) == pytest.approx(end)
