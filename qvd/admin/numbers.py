# -*- test-case-name: tests.admin.test_metrics -*-
"""The administration as numbers, for Prometheus: its own calls, and the farm behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.admin.call import Answer, Call
from qvd.interfaces.farm import FarmNumbers, IFarm, VMStep
from qvd.model.errors import QVDError

FRESH = 5.0
"""Seconds for which the farm is not counted again, however many ask."""
MOST_STARTS = 100_000
"""VMs whose starts are followed at a time."""
CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PHASE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
STATES = ("stopped", "starting", "running", "stopping", "zombie")


class CallNumbers:
    """Counts calls and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("action", "method")
        self._calls = Counter("qvd_api_requests", "Calls of the API", (*labels, "status"), registry=registry)
        self._seconds = Histogram(
            "qvd_api_request_seconds",
            "From a request's end to its answer",
            labels,
            registry=registry,
            buckets=CALL_BUCKETS,
        )

    def answered(self, call: Call, answer: Answer, seconds: float) -> None:
        """One more. Actions are those of the declarations, so there are no more rows than operations."""
        labels = (call.endpoint.action, call.endpoint.method)
        self._calls.labels(*labels, str(answer.status)).inc()
        self._seconds.labels(*labels).observe(seconds)


class Starts:
    """Follows each VM from its order to its desktop, through what was written of it.

    @param phase: told the name of a phase that is over, and its seconds.
    """

    def __init__(self, phase: Callable[[str, float], object]) -> None:
        self._phase = phase
        self._begun: dict[int, Mapping[str, float]] = {}

    def follow(self, step: VMStep) -> None:
        """The next step of some VM."""
        before = self._begun.pop(step.vm_id, {})
        match step.kind:
            case "vm.ordered":
                self._keep(step.vm_id, {"ordered": step.at})
            case "vm.moved" if "ordered" in before:
                self._tell("placement", before, "ordered", step.at)
                self._keep(step.vm_id, {**before, "placed": step.at})
            case "vm.starting":
                self._tell("queue", before, "placed" if "placed" in before else "ordered", step.at)
                self._keep(step.vm_id, {**before, "starting": step.at})
            case "vm.running":
                self._tell("boot", before, "starting", step.at)
                self._tell("whole", before, "ordered", step.at)

    def _keep(self, vm_id: int, times: Mapping[str, float]) -> None:
        if len(self._begun) >= MOST_STARTS:
            self._begun.pop(next(iter(self._begun)))
        self._begun[vm_id] = times

    def _tell(self, phase: str, before: Mapping[str, float], since: str, at: float) -> None:
        if since in before:
            self._phase(phase, max(0.0, at - before[since]))


class FarmGauges:
    """The farm as it was counted last.

    @param farm: counts it.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, farm: IFarm, registry: CollectorRegistry) -> None:
        self._clock = clock
        self._farm = farm
        self._last: int | None = None
        self._counted_at: float | None = None
        self._sessions = Gauge("qvd_sessions", "Desktop sessions", ["node"], registry=registry)
        self._vms = Gauge("qvd_vms", "VMs by state", ["state"], registry=registry)
        self._queue = Gauge("qvd_queue_length", "What waits", ["queue"], registry=registry)
        self._lease = Gauge("qvd_node_lease_age_seconds", "Since a node's sign of life", ["node"], registry=registry)
        self._nodes = Gauge("qvd_nodes", "Nodes by state", ["state", "blocked"], registry=registry)
        phases = Histogram(
            "qvd_vm_start_seconds", "Phases of VMs' starts", ["phase"], registry=registry, buckets=PHASE_BUCKETS
        )
        self._starts = Starts(lambda phase, seconds: phases.labels(phase).observe(seconds))

    async def refresh(self) -> None:
        """Count the farm, unless that was done just now. While the database is away, there are no such numbers."""
        now = self._clock.seconds()
        if self._counted_at is not None and now - self._counted_at < FRESH:
            return
        self._counted_at = now
        try:
            numbers = await self._farm.count(self._last)
        except QVDError as error:
            self.log.warn("the farm cannot be counted: {reason}", reason=error.text)
            for gauge in self._gauges():
                gauge.clear()
            return
        self._show(numbers)

    def _gauges(self) -> tuple[Gauge, ...]:
        return (self._sessions, self._vms, self._queue, self._lease, self._nodes)

    def _show(self, numbers: FarmNumbers) -> None:
        for gauge in self._gauges():
            gauge.clear()
        self._last = numbers.last
        for state in STATES:
            self._vms.labels(state).set(numbers.vm_states.get(state, 0))
        self._queue.labels("placement").set(numbers.unplaced)
        self._queue.labels("start").set(numbers.queued)
        for node in numbers.nodes:
            self._sessions.labels(node.name).set(node.sessions)
            self._nodes.labels(node.state, str(node.blocked).lower()).inc()
            if node.lease_age is not None:
                self._lease.labels(node.name).set(node.lease_age)
        for step in numbers.steps:
            self._starts.follow(step)
