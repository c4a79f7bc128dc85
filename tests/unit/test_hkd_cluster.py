"""When a node may judge others, and what becomes of the orders that a lost one had."""

from __future__ import annotations

from twisted.internet.task import Clock

from qvd.hkd.cluster import AGAIN, Cluster, ClusterTimes
from qvd.model.errors import DatabaseUnavailable, NotFound
from qvd.model.ids import Epoch, VMId
from qvd.model.records import Desired, Lease, LostNode
from qvd.model.vm import VMState
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.hosts import FakeHosts
from tests.fakes.ownership import HOST, FakeVMs, Rows, vm_row

AWAY = DatabaseUnavailable("The database does not answer")
TIMES = ClusterTimes(interval=5.0, margin=5.0, lease=30.0)
N2 = LostNode("n2", 3, 2)


class ClusterCase(Case):
    def setUp(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        self.hosts = FakeHosts("n1", self.conduct)
        self.ahead = 1e6
        self.hosts.time = lambda: self.clock.seconds() + self.ahead
        self.hosts.overdue = [N2]
        self.rows = Rows(vm_row(1), vm_row(2))
        lease: Lease = self.result(self.hosts.register("n1", "192.0.2.7", 30.0))
        self.cluster = Cluster(self.clock, lease, self.hosts, FakeVMs(self.rows, self.conduct), TIMES)

    def tearDown(self) -> None:
        self.result(self.cluster.stop())
        assert self.clock.getDelayedCalls() == []

    def spend(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)

    def declared(self) -> bool:
        return self.hosts.overdue == []


class DeclareTests(ClusterCase):
    def test_not_before_a_whole_lease_has_passed(self) -> None:
        self.cluster.start()
        self.spend(29)
        assert self.conduct.count("declare_lost") == 0
        self.spend(1)
        assert self.declared()
        ((_, margin, clock, steady),) = self.conduct.of("declare_lost")
        assert (margin, steady) == (5.0, 30.0)
        assert clock == self.result(self.hosts.read_clock())

    def test_then_at_each_look(self) -> None:
        self.cluster.start()
        self.spend(30)
        self.hosts.overdue = [N2]
        self.spend(5)
        assert self.declared()

    def test_a_database_that_was_away_must_answer_for_a_whole_lease_again(self) -> None:
        self.cluster.start()
        self.spend(24)
        self.conduct.fail("read_clock", AWAY)
        self.spend(1)
        self.spend(34)
        assert not self.declared()
        self.spend(1)
        assert self.declared()

    def test_so_must_one_that_went_away_later(self) -> None:
        for name in ("declare_lost", "unplaced"):
            self.setUp()
            self.cluster.start()
            self.spend(29)
            self.hosts.overdue = [N2]
            self.conduct.fail(name, AWAY)
            self.spend(1)
            self.hosts.overdue = [N2]
            self.spend(34)
            assert not self.declared(), name
            self.spend(1)
            assert self.declared(), name
            self.result(self.cluster.stop())

    def test_and_one_that_was_restarted_between_two_looks(self) -> None:
        self.cluster.start()
        self.spend(22)
        self.hosts.server = "second run"
        self.spend(32)
        assert not self.declared()
        self.spend(1)
        assert self.declared()

    def test_and_one_whose_clock_was_set(self) -> None:
        for step in (3600.0, -3600.0, 26.0):
            self.setUp()
            self.cluster.start()
            self.spend(22)
            self.ahead += step
            self.spend(32)
            assert not self.declared(), step
            self.spend(1)
            assert self.declared(), step
            self.result(self.cluster.stop())

    def test_a_node_that_is_lost_itself_judges_nobody(self) -> None:
        self.cluster.start()
        self.spend(29)
        self.hosts.be_lost()
        self.spend(10)
        assert not self.declared()

    def test_nor_does_an_older_epoch(self) -> None:
        self.cluster.start()
        self.spend(29)
        self.hosts.epoch = Epoch(9)
        self.spend(10)
        assert not self.declared()

    def test_a_stop_waits_for_the_look_that_is_under_way(self) -> None:
        held = self.conduct.hold("read_clock")
        self.cluster.start()
        stopping = self.begin(self.cluster.stop())
        assert self.waits(stopping)
        held.go_on()
        self.result(stopping)


class OrderTests(ClusterCase):
    def lose(self, state: VMState) -> None:
        """The node of VM 1 is lost before it has taken the newest order up."""
        self.rows.order(1, Desired.RUNNING)
        self.rows.write(1, state=state)
        self.rows.lose_node(1)

    def test_an_order_that_lost_its_node_gets_another_one_at_once(self) -> None:
        self.lose(VMState.STOPPED)
        self.cluster.start()
        vm = self.rows[1]
        assert (vm.host_id, vm.desired, vm.state) == (HOST, Desired.RUNNING, VMState.STOPPED)
        assert self.conduct.of("place_again") == [(VMId(1), AGAIN)]

    def test_it_is_withdrawn_where_no_node_can_take_it(self) -> None:
        self.lose(VMState.STOPPING)
        self.rows.full = True
        self.cluster.start()
        vm = self.rows[1]
        assert (vm.host_id, vm.desired, vm.generation) == (None, Desired.STOPPED, vm.acked)
        assert vm.last_error == "No node can take this virtual machine"

    def test_one_that_fails_holds_up_neither_the_others_nor_the_look_at_nodes(self) -> None:
        for error, logged in ((NotFound("The requested virtual machine does not exist"), 0), (ValueError("a row"), 1)):
            self.setUp()
            for vm_id in (1, 2):
                self.rows.order(vm_id, Desired.RUNNING)
                self.rows.lose_node(vm_id)
            self.conduct.fail("place_again", error)
            self.cluster.start()
            assert self.logged(ValueError) == logged
            assert (self.rows[1].host_id, self.rows[2].host_id) == (None, HOST)
            assert self.conduct.count("read_clock") == 1, "nodes are looked at all the same"
            self.result(self.cluster.stop())

    def test_others_are_left_alone(self) -> None:
        self.rows.order(2, Desired.RUNNING)
        self.cluster.start()
        assert self.conduct.count("place_again") == 0
