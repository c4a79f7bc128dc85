# -*- test-case-name: tests.unit.test_model_host -*-
"""
When a silent node may be declared lost by another one, as far as the other one's own clock has a say.

That a lease is over is the database's to say. But a database that was away, was restarted, or has failed over to
another server may show leases as over of nodes that are well, or that have not noticed yet. A node keeps to its lease
by its own clock, so whoever has watched the same server answer for a whole lease knows that a lease which is over by
now is over for its node too.
"""

from __future__ import annotations

from attrs import frozen

from qvd.model.records import ServerClock

LOST_PHASE = "lost"
"""Column C{vm_runtimes.phase} of a VM that was taken from a node that is lost or being drained, until it gets another
one."""


def lost_sentence(name: str, which: str) -> str:
    """For the user of something that was the node's."""
    return f"The node {name}, {which}, does not answer any more"


@frozen
class Steadiness:
    """The same server has answered each question, and its time has gone as ours does.

    @ivar since: our time of the first answer.
    @ivar least: its time less ours, at least; C{most} at most: the answer was made some time between question and
        arrival.
    """

    server: str
    since: float
    least: float
    most: float

    def seconds(self, now: float) -> float:
        """How long it has lasted."""
        return now - self.since


def watch(
    before: Steadiness | None, clock: ServerClock, asked_at: float, answered_at: float, tolerance: float
) -> Steadiness:
    """One more answer: what was steady goes on, or begins anew with it.

    @param before: L{None} when a question was not answered, or none was asked yet.
    @param tolerance: by so many seconds the server's time may get ahead of ours, or fall behind.
    """
    least, most = clock.now - answered_at, clock.now - asked_at
    if (
        before is not None
        and before.server == clock.server
        and least <= before.most + tolerance
        and most >= before.least - tolerance
    ):
        return before
    return Steadiness(clock.server, answered_at, least, most)
