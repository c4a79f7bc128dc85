"""The daemon as a whole: what is started and stopped when, and what it does about a lost database or lease."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, TimeoutError

from qvd.hkd.node import LONGEST_PART, RETRY, Node, NodeTimes
from qvd.model.errors import DatabaseUnavailable, QVDError, TransientError, Unavailable
from qvd.model.ids import Epoch, VMId
from qvd.model.records import HostState, Lease
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.ownership import HOST
from tests.unit.test_hkd_tenure import World

AWAY = DatabaseUnavailable("The database does not answer")


class FakePart:
    """A part that writes down when it is started and stopped."""

    def __init__(self, conduct: Conduct, name: str) -> None:
        self._conduct = conduct
        self._name = name

    async def start(self) -> None:
        await self._conduct.before(f"start {self._name}")

    async def stop(self) -> None:
        await self._conduct.before(f"stop {self._name}")


class NodeCase(Case):
    stop_vms = False

    def setUp(self) -> None:
        self.world = World()
        self.conduct = self.world.conduct
        self.clock = self.world.clock
        self.ready = self.failed = 0
        self.node = Node(
            self.clock,
            below=(FakePart(self.conduct, "database"), FakePart(self.conduct, "bells")),
            parts=self.world.parts(),
            above=(FakePart(self.conduct, "news"), FakePart(self.conduct, "listener")),
            times=NodeTimes(stop=30.0, stop_vms=self.stop_vms),
            check=lambda: self.conduct.before("check"),
            ready=self.say_ready,
            failed=self.say_failed,
        )

    def say_ready(self) -> None:
        self.ready += 1

    def say_failed(self) -> None:
        self.failed += 1

    def order_of(self, *names: str) -> list[object]:
        return list(self.conduct.names(*names))

    def parts(self, verb: str) -> list[object]:
        return [name for name in self.conduct.names() if isinstance(name, str) and name.startswith(f"{verb} ")]

    def stop(self) -> Deferred[None]:
        return self.node.stopService()


class StartTests(NodeCase):
    def test_from_the_bottom_up(self) -> None:
        self.node.startService()
        order = self.order_of(
            "start database", "start bells", "check", "register", "set_state", "start news", "start listener"
        )
        assert order == [
            "start database",
            "start bells",
            "check",
            "register",
            "set_state",
            "start news",
            "start listener",
        ]
        assert self.ready == 1
        assert self.node.lease() == Lease(HOST, Epoch(1))
        assert self.node.refusal() is None

    def test_until_then_it_serves_nobody(self) -> None:
        held = self.conduct.hold("register")
        self.node.startService()
        assert self.node.refusal() == "Server is starting"
        with pytest.raises(Unavailable) as caught:
            self.node.lease()
        assert caught.value.retry_after
        assert self.parts("start") == ["start database", "start bells"]
        assert self.ready == 0
        held.go_on()
        assert self.ready == 1

    def test_it_waits_for_the_database(self) -> None:
        self.conduct.fail("start database", AWAY)
        self.conduct.fail("check", AWAY, AWAY)
        self.conduct.fail("register", AWAY)
        self.conduct.fail("bound", AWAY)
        self.node.startService()
        self.clock.pump([RETRY] * 4)
        assert self.ready == 0
        self.clock.advance(RETRY)
        assert self.ready == 1

    def test_an_incompatible_schema_is_not_touched(self) -> None:
        self.conduct.always_fail("check", QVDError("The schema is newer than this node"))
        self.node.startService()
        self.clock.pump([RETRY] * 5)
        assert self.conduct.count("register") == 0

    def test_a_port_that_somebody_else_has_ends_the_process(self) -> None:
        self.conduct.fail("start listener", OSError("Address already in use"))
        self.node.startService()
        assert self.logged(OSError) == 1
        assert (self.ready, self.failed) == (0, 1)


class LossTests(NodeCase):
    def setUp(self) -> None:
        super().setUp()
        self.node.startService()

    def lose(self) -> None:
        self.world.hosts.be_lost()
        self.clock.advance(5)

    def test_it_starts_anew_with_another_epoch(self) -> None:
        self.lose()
        assert self.node.lease() == Lease(HOST, Epoch(2))
        assert self.node.refusal() is None
        assert self.conduct.of("kill") == [(1,)]

    def test_clients_and_parts_stay(self) -> None:
        self.lose()
        assert self.conduct.count("start listener") == 1
        assert self.parts("stop") == []
        assert self.ready == 1

    def test_no_new_epoch_begins_before_every_vm_of_the_old_one_is_gone(self) -> None:
        held = self.conduct.hold("kill")
        self.lose()
        assert self.conduct.count("register") == 1
        assert self.node.refusal() is not None
        held.go_on()
        assert self.conduct.count("register") == 2

    def test_a_vm_that_cannot_be_killed_does_not_keep_the_node_out(self) -> None:
        self.conduct.always_fail("kill", TransientError("The processes of VM 1 do not end"))
        self.lose()
        self.clock.pump([1.0] * int(self.world.parts().ports.deadlines.end))
        assert self.conduct.count("register") == 2
        assert self.node.refusal() is None
        assert self.world.driver.domains[VMId(1)].running

    def test_it_waits_for_the_database_then(self) -> None:
        self.conduct.always_fail("renew", AWAY)
        self.conduct.always_fail("check", AWAY)
        self.clock.pump([1.0] * 30)
        assert self.conduct.count("kill") == 1
        assert self.node.refusal() == "Server is starting"
        self.conduct.recover("renew")
        self.conduct.recover("check")
        self.clock.advance(RETRY)
        assert self.node.refusal() is None

    def test_a_stop_waits_for_the_kills(self) -> None:
        """Whoever takes the VMs over relies on their being gone."""
        held = self.conduct.hold("kill")
        self.lose()
        stopping = self.stop()
        assert self.waits(stopping)
        held.go_on()
        self.result(stopping)
        assert self.world.driver.domains == {}


class StopTests(NodeCase):
    def setUp(self) -> None:
        super().setUp()
        self.node.startService()

    def test_from_the_top_down(self) -> None:
        self.result(self.stop())
        assert self.order_of("stop listener", "stop news", "set_state", "stop bells", "stop database") == [
            "set_state",  # running
            "stop listener",
            "stop news",
            "set_state",
            "set_state",
            "stop bells",
            "stop database",
        ]
        assert self.world.hosts.state is HostState.STOPPED

    def test_the_vms_stay(self) -> None:
        self.result(self.stop())
        assert self.conduct.names("kill", "poweroff", "shutdown") == []
        assert self.world.driver.domains[VMId(1)].running

    def test_nothing_is_left_that_still_turns(self) -> None:
        self.result(self.stop())
        assert self.clock.getDelayedCalls() == []

    def test_no_new_epoch_begins_after_the_stop(self) -> None:
        self.result(self.stop())
        self.clock.pump([5.0] * 20)
        assert self.conduct.count("register") == 1

    def test_what_does_not_stop_in_time_is_given_up(self) -> None:
        self.conduct.hold("stop news")
        stopping = self.stop()
        self.clock.advance(29.5)
        assert self.waits(stopping)
        self.clock.advance(0.5)
        self.result(stopping)
        assert self.logged(TimeoutError) == 1
        assert self.parts("stop")[-2:] == ["stop bells", "stop database"]

    def test_nor_does_one_of_the_lowest_parts_keep_the_others(self) -> None:
        self.conduct.hold("stop bells")
        stopping = self.stop()
        self.clock.advance(LONGEST_PART)
        self.result(stopping)
        assert self.logged(TimeoutError) == 1
        assert self.parts("stop")[-1] == "stop database"

    def test_a_part_that_fails_to_stop_does_not_keep_the_others(self) -> None:
        self.conduct.fail("stop news", ValueError("oops"))
        self.result(self.stop())
        assert self.logged(ValueError) == 1
        assert self.parts("stop")[-2:] == ["stop bells", "stop database"]
        assert self.world.hosts.state is HostState.STOPPED


class StopEarlyTests(NodeCase):
    def test_while_it_waits_for_the_database(self) -> None:
        self.conduct.always_fail("check", AWAY)
        self.node.startService()
        self.result(self.stop())
        assert self.clock.getDelayedCalls() == []

    def test_while_it_registers(self) -> None:
        held = self.conduct.hold("register")
        self.node.startService()
        self.result(self.stop())
        assert held.cancelled
        assert self.clock.getDelayedCalls() == []

    def test_before_it_was_started(self) -> None:
        self.result(self.stop())


class StopVMsTests(NodeCase):
    stop_vms = True

    def setUp(self) -> None:
        super().setUp()
        self.node.startService()

    def test_the_vms_are_stopped_first(self) -> None:
        stopping = self.stop()
        assert self.conduct.count("poweroff") == 1
        assert self.conduct.count("stop database") == 0
        self.world.driver.exit(VMId(1))
        self.result(stopping)
        assert self.parts("stop")[-1] == "stop database"
        assert self.clock.getDelayedCalls() == []

    def test_a_vm_that_does_not_end_is_not_waited_for_without_end(self) -> None:
        self.world.driver.deaf = True
        self.conduct.hold("poweroff")
        stopping = self.stop()
        self.clock.pump([1.0] * 29)
        assert self.waits(stopping)
        self.clock.advance(1)
        self.result(stopping)
        assert self.logged(TimeoutError) == 1
        assert self.parts("stop")[-2:] == ["stop bells", "stop database"]
