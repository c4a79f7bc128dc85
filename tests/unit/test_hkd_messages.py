"""Messages on their way from the rows to the agents."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.hkd.messages import AT_ONCE, MessageParts, MessageWatch
from qvd.interfaces import IMessages
from qvd.model.errors import DatabaseUnavailable, GuestError
from qvd.model.ids import Epoch, VMId
from qvd.model.messages import Message
from qvd.model.records import Lease
from qvd.protocols.channels import messages_on_host
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.driver import guest_of
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST

LEASE = Lease(HOST, Epoch(1))


@implementer(IMessages)
class FakeMessages:
    """@ivar settled_as: what became of each, by number."""

    def __init__(self, conduct: Conduct) -> None:
        self.conduct = conduct
        self.rows: dict[int, Message] = {}
        self.settled_as: dict[int, str | None] = {}

    def add(self, number: int) -> None:
        self.rows[number] = Message(number, VMId(number), guest_of(number), f"text {number}")

    async def waiting(self, lease: Lease, most: int) -> Sequence[Message]:
        await self.conduct.before("waiting")
        return [self.rows[number] for number in sorted(self.rows)][:most]

    async def settled(self, lease: Lease, number: int, problem: str | None) -> None:
        await self.conduct.before("settled", number)
        del self.rows[number]
        self.settled_as[number] = problem


class MessageWatchTests(Case):
    def setUp(self) -> None:
        self.clock, self.bells, self.conduct = Clock(), FakeBells(), Conduct()
        self.rows = FakeMessages(self.conduct)
        parts = MessageParts(self.rows, FakeDialer(FakeGuest(self.conduct)), look=5.0)
        self.watch = MessageWatch(self.clock, LEASE, self.bells, parts)

    def said(self) -> list[object]:
        return [arguments[0] for arguments in self.conduct.of("message")]

    def test_those_that_wait_are_handed_over_and_on_the_bell_further_ones(self) -> None:
        self.rows.add(1)
        self.watch.start()
        assert self.said() == ["text 1"]
        self.rows.add(2)
        self.bells.ring(messages_on_host(HOST))
        assert self.said() == ["text 1", "text 2"]
        assert self.rows.settled_as == {1: None, 2: None}

    def test_one_that_an_agent_refuses_is_not_tried_again(self) -> None:
        self.rows.add(1)
        self.conduct.fail("message", GuestError("Nobody is connected\n"))
        self.watch.start()
        self.clock.advance(20)
        assert self.rows.settled_as == {1: "Nobody is connected"}
        assert len(self.said()) == 1

    def test_a_slow_agent_keeps_no_other_waiting(self) -> None:
        self.rows.add(1)
        self.rows.add(2)
        held = self.conduct.hold("message")
        self.watch.start()
        assert self.said() == ["text 1", "text 2"]
        assert self.rows.settled_as == {2: None}
        held.go_on()
        assert self.rows.settled_as == {1: None, 2: None}

    def test_what_was_handed_over_is_not_shown_twice_when_it_could_not_be_written(self) -> None:
        self.rows.add(1)
        self.conduct.fail("settled", DatabaseUnavailable("away"))
        self.watch.start()
        assert self.rows.settled_as == {}
        self.clock.advance(5)
        assert self.rows.settled_as == {1: None}
        assert self.said() == ["text 1"]

    def test_many_are_handed_over_in_turns(self) -> None:
        for number in range(1, AT_ONCE + 3):
            self.rows.add(number)
        self.watch.start()
        self.clock.advance(0)
        assert len(self.rows.settled_as) == AT_ONCE + 2

    def test_a_stop_leaves_to_the_next_daemon_what_is_under_way(self) -> None:
        self.rows.add(1)
        self.conduct.hold("message")
        self.watch.start()
        self.result(self.begin(self.watch.stop()))
        self.clock.advance(20)
        assert self.rows.settled_as == {} and len(self.said()) == 1
