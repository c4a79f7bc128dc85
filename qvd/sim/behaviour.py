# -*- test-case-name: tests.unit.test_sim_scenario -*-
"""How simulated guests behave, drawn from a seed so that the same VM's same start always has the same fate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from random import Random

from attrs import frozen

from qvd.model.records import VMSpec


class Shape(Enum):
    """Families of distributions of a time."""

    FIXED = "fixed"
    UNIFORM = "uniform"
    NORMAL = "normal"
    EXPONENTIAL = "exponential"


@frozen
class Spread:
    """A time that varies. Seconds, never less than 0.

    @ivar low: least, or the mean of C{NORMAL}, or the part of C{EXPONENTIAL} that is always there.
    @ivar high: most, or the standard deviation of C{NORMAL}, or the mean of what C{EXPONENTIAL} adds.
    """

    shape: Shape
    low: float
    high: float = 0.0

    def draw(self, rng: Random) -> float:
        match self.shape:
            case Shape.FIXED:
                return self.low
            case Shape.UNIFORM:
                return rng.uniform(self.low, self.high)
            case Shape.NORMAL:
                return max(0.0, rng.gauss(self.low, self.high))
            case Shape.EXPONENTIAL:
                return self.low + (rng.expovariate(1 / self.high) if self.high else 0.0)


def fixed(seconds: float) -> Spread:
    """Always the same."""
    return Spread(Shape.FIXED, seconds)


@frozen
class Behaviour:
    """What one guest does in one run. Seconds.

    @ivar prepare: what the hypervisor takes to make it ready, C{start} to start it.
    @ivar boot: from its start to the agent's first answer.
    @ivar x_start: until nxagent listens.
    @ivar shutdown: an orderly power-off.
    @ivar fails_preparing: the hypervisor cannot make it ready.
    @ivar fails_booting: it ends by itself instead of coming up.
    @ivar silent: its agent never answers.
    @ivar deaf: it does not power off when asked.
    @ivar exits_after: it ends by itself, so long after it came up.
    @ivar hangs_after: likewise, its agent falls silent and it does not power off any more.
    """

    prepare: float = 0.0
    start: float = 0.01
    boot: float = 0.02
    x_start: float = 0.01
    shutdown: float = 0.01
    fails_preparing: bool = False
    fails_booting: bool = False
    silent: bool = False
    deaf: bool = False
    exits_after: float | None = None
    hangs_after: float | None = None


Behaviours = Callable[[VMSpec], Behaviour]
"""How the VM will behave in the run that begins. Called once for each run."""


@frozen
class Chances:
    """Parts of all runs, 0 to 1, that go wrong in one way each."""

    prepare: float = 0.0
    boot: float = 0.0
    silent: float = 0.0
    exit: float = 0.0
    hang: float = 0.0


@frozen
class GuestTimes:
    """How long what takes, as distributions.

    @ivar until_trouble: from a guest's start to its exit or hang, where it has one.
    """

    prepare: Spread = Spread(Shape.FIXED, 0.5)
    boot: Spread = Spread(Shape.NORMAL, 12.0, 3.0)
    x_start: Spread = Spread(Shape.UNIFORM, 0.5, 1.5)
    shutdown: Spread = Spread(Shape.UNIFORM, 1.0, 4.0)
    until_trouble: Spread = Spread(Shape.EXPONENTIAL, 10.0, 300.0)


class Drawn:
    """L{Behaviours} from distributions.

    @param seed: with the VM's id and the number of its run it decides everything, so that what one VM meets does not
        depend on what others do.
    """

    def __init__(self, seed: int, times: GuestTimes, chances: Chances) -> None:
        self._seed = seed
        self._times = times
        self._chances = chances
        self._runs: dict[int, int] = {}

    def __call__(self, spec: VMSpec) -> Behaviour:
        run = self._runs[spec.vm_id] = self._runs.get(spec.vm_id, 0) + 1
        rng = Random(f"{self._seed}/{spec.vm_id}/{run}")
        times, chances = self._times, self._chances
        troubles = {name: rng.random() < getattr(chances, name) for name in ("prepare", "boot", "silent")}
        ends = times.until_trouble.draw(rng)
        exits, hangs = rng.random() < chances.exit, rng.random() < chances.hang
        return Behaviour(
            prepare=times.prepare.draw(rng),
            start=0.05,
            boot=times.boot.draw(rng),
            x_start=times.x_start.draw(rng),
            shutdown=times.shutdown.draw(rng),
            fails_preparing=troubles["prepare"],
            fails_booting=troubles["boot"],
            silent=troubles["silent"],
            exits_after=ends if exits else None,
            hangs_after=ends if hangs and not exits else None,
        )


def named(behaviours: Mapping[str, Behaviour]) -> Behaviours:
    """By the VM's name; the others are as by default."""
    return lambda spec: behaviours.get(spec.name, Behaviour())
