"""One session from claim to end: whatever ends it, and wherever, its row says so, once."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from qvd.l7r.connect import CLIENT_GONE, SLAVE_KEY_LENGTH, new_slave_key
from qvd.model.errors import DatabaseUnavailable, GuestError, QVDError, SessionLost, Unavailable
from qvd.model.ids import Epoch, SessionId
from qvd.model.records import Lease
from qvd.protocols.http1 import Response
from tests.fakes.broker import Broker
from tests.fakes.case import Case
from tests.fakes.client import FakeClient, connect_request, news, statuses
from tests.fakes.driver import guest_of
from tests.fakes.ownership import HOST
from tests.fakes.sessions import TAKEN

AWAY = DatabaseUnavailable("The database does not answer")
POINTS = ("claim", "get", "x_start", "x_state", "dial", "connected")
"""Where a session that is under way asks somebody and waits."""


class ConnectCase(Case):
    def setUp(self) -> None:
        self.broker = Broker()
        self.conduct = self.broker.conduct
        self.client = self.broker.client()

    def connect(self, client: FakeClient | None = None) -> list[Response]:
        return (client or self.client).ask(connect_request())

    @property
    def session(self) -> SessionId:
        return list(self.broker.sessions.specs)[-1]

    def ends(self) -> list[str]:
        """The reasons of all ends written, in order."""
        return [str(reason) for _, reason in self.conduct.of("end")]

    def assert_clean(self) -> None:
        """Nothing is left of any session."""
        assert self.broker.ledger.count == 0
        assert self.broker.sessions.specs.keys() <= self.broker.sessions.ended.keys()
        assert self.broker.sessions.current == {}
        assert len(self.ends()) == self.conduct.count("claim")
        self.client.leave()
        assert self.broker.clock.getDelayedCalls() == []


class GoodSessionTests(ConnectCase):
    def test_from_claim_to_switch(self) -> None:
        replies = self.connect()
        assert statuses(replies) == [102] * (len(replies) - 1) + [101]
        assert news(replies) == [
            "Session acquired for VM_ID: 9",
            "Starting X session at VM 9",
            "Waiting for X session to come up on VM 9",
            "Connecting X session for VM_ID: 9",
            "Connection established",
        ]
        wanted = ["claim", "x_start", "x_state", "dial", "connected", "relay"]
        assert self.conduct.names(*wanted) == wanted
        assert self.conduct.of("dial") == [(guest_of(9),)]
        assert len(self.broker.ledger.confirmed()) == 1
        self.client.leave()
        self.assert_clean()

    def test_the_session_says_who_and_from_where(self) -> None:
        self.connect()
        spec = self.broker.sessions.specs[self.session]
        assert (spec.vm_id, spec.user_id, spec.tenant_id) == (9, 3, 1)
        assert spec.lease == self.broker.status.lease()
        assert spec.client_address == self.client.wire.peer
        assert self.broker.sessions.switched == [self.session]
        assert self.broker.ledger.count == 1

    def test_bytes_after_the_switch_go_to_the_relay(self) -> None:
        self.client.send(connect_request() + b"NXPROXY-3.5.0")
        self.client.send(b" more")
        assert b"".join(self.broker.road.pipes[0].received) == b"NXPROXY-3.5.0 more"

    def test_the_guest_is_told_what_only_the_server_may_say(self) -> None:
        replies = self.connect()
        told = self.broker.guest.parameters
        assert told["host_address"] == "192.0.2.7"
        assert told["qvd.vm.user.name"] == "alice"
        assert told["qvd.slave.key"] == replies[-1].head.header("X-QVD-Slave-Key")
        assert {"qvd.client.os", "qvd.client.keyboard", "qvd.client.geometry"} <= told.keys()

    def test_the_clients_wishes_are_passed_on_and_cannot_be_more(self) -> None:
        self.client.send(connect_request("/qvd/connect_to_vm?id=9&qvd.client.os=linux&custom.x=%C3%A9"))
        told = self.broker.guest.parameters
        assert (told["qvd.client.os"], told["custom.x"]) == ("linux", "é")

    def test_how_it_ended_is_written(self) -> None:
        self.connect()
        self.broker.road.pipes[0].ended.callback("the desktop ended it; 7 bytes")
        assert self.ends() == ["the desktop ended it; 7 bytes"]
        self.assert_clean()

    def test_an_end_while_the_database_is_away_is_written_later(self) -> None:
        self.connect()
        self.conduct.always_fail("end", AWAY)
        self.client.leave()
        assert self.broker.sessions.ended == {}
        self.conduct.recover("end")
        self.broker.clock.advance(5)
        assert list(self.broker.sessions.ended) == [self.session]

    def test_slave_keys_are_long_and_differ(self) -> None:
        keys = {new_slave_key() for _ in range(10)}
        assert len(keys) == 10
        assert {len(key) for key in keys} == {SLAVE_KEY_LENGTH}
        assert all(key.isascii() and key.isalnum() for key in keys)


class UpgradeTests(ConnectCase):
    def test_who_connects_meanwhile_waits_for_the_new_lease(self) -> None:
        new = Lease(HOST, Epoch(5))
        gap = self.broker.status.gap = Deferred()
        assert self.connect() == []
        assert self.conduct.count("claim") == 0
        self.broker.status.gap, self.broker.status.held = None, new
        gap.callback(None)
        assert statuses(self.client.read())[-1] == 101
        assert self.broker.sessions.specs[self.session].lease == new

    def test_a_claim_under_the_former_lease_is_made_again(self) -> None:
        """The new daemon had registered before it was committed."""
        held = self.conduct.hold("claim")
        self.client.send(connect_request())
        new = self.broker.status.held = Lease(HOST, Epoch(5))
        held.fail(Unavailable("This node has lost its place in the farm", retry_after=5))
        assert statuses(self.client.read())[-1] == 101
        assert self.broker.sessions.specs[self.session].lease == new
        self.client.leave()
        assert len(self.ends()) == 1

    def test_a_claim_whose_answer_is_lost_is_not_made_twice(self) -> None:
        held = self.conduct.hold("claim", after=True)
        self.client.send(connect_request())
        self.broker.status.held = Lease(HOST, Epoch(5))
        held.fail(AWAY)
        assert statuses(self.client.read()) == [503]
        assert self.conduct.count("claim") == 1
        assert len(self.ends()) == 1

    def test_a_claim_under_a_lease_that_is_over_is_refused(self) -> None:
        self.conduct.always_fail("claim", Unavailable("This node has lost its place in the farm", retry_after=5))
        assert statuses(self.connect()) == [503]
        assert self.conduct.count("claim") == 1


class FailureTests(ConnectCase):
    def test_at_each_point_the_client_hears_of_it_and_the_session_is_ended(self) -> None:
        for point in POINTS:
            self.setUp()
            error = GuestError("no") if point in ("dial", "x_state") else AWAY
            # The first look at the VM is the conversation's own, before there is a session.
            held = [self.conduct.hold(point) for _ in range(2 if point == "get" else 1)]
            self.client.send(connect_request())
            if point == "get":
                held[0].go_on()
            assert held[-1].reached, point
            if point == "x_state":
                self.conduct.always_fail(point, error)  # one answer that does not come is waited for
            held[-1].fail(error)
            self.broker.clock.pump([1.0] * 22 if point == "x_state" else [])
            replies = self.client.read()
            assert statuses(replies)[-1] == 503, point
            assert error.text.encode() in replies[-1].body, point
            assert self.client.closed, point
            assert len(self.ends()) == 1, point
            assert error.text in self.ends()[0], point
            self.assert_clean()

    def test_a_leg_whose_session_is_lost_before_the_switch_is_cut(self) -> None:
        for error in (SessionLost(TAKEN), AWAY):
            self.setUp()
            self.conduct.fail("connected", error)
            assert 101 not in statuses(self.connect())
            assert [leg.aborted for leg in self.broker.road.legs] == [True]
            self.assert_clean()

    def test_a_node_without_a_lease_claims_nothing(self) -> None:
        self.broker.status.held = None
        replies = self.connect()
        assert statuses(replies) == [503]
        assert replies[0].head.header("Retry-After") == "5"
        assert self.conduct.count("claim") == 0
        assert self.broker.ledger.count == 0

    def test_an_unexpected_failure_ends_the_session_too(self) -> None:
        self.conduct.fail("dial", ZeroDivisionError("oops"))
        self.connect()
        assert self.logged(ZeroDivisionError) == 1
        assert self.client.closed
        self.assert_clean()


class ClientGoneTests(ConnectCase):
    def test_at_each_point_the_session_is_ended(self) -> None:
        for point in POINTS:
            self.setUp()
            held = [self.conduct.hold(point) for _ in range(2 if point == "get" else 1)]
            self.client.send(connect_request())
            if point == "get":
                held[0].go_on()
            assert held[-1].reached, point
            self.client.leave()
            assert held[-1].cancelled, point
            assert self.ends() == [CLIENT_GONE], point
            self.assert_clean()

    def test_before_the_switch_the_leg_is_cut(self) -> None:
        self.conduct.hold("connected")
        self.connect()
        self.client.leave()
        assert [leg.aborted for leg in self.broker.road.legs] == [True]
        self.assert_clean()

    def test_after_the_switch_the_relay_says_how(self) -> None:
        self.connect()
        self.client.leave()
        assert self.ends() == ["the client ended it"]
        self.assert_clean()


class TakeOverTests(ConnectCase):
    def close_at(self, point: str, then: Callable[[], None]) -> None:
        held = [self.conduct.hold(point) for _ in range(2 if point == "get" else 1)]
        self.client.send(connect_request())
        if point == "get":
            held[0].go_on()
        assert held[-1].reached, point
        then()
        assert held[-1].cancelled, point

    def test_before_the_switch_the_older_client_is_told(self) -> None:
        for point in POINTS[1:]:
            self.setUp()
            self.close_at(point, lambda: self.broker.ledger.close(self.session, TAKEN))
            replies = self.client.read()
            assert statuses(replies)[-1] == 503, point
            assert TAKEN.encode() in replies[-1].body, point
            assert self.client.closed, point
            assert self.ends() == [TAKEN], point
            self.assert_clean()

    def test_after_the_switch_the_older_client_hears_nothing_in_http(self) -> None:
        self.connect()
        self.broker.ledger.close(self.session, TAKEN)
        assert self.client.read_nx() == b""
        assert self.conduct.count("cut") == 1
        assert self.ends() == [TAKEN]
        self.assert_clean()

    def test_closed_twice_it_ends_once(self) -> None:
        self.connect()
        session = self.session
        self.broker.ledger.close(session, TAKEN)
        self.broker.ledger.close(session, "again")
        assert self.broker.sessions.ended[session] == TAKEN

    def test_the_newer_client_waits_for_the_older_one_and_has_the_vm_then(self) -> None:
        self.connect()
        older = self.session
        newer = self.broker.client()
        replies = self.connect(newer)
        assert news(replies) == ["Aborting contending session for VM_ID: 9"]
        self.broker.ledger.close(older, TAKEN)
        self.broker.ring(9)
        replies = newer.read()
        assert statuses(replies)[-1] == 101
        assert self.broker.sessions.current[self.broker.sessions.specs[self.session].vm_id] == self.session != older

    def test_an_older_session_that_has_ended_is_not_waited_for(self) -> None:
        self.connect()
        self.client.leave()
        newer = self.broker.client()
        assert statuses(self.connect(newer))[-1] == 101

    def test_all_are_closed_when_the_node_stops(self) -> None:
        self.connect()
        self.broker.ledger.close_all("The node is being stopped")
        assert self.ends() == ["The node is being stopped"]
        self.assert_clean()

    def test_many_take_overs_in_a_row_leave_nothing(self) -> None:
        clients = [self.client]
        self.connect()
        for _ in range(20):
            older, newer = self.session, self.broker.client()
            self.connect(newer)
            self.broker.ledger.close(older, TAKEN)
            self.broker.ring(9)
            assert 101 in statuses(newer.read())
            clients.append(newer)
        for client in clients:
            client.leave()
        self.assert_clean()


class ErrorTextTests(ConnectCase):
    def test_a_start_that_fails_is_told_as_it_is(self) -> None:
        self.conduct.fail("x_state", QVDError("A sentence for people"))
        replies = self.connect()
        assert b"A sentence for people" in replies[-1].body
