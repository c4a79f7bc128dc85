# -*- test-case-name: tests.unit.test_model_xsession -*-
"""
State of the X session in a guest, as orders and nxagent's log lines move it.

L{XState} has the names that the original agent reports (C{x_state}), so that its peers understand ours. L{Step} is
finer: it keeps apart what was ordered from what nxagent does by itself, because the hang-up signal I{toggles} nxagent
between connected and suspended. It is therefore sent only where the log says for certain which of the two it is.

nxagent 3.5.99.26 forgets a hang-up that comes within 50 ms of its line "Session suspended", and it answers one that
it has heard at once; hence L{Step.SETTLING}, and the steps that send it again where no answer came.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class XState(Enum):
    """What C{x_state} answers."""

    STOPPED = "stopped"
    PROVISIONING = "provisioning"
    STARTING = "starting"
    LISTENING = "listening"
    CONNECTED = "connected"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    STOPPING = "stopping"


class Step(Enum):
    """Where an X session is.

    @cvar PREPARING: account and hooks; nothing runs yet.
    @cvar NEGOTIATING: nxagent has taken a client, which may still prove to be none.
    @cvar PUSHING: the client was ordered out; nxagent has not answered.
    @cvar SUSPENDING: nxagent lost its client, or obeys. With a client that stays, 1 or 6 s were seen.
    @cvar SETTLING: it says that it is suspended, and does not hear signals yet.
    @cvar WAKING: hooks before a resume; nxagent is still suspended.
    @cvar RESUMING: it was ordered to resume, and has not answered.
    @cvar OPENING: it resumes, and does not listen yet.
    @cvar ENDING: nxagent ends by itself.
    """

    STOPPED = "stopped"
    PREPARING = "preparing"
    LAUNCHING = "launching"
    WAITING = "waiting"
    NEGOTIATING = "negotiating"
    CONNECTED = "connected"
    PUSHING = "pushing"
    PUSHING_AGAIN = "pushing again"
    SUSPENDING = "suspending"
    SETTLING = "settling"
    SUSPENDED = "suspended"
    WAKING = "waking"
    RESUMING = "resuming"
    RESUMING_AGAIN = "resuming again"
    OPENING = "opening"
    ENDING = "ending"
    TERMINATING = "terminating"
    KILLING = "killing"


class XEvent(Enum):
    """What moves it: orders, the outcome of a preparation, nxagent's log, exits, the clock.

    @cvar PUSH: suspend it.
    @cvar PART_EXITED: one of nxagent and the session program has ended, the other has not.
    @cvar EXITED: both have.
    """

    START = "start"
    PUSH = "push"
    STOP = "stop"
    KILL = "kill"
    READY = "ready"
    FAILED = "failed"
    WAITING = "waiting"
    ACCEPTED = "accepted"
    STARTED = "started"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    ENDING = "ending"
    PART_EXITED = "part exited"
    EXITED = "exited"
    TIMED_OUT = "timed out"


class Effect(Enum):
    """What is to be done on entering a step.

    @cvar LAUNCH: start nxagent.
    @cvar HANG_UP: send the signal that toggles.
    @cvar RUN_SESSION: start the session program where it does not run yet.
    @cvar CLEAN: remove what a dead nxagent left.
    """

    LAUNCH = "launch"
    HANG_UP = "hang up"
    RUN_SESSION = "run session"
    TERMINATE = "terminate"
    KILL = "kill"
    CLEAN = "clean"


REPORTED: Mapping[Step, XState] = {
    Step.STOPPED: XState.STOPPED,
    Step.PREPARING: XState.PROVISIONING,
    Step.LAUNCHING: XState.STARTING,
    Step.WAITING: XState.LISTENING,
    Step.NEGOTIATING: XState.CONNECTED,
    Step.CONNECTED: XState.CONNECTED,
    Step.PUSHING: XState.SUSPENDING,
    Step.PUSHING_AGAIN: XState.SUSPENDING,
    Step.SUSPENDING: XState.SUSPENDING,
    Step.SETTLING: XState.SUSPENDING,
    Step.SUSPENDED: XState.SUSPENDED,
    Step.WAKING: XState.STARTING,
    Step.RESUMING: XState.STARTING,
    Step.RESUMING_AGAIN: XState.STARTING,
    Step.OPENING: XState.STARTING,
    Step.ENDING: XState.STOPPING,
    Step.TERMINATING: XState.STOPPING,
    Step.KILLING: XState.STOPPING,
}

EFFECT: Mapping[Step, Effect | None] = {
    Step.STOPPED: Effect.CLEAN,
    Step.PREPARING: None,
    Step.LAUNCHING: Effect.LAUNCH,
    Step.WAITING: None,
    Step.NEGOTIATING: None,
    Step.CONNECTED: Effect.RUN_SESSION,
    Step.PUSHING: Effect.HANG_UP,
    Step.PUSHING_AGAIN: Effect.HANG_UP,
    Step.SUSPENDING: None,
    Step.SETTLING: None,
    Step.SUSPENDED: None,
    Step.WAKING: None,
    Step.RESUMING: Effect.HANG_UP,
    Step.RESUMING_AGAIN: Effect.HANG_UP,
    Step.OPENING: None,
    Step.ENDING: None,
    Step.TERMINATING: Effect.TERMINATE,
    Step.KILLING: Effect.KILL,
}


def _row(
    *,
    start: Step | None,
    push: Step | None,
    stop: Step | None,
    kill: Step | None,
    ready: Step | None,
    failed: Step | None,
    waiting: Step | None,
    accepted: Step | None,
    started: Step | None,
    suspending: Step | None,
    suspended: Step | None,
    resuming: Step | None,
    ending: Step | None,
    part_exited: Step | None,
    exited: Step | None,
    timed_out: Step | None,
) -> Mapping[XEvent, Step | None]:
    """One row; L{None} is "stay". No event has a default."""
    return {
        XEvent.START: start,
        XEvent.PUSH: push,
        XEvent.STOP: stop,
        XEvent.KILL: kill,
        XEvent.READY: ready,
        XEvent.FAILED: failed,
        XEvent.WAITING: waiting,
        XEvent.ACCEPTED: accepted,
        XEvent.STARTED: started,
        XEvent.SUSPENDING: suspending,
        XEvent.SUSPENDED: suspended,
        XEvent.RESUMING: resuming,
        XEvent.ENDING: ending,
        XEvent.PART_EXITED: part_exited,
        XEvent.EXITED: exited,
        XEvent.TIMED_OUT: timed_out,
    }


_OFF, _TERM, _KILL, _END = Step.STOPPED, Step.TERMINATING, Step.KILLING, Step.ENDING
_WAIT, _TAKE, _ON = Step.WAITING, Step.NEGOTIATING, Step.CONNECTED
_LOSE, _DOZE, _OPEN = Step.SUSPENDING, Step.SETTLING, Step.OPENING

# In a step of a living nxagent its log is followed wherever it leads, also without an order.
# fmt: off
TABLE: Mapping[Step, Mapping[XEvent, Step | None]] = {
    Step.STOPPED: _row(
        start=Step.PREPARING, push=None, stop=None, kill=None, ready=None, failed=None,
        waiting=None, accepted=None, started=None, suspending=None, suspended=None, resuming=None, ending=None,
        part_exited=None, exited=None, timed_out=None,
    ),
    Step.PREPARING: _row(
        start=None, push=None, stop=_OFF, kill=_OFF, ready=Step.LAUNCHING, failed=_OFF,
        waiting=None, accepted=None, started=None, suspending=None, suspended=None, resuming=None, ending=None,
        part_exited=None, exited=None, timed_out=_OFF,
    ),
    Step.LAUNCHING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=_OFF,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.WAITING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=None, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    # A hang-up here throws a mute client out: a fresh nxagent then aborts, a resumed one is suspended again.
    Step.NEGOTIATING: _row(
        start=None, push=Step.PUSHING, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=None, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.CONNECTED: _row(
        start=None, push=Step.PUSHING, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=None, started=None, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=None,
    ),
    # Its client may have gone by itself just before, and the hang-up then resumes it: the log says so, too.
    Step.PUSHING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=None, started=None, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=Step.PUSHING_AGAIN,
    ),
    Step.PUSHING_AGAIN: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=None, started=None, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.SUSPENDING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=None, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.SETTLING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=None, suspended=None, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=Step.SUSPENDED,
    ),
    Step.SUSPENDED: _row(
        start=Step.WAKING, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=None, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=None,
    ),
    Step.WAKING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=Step.RESUMING, failed=Step.SUSPENDED,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=None, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=Step.SUSPENDED,
    ),
    Step.RESUMING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=Step.RESUMING_AGAIN,
    ),
    Step.RESUMING_AGAIN: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=_OPEN, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.OPENING: _row(
        start=None, push=None, stop=_TERM, kill=_KILL, ready=None, failed=None,
        waiting=_WAIT, accepted=_TAKE, started=_ON, suspending=_LOSE, suspended=_DOZE, resuming=None, ending=_END,
        part_exited=_TERM, exited=_OFF, timed_out=_TERM,
    ),
    Step.ENDING: _row(
        start=None, push=None, stop=None, kill=_KILL, ready=None, failed=None,
        waiting=None, accepted=None, started=None, suspending=None, suspended=None, resuming=None, ending=None,
        part_exited=_TERM, exited=_OFF, timed_out=_KILL,
    ),
    Step.TERMINATING: _row(
        start=None, push=None, stop=None, kill=_KILL, ready=None, failed=None,
        waiting=None, accepted=None, started=None, suspending=None, suspended=None, resuming=None, ending=None,
        part_exited=None, exited=_OFF, timed_out=_KILL,
    ),
    Step.KILLING: _row(
        start=None, push=None, stop=None, kill=_KILL, ready=None, failed=None,
        waiting=None, accepted=None, started=None, suspending=None, suspended=None, resuming=None, ending=None,
        part_exited=None, exited=_OFF, timed_out=_KILL,
    ),
}
# fmt: on


def advance(step: Step, event: XEvent) -> Step | None:
    """The step that C{event} leads into, whose L{EFFECT} is then to be started; L{None}: nothing changes."""
    return TABLE[step][event]
