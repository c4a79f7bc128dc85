"""The dates of VMs, by the second: who is told, and what stops when."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.task import Clock

from qvd.hkd.expiry import ExpiryParts, ExpiryWatch
from qvd.model.errors import DatabaseUnavailable, GuestError
from qvd.model.expiry import Notice
from qvd.model.ids import Epoch, VMId
from qvd.model.records import Lease
from qvd.protocols.channels import expiry_on_host
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.expiry import FakeExpiry
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST

AWAY = DatabaseUnavailable("The database does not answer")
LEASE = Lease(HOST, Epoch(1))


class ExpiryCase(Case):
    def setUp(self) -> None:
        self.clock, self.bells, self.conduct = Clock(), FakeBells(), Conduct()
        self.rows = FakeExpiry(self.clock, self.conduct)
        self.guest = FakeGuest(self.conduct)
        self.watch = self.new_watch()

    def new_watch(self) -> ExpiryWatch:
        parts = ExpiryParts(self.rows, FakeDialer(self.guest), look=5.0, warning=30.0)
        return ExpiryWatch(self.clock, LEASE, self.bells, parts)

    def start(self) -> None:
        self.watch.start()

    def ring(self) -> None:
        self.bells.ring(expiry_on_host(HOST))

    def go(self, until: float) -> None:
        """In steps of a twentieth of a second."""
        while self.clock.seconds() < until:
            self.clock.advance(0.05)

    def told(self) -> list[object]:
        return [arguments[0] for arguments in self.conduct.of("expire")]


class StopTests(ExpiryCase):
    def test_each_stops_at_its_own_moment(self) -> None:
        dates = {vm_id: 1.0 + vm_id * 1.37 for vm_id in range(1, 20)}
        for vm_id, date in dates.items():
            self.rows.set(vm_id, soft=date) if vm_id % 2 else self.rows.set(vm_id, hard=date, connected=True)
        self.start()
        self.go(30)
        assert self.rows.stopped.keys() == dates.keys()
        assert max(abs(self.rows.stopped[VMId(vm_id)] - date) for vm_id, date in dates.items()) < 0.06

    def test_the_clock_of_the_database_is_the_one_that_counts(self) -> None:
        self.rows.now = lambda: self.clock.seconds() + 4000
        self.rows.set(1, hard=4003, connected=True)
        self.start()
        self.go(2.9)
        assert self.rows.stopped == {}
        self.go(3.1)
        assert 4003 <= self.rows.stopped[VMId(1)] < 4003.1

    def test_a_soft_date_waits_until_nobody_is_connected(self) -> None:
        self.rows.set(1, soft=1, connected=True)
        self.start()
        self.go(8.2)
        assert self.rows.stopped == {}
        self.rows.vms[VMId(1)] = evolve(self.rows.vms[VMId(1)], taken=False, connected=False)
        self.ring()
        assert self.rows.stopped.keys() == {1}

    def test_a_new_date_counts_at_once(self) -> None:
        self.rows.set(1, hard=2)
        self.rows.set(2, hard=100)
        self.start()
        self.rows.set(1, hard=50)
        self.rows.set(2, hard=1)
        self.ring()
        self.go(10)
        assert self.rows.stopped.keys() == {2}

    def test_a_date_that_is_taken_back(self) -> None:
        self.rows.set(1, hard=2)
        self.start()
        del self.rows.vms[VMId(1)]
        self.go(10)
        assert self.rows.stopped == {}

    def test_without_a_bell_the_next_look_finds_it(self) -> None:
        self.start()
        self.rows.set(1, hard=0)
        self.go(5.1)
        assert self.rows.stopped.keys() == {1}

    def test_what_comes_while_a_look_is_under_way(self) -> None:
        self.start()
        held = self.conduct.hold("expiring", after=True)
        self.ring()
        self.rows.set(1, hard=0)
        self.ring()
        held.go_on()
        self.clock.advance(0)
        assert self.rows.stopped.keys() == {1}

    def test_it_goes_on_after_the_database_was_away(self) -> None:
        self.conduct.fail("expiring", AWAY)
        self.conduct.fail("stop_due", AWAY)
        self.rows.set(1, hard=0)
        self.start()
        self.go(10.1)
        assert self.rows.stopped.keys() == {1}

    def test_it_costs_one_query_a_look(self) -> None:
        for vm_id in range(1, 1000):
            self.rows.set(vm_id, soft=1e6, hard=1e6)
        self.start()
        self.clock.pump([1.0] * 50)
        assert self.conduct.names() == ["expiring"] * 11

    def test_nothing_is_left_when_it_stops(self) -> None:
        self.conduct.hold("expire")
        self.rows.set(1, soft=0, connected=True)
        self.rows.set(2, hard=3)
        self.start()
        self.result(self.watch.stop())
        assert self.clock.getDelayedCalls() == []
        assert self.bells.heard(expiry_on_host(HOST)) == 0
        self.go(10)
        assert self.rows.stopped == {}

    def test_a_look_that_ends_after_the_stop_sets_no_timer(self) -> None:
        self.rows.set(1, hard=3)
        held = self.conduct.hold("expiring", after=True)
        self.start()
        stopping = self.begin(self.watch.stop())
        assert self.waits(stopping)
        held.go_on()
        self.result(stopping)
        assert self.clock.getDelayedCalls() == []


class NoticeTests(ExpiryCase):
    def test_a_soft_date_is_told_when_it_comes_and_once(self) -> None:
        self.rows.set(1, soft=3, connected=True)
        self.start()
        self.go(2.9)
        assert self.told() == []
        self.go(3.1)
        assert self.told() == [{"vm.expiration.soft": "at 3"}]
        self.go(60)
        assert len(self.told()) == 1
        assert self.rows.stopped == {}

    def test_a_hard_date_is_told_so_long_before(self) -> None:
        self.rows.set(1, hard=40, connected=True)
        self.start()
        self.go(9.9)
        assert self.told() == []
        self.go(10.1)
        assert self.told() == [{"vm.expiration.hard": "at 40"}]
        self.go(41)
        assert len(self.told()) == 1
        assert self.rows.stopped.keys() == {1}

    def test_nobody_is_told_before_the_desktop_is_there(self) -> None:
        self.rows.set(1, soft=0, taken=True)
        self.start()
        self.go(6)
        assert self.told() == []
        self.rows.set(1, soft=0, connected=True)
        self.go(11)
        assert len(self.told()) == 1

    def test_another_date_is_told_again(self) -> None:
        self.rows.set(1, soft=1, connected=True)
        self.start()
        self.go(2)
        self.rows.set(1, soft=2, connected=True)
        self.ring()
        assert self.told() == [{"vm.expiration.soft": "at 1"}, {"vm.expiration.soft": "at 2"}]

    def test_once_survives_the_daemon(self) -> None:
        self.rows.set(1, soft=0, connected=True)
        self.start()
        self.result(self.watch.stop())
        self.new_watch().start()
        self.go(20)
        assert len(self.told()) == 1

    def test_once_though_it_could_not_be_written(self) -> None:
        self.conduct.fail("told", AWAY)
        self.rows.set(1, soft=0, connected=True)
        self.start()
        self.go(20)
        assert len(self.told()) == 1
        assert self.conduct.of("told") == [(1, Notice.SOFT, "at 0")] * 2

    def test_an_agent_that_refuses_is_asked_a_few_times(self) -> None:
        self.conduct.always_fail("expire", GuestError("the hook fails"))
        self.rows.set(1, soft=0, connected=True)
        self.start()
        self.go(60)
        assert len(self.told()) == 3
        assert self.conduct.count("told") == 1

    def test_a_slow_agent_holds_nobody_up(self) -> None:
        held = self.conduct.hold("expire")
        self.rows.set(1, soft=0, connected=True)
        self.rows.set(2, soft=1, connected=True)
        self.rows.set(3, hard=6)
        self.start()
        self.go(8)
        assert self.told() == [{"vm.expiration.soft": "at 0"}, {"vm.expiration.soft": "at 1"}]
        assert self.rows.stopped.keys() == {3}
        held.go_on()
        assert self.conduct.count("told") == 2

    def test_what_nobody_expects_is_logged(self) -> None:
        self.conduct.fail("expire", ZeroDivisionError())
        self.rows.set(1, soft=0, connected=True)
        self.start()
        assert self.logged(ZeroDivisionError) == 1
        self.go(6)
        assert len(self.told()) == 2
