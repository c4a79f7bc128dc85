# -*- test-case-name: tests.unit.test_sim_scenario -*-
"""
Scenario files: TOML to checked values. C{docs/simulator.md} explains every key.

A file is read in two steps: L{msgspec} checks names and types against the C{Struct}s here, which are named after the
tables of the file; then their values become what the simulation works with, and are checked against each other.
"""

from __future__ import annotations

import re
import tomllib
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from attrs import evolve, frozen

from qvd.model.errors import SettingsError
from qvd.sim.behaviour import Chances, GuestTimes, Shape, Spread, fixed

TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
OWN_SETTINGS = ("nodename", "database.", "path.", "l7r.tls.", "l7r.address", "l7r.port", "admin.", "vm.hypervisor")
"""Settings of a node that are the simulation's business."""


class Pace(Enum):
    """How simulated time goes."""

    VIRTUAL = "virtual"
    REAL = "real"


class Arrivals(Enum):
    """How log-ins spread over their time."""

    UNIFORM = "uniform"
    NORMAL = "normal"


class FaultKind(Enum):
    """What can befall a node."""

    KILL = "kill"
    KILL_DAEMON = "kill-daemon"
    START = "start"
    HANG = "hang"
    CUT = "cut"


class SpreadTable(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A time that varies: C{distribution} says which of the others count."""

    distribution: Shape
    from_: float = 0.0
    to: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    at_least: float = 0.0


Time = float | SpreadTable


class NodesTable(msgspec.Struct, forbid_unknown_fields=True):
    """C{[[nodes]]}."""

    count: int
    memory_gib: float
    cores: float = 16.0


class TenantTable(msgspec.Struct, forbid_unknown_fields=True):
    """C{[[tenants]]}."""

    name: str
    vms: int
    memory_mib: int = 1024
    running: int = 0


class GuestsTable(msgspec.Struct, forbid_unknown_fields=True):
    """C{[guests]}."""

    prepare: Time = 0.5
    boot: Time = msgspec.field(default_factory=lambda: SpreadTable(Shape.NORMAL, mean=12.0, deviation=3.0))
    x_start: Time = msgspec.field(default_factory=lambda: SpreadTable(Shape.UNIFORM, 0.5, 1.5))
    shutdown: Time = msgspec.field(default_factory=lambda: SpreadTable(Shape.UNIFORM, 1.0, 4.0))
    until_trouble: Time = msgspec.field(
        default_factory=lambda: SpreadTable(Shape.EXPONENTIAL, at_least=10.0, mean=300.0)
    )


class FailuresTable(msgspec.Struct, forbid_unknown_fields=True):
    """C{[failures]}: parts of all runs."""

    prepare: float = 0.0
    boot: float = 0.0
    silent: float = 0.0
    exit: float = 0.0
    hang: float = 0.0


class LoginsTable(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """C{[[logins]]}."""

    from_: str
    to: str
    users: int = 0
    tenant: str = ""
    distribution: Arrivals = Arrivals.UNIFORM
    session: Time = 28800.0


class UsersTable(msgspec.Struct, forbid_unknown_fields=True):
    """C{[users]}."""

    retries: int = 5
    pause: float = 20.0
    patience: float = 240.0


class FaultTable(msgspec.Struct, forbid_unknown_fields=True, rename={"for_": "for"}):
    """C{[[faults]]}."""

    at: str
    do: FaultKind
    nodes: int | str
    for_: float = 0.0


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A whole file."""

    title: str
    start: str
    end: str
    nodes: list[NodesTable]
    tenants: list[TenantTable]
    seed: int = 1
    clock: Pace = Pace.VIRTUAL
    sample: float = 5.0
    logins: list[LoginsTable] = []
    guests: GuestsTable = msgspec.field(default_factory=GuestsTable)
    failures: FailuresTable = msgspec.field(default_factory=FailuresTable)
    users: UsersTable = msgspec.field(default_factory=UsersTable)
    faults: list[FaultTable] = []
    settings: dict[str, Any] = {}


@frozen
class NodeSpec:
    """@ivar memory: bytes for guests."""

    name: str
    memory: int
    cores: float


@frozen
class Tenant:
    """@ivar running: so many of its VMs run when the day begins."""

    name: str
    vms: int
    memory_mib: int
    running: int


@frozen
class Logins:
    """A wave of log-ins. Times are seconds of the day.

    @ivar users: of C{tenant}, or of all tenants where that is empty; 0: all that are left.
    """

    begins: float
    ends: float
    users: int
    tenant: str
    distribution: Arrivals
    session: Spread

    def draw(self, rng: Random) -> float:
        """When one of them logs in."""
        match self.distribution:
            case Arrivals.UNIFORM:
                return rng.uniform(self.begins, self.ends)
            case Arrivals.NORMAL:
                middle, deviation = (self.begins + self.ends) / 2, (self.ends - self.begins) / 6
                return min(max(rng.gauss(middle, deviation), self.begins), self.ends)


@frozen
class Fault:
    """@ivar lasts: seconds, of a hang or a cut; after a kill, when the node is started again; 0: never."""

    at: float
    kind: FaultKind
    nodes: tuple[int, ...]
    lasts: float


@frozen
class Patience:
    """Of users. @ivar waits: seconds for a desktop; C{pause}: before they try again, C{retries} times."""

    retries: int
    pause: float
    waits: float


@frozen
class Scenario:
    """A day. Times are seconds of it.

    @ivar sample: seconds between two looks at the farm, for the report.
    @ivar settings: of each node's C{node.conf}.
    """

    title: str
    seed: int
    pace: Pace
    start: float
    end: float
    sample: float
    nodes: tuple[NodeSpec, ...]
    tenants: tuple[Tenant, ...]
    guests: GuestTimes
    chances: Chances
    logins: tuple[Logins, ...]
    patience: Patience
    faults: tuple[Fault, ...]
    settings: dict[str, Any]


def read(path: Path) -> Scenario:
    """@raise SettingsError: the sentence names the file and the place in it."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text in UTF-8") from None


def parse(text: str, source: str) -> Scenario:
    """@param source: what errors name: the file's path."""
    try:
        document = msgspec.convert(tomllib.loads(text), Document)
        return _scenario(document)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{source}: {error}") from None


def _scenario(document: Document) -> Scenario:
    start, end = time_of(document.start, "start"), time_of(document.end, "end")
    _check(end > start, "end: it is not after start")
    _check(document.sample > 0, "sample: it must be more than 0 seconds")
    nodes = _nodes(document)
    tenants = tuple(Tenant(t.name, t.vms, t.memory_mib, t.running) for t in document.tenants)
    for number, table in enumerate(document.tenants):
        _check(table.vms > 0, f"tenants[{number}].vms: there must be at least one")
        _check(table.memory_mib > 0, f"tenants[{number}].memory_mib: it must be more than 0")
        _check(0 <= table.running <= table.vms, f"tenants[{number}].running: from 0 to vms ({table.vms})")
    _check(len({t.name.lower() for t in tenants}) == len(tenants), "tenants: two have one name")
    for name, part in msgspec.structs.asdict(document.failures).items():
        _check(0 <= part <= 1, f"failures.{name}: {part} is not from 0 to 1; 5 % is 0.05")
    _check(document.users.retries >= 0, "users.retries: it must be 0 or more")
    _check(document.users.pause > 0 and document.users.patience > 0, "users: pause and patience must be more than 0 s")
    settings = dict(_flat(document.settings))
    for key in settings:
        _check(not key.startswith(OWN_SETTINGS), f"settings: {key} is set by the simulation itself")
    return Scenario(
        title=document.title,
        seed=document.seed,
        pace=document.clock,
        start=start,
        end=end,
        sample=document.sample,
        nodes=nodes,
        tenants=tenants,
        guests=GuestTimes(
            **{name: _spread(value, f"guests.{name}") for name, value in _fields(document.guests).items()}
        ),
        chances=Chances(**msgspec.structs.asdict(document.failures)),
        logins=tuple(_logins(table, number, document, start, end) for number, table in enumerate(document.logins)),
        patience=Patience(document.users.retries, document.users.pause, document.users.patience),
        faults=tuple(_fault(table, number, start, end, len(nodes)) for number, table in enumerate(document.faults)),
        settings=settings,
    )


def _nodes(document: Document) -> tuple[NodeSpec, ...]:
    found: list[NodeSpec] = []
    for number, group in enumerate(document.nodes):
        _check(group.count > 0, f"nodes[{number}].count: there must be at least one")
        _check(group.memory_gib > 0 and group.cores > 0, f"nodes[{number}]: memory_gib and cores must be more than 0")
        for _ in range(group.count):
            found.append(NodeSpec(f"n{len(found) + 1}", int(group.memory_gib * (1 << 30)), group.cores))
    _check(bool(found), "nodes: there must be at least one")
    return tuple(found)


def _logins(table: LoginsTable, number: int, document: Document, start: float, end: float) -> Logins:
    where = f"logins[{number}]"
    begins, ends = time_of(table.from_, f"{where}.from"), time_of(table.to, f"{where}.to")
    _check(start <= begins <= ends <= end, f"{where}: from, to: not in this order between start and end")
    known = {tenant.name: tenant.vms for tenant in document.tenants}
    _check(not table.tenant or table.tenant in known, f"{where}.tenant: there is no tenant {table.tenant!r}")
    most = known[table.tenant] if table.tenant else sum(known.values())
    _check(0 <= table.users <= most, f"{where}.users: there are {most}")
    session = _spread(table.session, f"{where}.session")
    return Logins(begins, ends, table.users, table.tenant, table.distribution, session)


def _fault(table: FaultTable, number: int, start: float, end: float, nodes: int) -> Fault:
    where = f"faults[{number}]"
    at = time_of(table.at, f"{where}.at")
    _check(start <= at <= end, f"{where}.at: not between start and end")
    lasting = table.do in (FaultKind.HANG, FaultKind.CUT)
    _check(table.for_ > 0 or not lasting, f"{where}.for: a {table.do.value} needs a length in seconds")
    match = RANGE.fullmatch(str(table.nodes))
    _check(match is not None, f'{where}.nodes: {table.nodes!r} is neither a number nor a range such as "3-5"')
    assert match is not None
    first, last = int(match[1]), int(match[2] or match[1])
    _check(1 <= first <= last <= nodes, f"{where}.nodes: there are nodes 1 to {nodes}")
    return Fault(at, table.do, tuple(range(first, last + 1)), table.for_)


def _spread(value: Time, where: str) -> Spread:
    if isinstance(value, (int, float)):
        _check(value >= 0, f"{where}: a time is not negative")
        return fixed(float(value))
    low, high = {
        Shape.FIXED: (value.mean, 0.0),
        Shape.UNIFORM: (value.from_, value.to),
        Shape.NORMAL: (value.mean, value.deviation),
        Shape.EXPONENTIAL: (value.at_least, value.mean),
    }[value.distribution]
    _check(low >= 0 and high >= 0, f"{where}: a time is not negative")
    _check(value.distribution is not Shape.UNIFORM or low <= high, f"{where}: from is more than to")
    return Spread(value.distribution, low, high)


def _fields(table: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(table, name) for name in table.__struct_fields__}


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found.extend(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    return found


def time_of(text: str, where: str) -> float:
    """Seconds of the day. @raise ValueError: it is no time of the day."""
    match = TIME.fullmatch(text)
    _check(match is not None, f'{where}: {text!r} is no time such as "08:55" or "08:55:30"')
    assert match is not None
    return int(match[1]) * 3600.0 + int(match[2]) * 60 + int(match[3] or 0)


def clock_text(seconds: float) -> str:
    """The other way round."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """The same day with other chances."""
    return evolve(scenario, seed=seed)
