"""The sign of life, and the fence that falls when it fails."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from qvd.hkd.heartbeat import GRACE, MARGIN, Heartbeat, LeaseTimes
from qvd.model.errors import DatabaseUnavailable, TransientError, Unavailable
from qvd.model.ids import Epoch
from qvd.model.records import Capacity, Drain, HostState, Lease
from tests.fakes.case import Case
from tests.fakes.deadline import FakeDeadline
from tests.fakes.hosts import FakeHosts

TIMES = LeaseTimes(lease=40.0, renew=5.0)
FENCE = TIMES.lease * (1 - MARGIN)
CAPACITY = Capacity(1 << 30, 2.0, 1 << 29, 1.5)


class HeartbeatTests(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.hosts = FakeHosts()
        self.hosts.epoch = Epoch(3)
        self.hosts.state = HostState.RUNNING
        self.lease = Lease(self.hosts.host_id, Epoch(3))
        self.deadline = FakeDeadline()
        self.losses: list[str] = []
        self.renewals = 0
        self.heartbeat = Heartbeat(
            self.clock,
            self.hosts,
            self.deadline,
            self.lease,
            TIMES,
            lambda: CAPACITY,
            self.losses.append,
            self.renewed,
        )

    async def renewed(self) -> None:
        self.renewals += 1

    def start(self) -> None:
        self.heartbeat.start(self.clock.seconds())

    def pass_time(self, seconds: float) -> None:
        """In small steps, as real time does."""
        self.clock.pump([0.5] * int(seconds * 2))

    def test_it_renews_every_few_seconds(self) -> None:
        self.start()
        self.pass_time(10)
        assert self.hosts.conduct.of("renew") == [(self.lease, 40.0, CAPACITY)] * 3
        assert self.renewals == 3

    def test_a_lease_that_is_renewed_is_never_lost(self) -> None:
        self.start()
        self.pass_time(10 * TIMES.lease)
        assert self.losses == []
        assert self.heartbeat.lease() == self.lease

    def test_the_fence_falls_before_the_lease_is_over(self) -> None:
        self.hosts.conduct.always_fail("renew", DatabaseUnavailable("away"))
        self.start()
        self.pass_time(FENCE - 0.5)
        assert self.losses == []
        self.pass_time(0.5)
        assert self.losses == ["The lease could not be renewed in time"]
        assert TIMES.lease > FENCE

    def test_a_process_that_was_stopped_fences_itself_before_it_writes(self) -> None:
        self.start()
        renewals = self.hosts.conduct.count("renew")
        # All timers are overdue at once, the next renewal first.
        self.clock.advance(FENCE)
        assert self.losses == ["The lease could not be renewed in time"]
        assert self.hosts.conduct.count("renew") == renewals

    def test_nor_does_it_give_its_lease_to_anybody(self) -> None:
        self.start()
        self.clock.rightNow += FENCE
        with pytest.raises(Unavailable):
            self.heartbeat.lease()
        assert self.losses == ["The lease could not be renewed in time"]

    def test_the_fence_is_counted_from_the_registration_at_first(self) -> None:
        self.hosts.conduct.always_fail("renew", DatabaseUnavailable("away"))
        self.heartbeat.start(self.clock.seconds() - 20)
        self.pass_time(FENCE - 20.5)
        assert self.losses == []
        self.pass_time(0.5)
        assert len(self.losses) == 1

    def test_a_registration_that_took_too_long_is_lost_at_once(self) -> None:
        self.hosts.conduct.hold("renew")
        self.heartbeat.start(self.clock.seconds() - 100)
        self.clock.advance(0)
        assert len(self.losses) == 1

    def test_the_fence_is_counted_from_when_the_renewal_was_sent(self) -> None:
        self.start()
        self.clock.advance(5)  # one more, answered
        held = self.hosts.conduct.hold("renew", after=True)
        self.clock.advance(5)
        sent_at = self.clock.seconds()
        self.pass_time(15)
        self.hosts.conduct.always_fail("renew", DatabaseUnavailable("away"))
        held.go_on()
        self.pass_time(sent_at + FENCE - self.clock.seconds() - 0.5)
        assert self.losses == []
        self.pass_time(0.5)
        assert len(self.losses) == 1

    def test_a_mute_database_does_not_keep_the_fence_up(self) -> None:
        self.hosts.conduct.hold("renew")
        self.start()
        self.pass_time(FENCE)
        assert len(self.losses) == 1

    def test_a_database_that_comes_back_in_time_saves_the_lease(self) -> None:
        self.hosts.conduct.always_fail("renew", DatabaseUnavailable("away"))
        self.start()
        self.pass_time(20)
        self.hosts.conduct.recover("renew")
        self.pass_time(100)
        assert self.losses == []

    def test_a_lease_taken_away_ends_at_once_and_once(self) -> None:
        self.start()
        self.hosts.be_lost()
        self.pass_time(5)
        assert len(self.losses) == 1
        self.pass_time(200)
        assert len(self.losses) == 1

    def test_after_the_loss_there_is_no_lease_and_no_renewal(self) -> None:
        self.start()
        self.hosts.be_lost()
        self.pass_time(5)
        renewals = self.hosts.conduct.count("renew")
        self.pass_time(50)
        assert self.hosts.conduct.count("renew") == renewals
        with pytest.raises(Unavailable):
            self.heartbeat.lease()

    def test_an_answer_after_the_fence_does_not_bring_the_lease_back(self) -> None:
        held = self.hosts.conduct.hold("renew", after=True)
        self.start()
        self.pass_time(FENCE)
        held.go_on()
        self.pass_time(200)
        assert len(self.losses) == 1
        with pytest.raises(Unavailable):
            self.heartbeat.lease()
        assert self.heartbeat.refusal() == "Server is lost"

    def test_a_failure_after_the_renewal_does_not_spoil_it(self) -> None:
        async def fail() -> None:
            raise DatabaseUnavailable("away")

        heartbeat = Heartbeat(
            self.clock, self.hosts, self.deadline, self.lease, TIMES, lambda: CAPACITY, self.losses.append, fail
        )
        heartbeat.start(self.clock.seconds())
        self.pass_time(200)
        assert self.losses == []

    def test_the_watchdog_is_told_of_each_confirmed_renewal(self) -> None:
        self.start()
        self.pass_time(10)
        last = TIMES.lease * (1 - MARGIN + GRACE)
        assert self.deadline.told == [(self.lease, sent_at + last) for sent_at in (1000.0, 1005.0, 1010.0)]
        assert TIMES.lease > last > FENCE

    def test_it_is_told_of_no_renewal_before_its_answer(self) -> None:
        held = self.hosts.conduct.hold("renew", after=True)
        self.start()
        self.pass_time(20)
        assert self.deadline.told == []
        held.go_on()
        assert self.deadline.told == [(self.lease, TIMES.deadline(1000.0))]

    def test_nor_of_one_that_failed(self) -> None:
        self.start()
        self.hosts.conduct.fail("renew", DatabaseUnavailable("away"))
        self.pass_time(5)
        self.hosts.be_lost()
        self.pass_time(5)
        assert self.deadline.told == [(self.lease, TIMES.deadline(1000.0))]

    def test_nor_of_one_that_was_answered_after_the_fence(self) -> None:
        held = self.hosts.conduct.hold("renew", after=True)
        self.start()
        self.pass_time(FENCE)
        held.go_on()
        self.pass_time(200)
        assert self.deadline.told == []

    def test_a_renewal_that_the_watchdog_cannot_be_told_of_is_none(self) -> None:
        self.start()
        self.deadline.error = TransientError("no space left on device")
        self.pass_time(FENCE - 0.5)
        assert (self.losses, self.renewals) == ([], 1)
        self.pass_time(0.5)
        assert self.losses == ["The lease could not be renewed in time"]

    def test_stop_leaves_nothing_and_tells_nobody(self) -> None:
        self.start()
        self.result(self.heartbeat.stop())
        assert self.clock.getDelayedCalls() == []
        self.pass_time(200)
        assert self.losses == []

    def test_stop_during_a_renewal_leaves_nothing_either(self) -> None:
        held = self.hosts.conduct.hold("renew")
        self.start()
        stopping = self.begin(self.heartbeat.stop())
        held.go_on()
        self.result(stopping)
        assert self.clock.getDelayedCalls() == []

    def test_news_of_its_row_are_read_at_once(self) -> None:
        self.start()
        assert not self.heartbeat.draining()
        self.hosts.drain_mode = Drain.WAIT
        self.heartbeat.now()
        assert self.heartbeat.draining()
        assert self.heartbeat.refusal() is None, "clients still find their desktops through it"

    def test_why_the_node_serves_nobody(self) -> None:
        self.hosts.conduct.fail("renew", DatabaseUnavailable("away"))
        self.start()
        assert self.refusal() == "Server is starting"
        self.pass_time(5)
        assert self.refusal() is None
        for state in (HostState.STARTING, HostState.STOPPING, HostState.STOPPED):
            self.hosts.state = state
            self.pass_time(5)
            assert self.refusal() == f"Server is {state.value}"
        self.hosts.state, self.hosts.blocked = HostState.RUNNING, True
        self.pass_time(5)
        assert self.refusal() == "Server is blocked"
        self.hosts.be_lost()
        self.pass_time(5)
        assert self.refusal() == "Server is lost"

    def refusal(self) -> str | None:
        return self.heartbeat.refusal()
