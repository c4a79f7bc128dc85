"""Scenario files: what they mean, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from qvd.model.errors import SettingsError
from qvd.sim.behaviour import Chances, Drawn, GuestTimes, Shape, Spread
from qvd.sim.scenario import FaultKind, Pace, clock_text, parse, read, time_of
from tests.contract.test_sim_driver import spec_of

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "etc/qvd/scenarios").glob("*.toml"))
LEAST = """
title = "t"
start = "08:00"
end = "09:00"
[[nodes]]
count = 2
memory_gib = 1.5
[[tenants]]
name = "a"
vms = 3
"""


def test_the_least_file() -> None:
    found = parse(LEAST, "f.toml")
    assert [node.name for node in found.nodes] == ["n1", "n2"]
    assert found.nodes[0].memory == 3 << 29
    assert (found.start, found.end, found.pace) == (28800, 32400, Pace.VIRTUAL)


def test_all_that_can_be_said() -> None:
    found = parse(
        LEAST
        + """
[guests]
boot = { distribution = "uniform", from = 1, to = 2 }
x_start = 3
[failures]
boot = 0.05
[[logins]]
from = "08:55"
to = "08:56"
users = 2
tenant = "a"
distribution = "normal"
[[faults]]
at = "08:58:30"
do = "hang"
nodes = "1-2"
for = 90
[settings]
hkd.lease = 20.0
""",
        "f.toml",
    )
    assert found.guests.boot == Spread(Shape.UNIFORM, 1.0, 2.0)
    assert found.guests.x_start == Spread(Shape.FIXED, 3.0)
    assert found.chances.boot == 0.05
    [fault] = found.faults
    assert (fault.at, fault.kind, fault.nodes, fault.lasts) == (32310, FaultKind.HANG, (1, 2), 90)
    assert found.settings == {"hkd.lease": 20.0}
    drawn = [found.logins[0].draw(Random(seed)) for seed in range(50)]
    assert all(32100 <= second <= 32160 for second in drawn)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("[[faults]]\nat = '08:30'\ndo = 'kill'\nnodes = 3", "faults[0].nodes: there are nodes 1 to 2"),
        ("[[faults]]\nat = '08:30'\ndo = 'kill'\nnodes = 'x'", "neither a number nor a range"),
        ("[[faults]]\nat = '08:30'\ndo = 'hang'\nnodes = 1", "faults[0].for: a hang needs a length"),
        ("[[faults]]\nat = '10:30'\ndo = 'kill'\nnodes = 1", "faults[0].at: not between start and end"),
        ("[[faults]]\nat = 'noon'\ndo = 'kill'\nnodes = 1", "'noon' is no time such as"),
        ("[[faults]]\nat = '08:30'\ndo = 'burn'\nnodes = 1", "$.faults[0].do"),
        ("[failures]\nboot = 5", "5 % is 0.05"),
        ("[failures]\nbot = 0.1", "unknown field `bot`"),
        ("[[logins]]\nfrom = '08:30'\nto = '08:20'", "not in this order"),
        ("[[logins]]\nfrom = '08:30'\nto = '08:40'\ntenant = 'b'", "there is no tenant 'b'"),
        ("[[logins]]\nfrom = '08:30'\nto = '08:40'\nusers = 4", "logins[0].users: there are 3"),
        ("[guests]\nboot = -1", "a time is not negative"),
        ("[guests]\nboot = { distribution = 'uniform', from = 3, to = 2 }", "from is more than to"),
        ("[settings]\ndatabase.host = 'x'", "database.host is set by the simulation itself"),
        ("[[tenants]]\nname = 'A'\nvms = 1", "two have one name"),
        ("[[tenants]]\nname = 'b'\nvms = 1\nrunning = 2", "from 0 to vms (1)"),
        ("[users]\npause = 0", "more than 0 s"),
        ("what", "f.toml: "),
    ],
)
def test_what_is_wrong_is_said(more: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(LEAST + more, "f.toml")
    assert sentence in raised.value.text
    assert raised.value.text.startswith("f.toml: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read(tmp_path / "none.toml")
    assert "none.toml" in raised.value.text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_scenarios_that_are_shipped(path: Path) -> None:
    found = read(path)
    assert sum(node.memory for node in found.nodes) > 0


def test_there_are_three_of_them() -> None:
    assert len(SHIPPED) == 3


def test_times_of_the_day() -> None:
    assert time_of("9:05", "at") == 32700
    assert clock_text(32705.9) == "09:05:05"


def test_the_seed_decides() -> None:
    times, chances = GuestTimes(), Chances(boot=0.5, exit=0.3, hang=0.3)

    def fates(seed: int, order: list[int]) -> dict[int, object]:
        drawn = Drawn(seed, times, chances)
        return {number: drawn(spec_of(number, "x")) for number in order}

    assert fates(1, [1, 2, 3]) == fates(1, [3, 1, 2]), "whoever is first"
    assert fates(1, [1, 2, 3]) != fates(2, [1, 2, 3])
    drawn = Drawn(1, times, chances)
    assert drawn(spec_of(1, "x")) != drawn(spec_of(1, "x")), "each run is another one"


@pytest.mark.parametrize("shape", Shape)
def test_times_are_never_negative(shape: Shape) -> None:
    rng = Random(1)
    assert min(Spread(shape, 1.0, 3.0).draw(rng) for _ in range(500)) >= 0.0
