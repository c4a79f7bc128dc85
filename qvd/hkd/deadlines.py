# -*- test-case-name: tests.unit.test_hkd_runner -*-
"""How long each part of a VM's life may take. What clients are promised is made of the same numbers."""

from __future__ import annotations

from attrs import frozen

from qvd.model.vm import Step


@frozen
class Deadlines:
    """Seconds for each part of a VM's life.

    @ivar start: from its turn to a running guest, over all steps but the waiting ones.
    @ivar queue: for its turn, over all waiting steps of a start; and for the turn of a stop, which is then carried out
        all the same.
    @ivar retry: before a VM that cannot be ended is killed again, or a release that came to nothing is repeated.
    """

    start: float
    shutdown: float
    kill: float
    clean: float = 30.0
    retry: float = 10.0
    queue: float = 600.0

    @property
    def end(self) -> float:
        """From its turn to stop a running guest to its release, when all goes wrong but the last step."""
        steps = (Step.SHUTDOWN, Step.AWAIT_EXIT, Step.TERMINATE, Step.KILL, Step.CLEAN)
        return sum(self.of(step, 0.0) or 0.0 for step in steps)

    @property
    def until_up(self) -> float:
        """From the order to a running guest."""
        return self.queue + self.start

    @property
    def until_down(self) -> float:
        """From the order to stop a running guest to its release."""
        return self.queue + self.end

    def of(self, step: Step, elapsed: float, waited: float = 0.0) -> float | None:
        """Seconds for C{step}; L{None} for a step without a limit.

        @param elapsed: since the runner began, less C{waited}: what it has waited for its turn.
        """
        match step:
            case Step.QUEUED | Step.PREPARED:
                return max(self.queue - waited, 0.0)
            case Step.PREPARE | Step.BOOT | Step.AWAIT_GUEST:
                return max(self.start - elapsed, 0.0)
            case Step.SHUTDOWN | Step.AWAIT_EXIT:
                return self.shutdown
            case Step.TERMINATE:
                return self.kill
            case Step.KILL | Step.KILL_LOST:
                return 2 * self.kill
            case Step.CLEAN | Step.CLEAN_LOST:
                return self.clean
            case Step.STUCK | Step.STUCK_LOST | Step.RELEASE:
                return self.retry
            case Step.RUNNING | Step.RELEASED | Step.GONE:
                return None
