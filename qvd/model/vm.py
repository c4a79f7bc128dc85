# -*- test-case-name: tests.unit.test_model_vm -*-
"""
The life of a VM on its node: states, steps, events, the table and L{advance}.

The state is what the database shows and other nodes read; a step is a rung inside a state, known to the node that
runs the VM and shown as the row's C{phase}. The table is total: each pair of step and event has its verdict written
down, so that nothing that can happen is left to a default.

The eight states of the architecture manual are the steps' C{phase} texts: "starting 1" is L{Step.QUEUED} to
L{Step.PREPARED}, "starting 2" L{Step.BOOT} and L{Step.AWAIT_GUEST}, "stopping 1" L{Step.SHUTDOWN}, "stopping 2"
L{Step.AWAIT_EXIT}, "zombie 1" L{Step.TERMINATE}, "zombie 2" L{Step.KILL}.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from attrs import evolve, frozen


class VMState(Enum):
    """Column C{vm_runtimes.vm_state}."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ZOMBIE = "zombie"


class Step(Enum):
    """Where a VM is, in its node's eyes. The value is the row's C{phase}."""

    QUEUED = "queued"
    PREPARE = "preparing"
    PREPARED = "queued to boot"
    BOOT = "booting"
    AWAIT_GUEST = "waiting for the guest"
    RUNNING = "running"
    SHUTDOWN = "asking the guest to power off"
    AWAIT_EXIT = "powering off"
    TERMINATE = "terminating"
    KILL = "killing"
    CLEAN = "cleaning up"
    RELEASE = "releasing"
    STUCK = "cannot be ended"
    RELEASED = "stopped"
    KILL_LOST = "killing, taken away from this node"
    CLEAN_LOST = "cleaning up, taken away from this node"
    STUCK_LOST = "cannot be ended, taken away from this node"
    GONE = "gone"


class Event(Enum):
    """What can happen to a VM. C{KILL} is a stop that asks nobody."""

    STOP = "stop"
    KILL = "kill"
    LOST = "lost"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    GUEST_ALIVE = "guest alive"
    GUEST_DEAD = "guest dead"
    DOMAIN_EXITED = "domain exited"


class Effect(Enum):
    """What the runner does on entering a step."""

    QUEUE = "queue"
    PREPARE = "prepare"
    BOOT = "boot"
    WATCH_GUEST = "watch guest"
    POWER_OFF = "power off"
    TERMINATE = "terminate"
    KILL = "kill"
    DESTROY = "destroy"
    RELEASE = "release"
    FORGET = "forget"


class Work(Enum):
    """Kinds of work that a node does for so many VMs at a time only. Each has a budget of its own, so that stops never
    wait behind boots, nor boots behind an image that is being unpacked."""

    UNPACK = "unpack"
    BOOT = "boot"
    STOP = "stop"


@frozen
class Go:
    """Enter another step; the effect of the old one is abandoned."""

    step: Step


class Stay(Enum):
    """Verdicts that leave the step as it is."""

    IGNORE = "ignore"
    POSTPONE = "postpone"


Verdict: TypeAlias = Go | Stay
IGNORE, POSTPONE = Stay.IGNORE, Stay.POSTPONE

STATE: Mapping[Step, VMState] = {
    Step.QUEUED: VMState.STARTING,
    Step.PREPARE: VMState.STARTING,
    Step.PREPARED: VMState.STARTING,
    Step.BOOT: VMState.STARTING,
    Step.AWAIT_GUEST: VMState.STARTING,
    Step.RUNNING: VMState.RUNNING,
    Step.SHUTDOWN: VMState.STOPPING,
    Step.AWAIT_EXIT: VMState.STOPPING,
    Step.TERMINATE: VMState.ZOMBIE,
    Step.KILL: VMState.ZOMBIE,
    Step.CLEAN: VMState.STOPPING,
    Step.RELEASE: VMState.STOPPING,
    Step.STUCK: VMState.ZOMBIE,
    Step.RELEASED: VMState.STOPPED,
    Step.KILL_LOST: VMState.ZOMBIE,
    Step.CLEAN_LOST: VMState.ZOMBIE,
    Step.STUCK_LOST: VMState.ZOMBIE,
    Step.GONE: VMState.STOPPED,
}

EFFECT: Mapping[Step, Effect | None] = {
    Step.QUEUED: Effect.QUEUE,
    Step.PREPARE: Effect.PREPARE,
    Step.PREPARED: Effect.QUEUE,
    Step.BOOT: Effect.BOOT,
    Step.AWAIT_GUEST: Effect.WATCH_GUEST,
    Step.RUNNING: Effect.WATCH_GUEST,
    Step.SHUTDOWN: Effect.POWER_OFF,
    Step.AWAIT_EXIT: None,
    Step.TERMINATE: Effect.TERMINATE,
    Step.KILL: Effect.KILL,
    Step.CLEAN: Effect.DESTROY,
    Step.RELEASE: Effect.RELEASE,
    Step.STUCK: None,
    Step.RELEASED: Effect.FORGET,
    Step.KILL_LOST: Effect.KILL,
    Step.CLEAN_LOST: Effect.DESTROY,
    Step.STUCK_LOST: None,
    Step.GONE: Effect.FORGET,
}

WORK: Mapping[Step, Work | None] = {
    Step.QUEUED: Work.UNPACK,
    Step.PREPARE: Work.UNPACK,
    Step.PREPARED: Work.BOOT,
    Step.BOOT: Work.BOOT,
    Step.AWAIT_GUEST: Work.BOOT,
    Step.RUNNING: None,
    Step.SHUTDOWN: Work.STOP,
    Step.AWAIT_EXIT: Work.STOP,
    Step.TERMINATE: Work.STOP,
    Step.KILL: Work.STOP,
    Step.CLEAN: Work.STOP,
    Step.RELEASE: None,
    # While nothing is tried it takes nothing: VMs that cannot be ended must not block the stops of others.
    Step.STUCK: None,
    Step.RELEASED: None,
    # A VM that another node may start by now is killed at once, however many there are.
    Step.KILL_LOST: None,
    Step.CLEAN_LOST: None,
    Step.STUCK_LOST: None,
    Step.GONE: None,
}
"""The budget in which a step has its slot, or waits for one."""

QUEUES: frozenset[Step] = frozenset({Step.QUEUED, Step.PREPARED})
"""Steps that wait for a slot and do nothing else. L{Event.DONE}: it is there."""

OWNED: frozenset[Step] = frozenset(Step) - {Step.KILL_LOST, Step.CLEAN_LOST, Step.STUCK_LOST, Step.GONE}
"""Steps in which the row is this node's to write."""

LAST: frozenset[Step] = frozenset({Step.RELEASED, Step.GONE})
"""Steps after which the runner has nothing left to do."""


def _row(
    *,
    stop: Verdict,
    kill: Verdict,
    lost: Verdict,
    done: Verdict,
    failed: Verdict,
    timed_out: Verdict,
    alive: Verdict,
    dead: Verdict,
    exited: Verdict,
) -> Mapping[Event, Verdict]:
    """One row of the table; keyword arguments without defaults make a forgotten verdict an error."""
    return {
        Event.STOP: stop,
        Event.KILL: kill,
        Event.LOST: lost,
        Event.DONE: done,
        Event.FAILED: failed,
        Event.TIMED_OUT: timed_out,
        Event.GUEST_ALIVE: alive,
        Event.GUEST_DEAD: dead,
        Event.DOMAIN_EXITED: exited,
    }


_LOST = Go(Step.KILL_LOST)

# fmt: off
TABLE: Mapping[Step, Mapping[Event, Verdict]] = {
    # Nothing was made ready yet, so nothing is to be cleaned up.
    Step.QUEUED: _row(
        stop=Go(Step.RELEASE), kill=Go(Step.RELEASE), lost=_LOST,
        done=Go(Step.PREPARE), failed=Go(Step.RELEASE), timed_out=Go(Step.RELEASE),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.PREPARE: _row(
        stop=Go(Step.CLEAN), kill=Go(Step.CLEAN), lost=_LOST,
        done=Go(Step.PREPARED), failed=Go(Step.CLEAN), timed_out=Go(Step.CLEAN),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.PREPARED: _row(
        stop=Go(Step.CLEAN), kill=Go(Step.CLEAN), lost=_LOST,
        done=Go(Step.BOOT), failed=Go(Step.CLEAN), timed_out=Go(Step.CLEAN),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    # A stop waits for the hypervisor's answer, which is never long, so that what to end is known. A domain that
    # exits before the answer is killed too: what else the driver made must not be taken for absent.
    Step.BOOT: _row(
        stop=POSTPONE, kill=POSTPONE, lost=_LOST,
        done=Go(Step.AWAIT_GUEST), failed=Go(Step.KILL), timed_out=Go(Step.KILL),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.KILL),
    ),
    Step.AWAIT_GUEST: _row(
        stop=Go(Step.TERMINATE), kill=Go(Step.KILL), lost=_LOST,
        done=IGNORE, failed=Go(Step.TERMINATE), timed_out=Go(Step.TERMINATE),
        alive=Go(Step.RUNNING), dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.RUNNING: _row(
        stop=Go(Step.SHUTDOWN), kill=Go(Step.KILL), lost=_LOST,
        done=IGNORE, failed=IGNORE, timed_out=IGNORE,
        alive=IGNORE, dead=Go(Step.TERMINATE), exited=Go(Step.CLEAN),
    ),
    Step.SHUTDOWN: _row(
        stop=IGNORE, kill=Go(Step.KILL), lost=_LOST,
        done=Go(Step.AWAIT_EXIT), failed=Go(Step.TERMINATE), timed_out=Go(Step.TERMINATE),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.AWAIT_EXIT: _row(
        stop=IGNORE, kill=Go(Step.KILL), lost=_LOST,
        done=IGNORE, failed=IGNORE, timed_out=Go(Step.TERMINATE),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.TERMINATE: _row(
        stop=IGNORE, kill=Go(Step.KILL), lost=_LOST,
        done=IGNORE, failed=Go(Step.KILL), timed_out=Go(Step.KILL),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.KILL: _row(
        stop=IGNORE, kill=IGNORE, lost=_LOST,
        done=Go(Step.CLEAN), failed=Go(Step.STUCK), timed_out=Go(Step.STUCK),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.STUCK: _row(
        stop=IGNORE, kill=Go(Step.KILL), lost=_LOST,
        done=IGNORE, failed=IGNORE, timed_out=Go(Step.KILL),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN),
    ),
    Step.CLEAN: _row(
        stop=IGNORE, kill=IGNORE, lost=_LOST,
        done=Go(Step.RELEASE), failed=Go(Step.STUCK), timed_out=Go(Step.STUCK),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.RELEASE: _row(
        stop=IGNORE, kill=IGNORE, lost=Go(Step.GONE),
        done=Go(Step.RELEASED), failed=IGNORE, timed_out=Go(Step.RELEASE),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.RELEASED: _row(
        stop=IGNORE, kill=IGNORE, lost=IGNORE,
        done=IGNORE, failed=IGNORE, timed_out=IGNORE,
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.KILL_LOST: _row(
        stop=IGNORE, kill=IGNORE, lost=IGNORE,
        done=Go(Step.CLEAN_LOST), failed=Go(Step.STUCK_LOST), timed_out=Go(Step.STUCK_LOST),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN_LOST),
    ),
    Step.STUCK_LOST: _row(
        stop=IGNORE, kill=IGNORE, lost=IGNORE,
        done=IGNORE, failed=IGNORE, timed_out=Go(Step.KILL_LOST),
        alive=IGNORE, dead=IGNORE, exited=Go(Step.CLEAN_LOST),
    ),
    Step.CLEAN_LOST: _row(
        stop=IGNORE, kill=IGNORE, lost=IGNORE,
        done=Go(Step.GONE), failed=Go(Step.STUCK_LOST), timed_out=Go(Step.STUCK_LOST),
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
    Step.GONE: _row(
        stop=IGNORE, kill=IGNORE, lost=IGNORE,
        done=IGNORE, failed=IGNORE, timed_out=IGNORE,
        alive=IGNORE, dead=IGNORE, exited=IGNORE,
    ),
}
# fmt: on


@frozen
class Position:
    """Where a VM is.

    @ivar turn: grows with each step entered; the outcome of an effect carries the turn it was started in, and an
        outcome of an older turn is dropped.
    @ivar postponed: events kept for the next step.
    """

    step: Step
    turn: int = 0
    postponed: tuple[Event, ...] = ()

    @property
    def state(self) -> VMState:
        return STATE[self.step]


def advance(at: Position, event: Event) -> Position:
    """The position after C{event}. A change of L{Position.turn} means that a step was entered, and that its
    L{EFFECT} is to be started once the row says so."""
    verdict = TABLE[at.step][event]
    match verdict:
        case Stay.IGNORE:
            return at
        case Stay.POSTPONE:
            return at if event in at.postponed else evolve(at, postponed=(*at.postponed, event))
        case Go(step):
            return Position(step, at.turn + 1, at.postponed)


def due(at: Position) -> tuple[Position, tuple[Event, ...]]:
    """Take the postponed events out, to be told again in the step just entered."""
    return evolve(at, postponed=()), at.postponed
