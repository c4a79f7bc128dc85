"""Scripts of what a client sends and what it is answered."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent

from qvd.model.errors import DatabaseUnavailable, Unavailable
from qvd.model.ids import VMId
from qvd.model.records import Desired, TokenTerms
from qvd.model.vm import Step, VMState
from qvd.protocols.http1 import Response
from tests.fakes.broker import UP, Broker
from tests.fakes.case import Case
from tests.fakes.client import FakeClient, connect_request, news, request, statuses

WIRE = Path(__file__).resolve().parents[1] / "wire"
LIST = "/qvd/list_of_vm"
STOP = "/qvd/stop_vm?id=9"
AWAY = DatabaseUnavailable("The database does not answer", retry_after=5)


def bearer(token: str, target: str = LIST) -> bytes:
    return request(target, f"Authorization: Bearer {b64encode(token.encode()).decode()}", login="")


class ConversationCase(Case):
    def setUp(self) -> None:
        self.broker = Broker()
        self.conduct = self.broker.conduct
        self.client = self.broker.client()

    def tearDown(self) -> None:
        self.client.leave()
        assert self.broker.clock.getDelayedCalls() == []

    def one(self, data: bytes, client: FakeClient | None = None) -> Response:
        """Send, and take the only answer."""
        replies = (client or self.client).ask(data)
        assert len(replies) == 1, statuses(replies)
        return replies[0]

    def status(self, data: bytes) -> int:
        return self.one(data).head.status


class PingTests(ConversationCase):
    def test_nobody_has_to_log_in(self) -> None:
        reply = self.one(request("/qvd/ping", login=""))
        assert (reply.head.status, reply.body) == (200, b"I am alive!\r\n")

    def test_a_node_that_serves_nobody_says_why(self) -> None:
        self.broker.status.why = "Server is blocked"
        reply = self.one(request("/qvd/ping", login=""))
        assert reply.head.status == 503
        assert reply.body.strip() == b"Server is blocked"
        assert reply.head.header("Retry-After")
        assert not self.client.closed


class ListTests(ConversationCase):
    def test_the_users_own_vms(self) -> None:
        reply = self.one(request(LIST))
        assert reply.head.status == 200
        assert reply.head.header("Content-Type") == "application/json"
        assert json.loads(reply.body) == [
            {"id": 9, "state": "running", "name": "desk", "blocked": 0, "is_application": 0}
        ]

    def test_applications(self) -> None:
        self.one(request("/qvd/list_of_applications"))
        assert self.conduct.of("list_for_user") == [(3, True)]

    def test_many_times_on_one_connection(self) -> None:
        self.client.send(request(LIST) * 3)
        assert statuses(self.client.read()) == [200, 200, 200]
        assert self.conduct.count("password") == 1
        assert not self.client.closed

    def test_by_token(self) -> None:
        assert self.status(bearer("any")) == 200
        assert self.status(bearer("any")) == 200

    def test_a_token_for_one_vm_lists_that_one(self) -> None:
        self.broker.rows.table[VMId(10)] = evolve(self.broker.rows[9], vm_id=VMId(10), name="other desk")
        assert [vm["id"] for vm in json.loads(self.one(bearer("nine")).body)] == [9]
        assert len(json.loads(self.one(bearer("any")).body)) == 2

    def test_a_token_for_somebody_elses_vm_lists_none(self) -> None:
        self.broker.tokens.tokens["eight"] = VMId(8)
        assert json.loads(self.one(bearer("eight")).body) == []

    def test_a_user_who_is_blocked_meanwhile(self) -> None:
        assert self.status(request(LIST)) == 200
        self.broker.users.blocked.add(self.broker.passwords.accounts["default", "alice", "secret"].user_id)
        assert self.status(request(LIST)) == 401
        assert self.status(request(LIST)) == 401


class LoginTests(ConversationCase):
    @property
    def wrong(self) -> bytes:
        return request(LIST, login="alice:wrong")

    def test_a_wrong_password(self) -> None:
        reply = self.one(self.wrong)
        assert reply.head.status == 401
        assert reply.head.header("WWW-Authenticate") == 'Basic realm="QVD"'
        assert reply.body

    def test_the_connection_stays_open_for_another_try(self) -> None:
        assert self.status(self.wrong) == 401
        assert self.status(request(LIST)) == 200
        assert not self.client.closed

    def test_not_after_a_refused_connect(self) -> None:
        """A client that does not look at the status sends NX now, and must be told by the end of the connection."""
        replies = self.client.ask(connect_request(login="alice:wrong") + request(LIST))
        assert statuses(replies) == [401]
        assert self.client.closed

    def test_not_for_ever(self) -> None:
        for _ in range(4):
            assert self.status(self.wrong) == 401
            assert not self.client.closed
        assert self.status(self.wrong) == 401
        assert self.client.closed
        assert self.client.ask(request(LIST)) == []

    def test_requests_that_wait_behind_the_last_try_are_not_served(self) -> None:
        replies = self.client.ask(self.wrong * 5 + request(LIST))
        assert statuses(replies) == [401] * 5
        assert self.conduct.count("list_for_user") == 0

    def test_nobody(self) -> None:
        assert self.status(request(LIST, login="")) == 401

    def test_a_stranger_learns_nothing_else(self) -> None:
        """Whether a VM, a parameter or the node is as it should be is looked at after the login."""
        self.broker.status.why = "Server is blocked"
        for target in (LIST, "/qvd/stop_vm", "/qvd/stop_vm?id=8", "/qvd/connect_to_vm?id=77", STOP):
            client = self.broker.client()
            assert self.one(request(target, login="alice:wrong"), client).head.status == 401, target
            client.leave()
        assert self.conduct.count("get") == 0

    def test_a_login_in_time_ends_the_time_for_it(self) -> None:
        assert self.status(request(LIST)) == 200
        self.broker.clock.advance(61)
        assert self.client.read() == []
        assert self.status(request(LIST)) == 200

    def test_without_a_login_in_time_the_connection_is_closed(self) -> None:
        self.status(request("/qvd/ping", login=""))
        self.broker.clock.advance(61)
        assert statuses(self.client.read()) == [408]
        assert self.client.closed

    def test_a_database_that_is_away_is_no_wrong_password(self) -> None:
        for name in ("password", "list_for_user"):
            self.conduct.fail(name, AWAY)
            reply = self.one(request(LIST))
            assert (reply.head.status, reply.head.header("Retry-After")) == (503, "5")
        assert self.status(request(LIST)) == 200


class TokenTests(ConversationCase):
    CREATE = "/qvd/create_auth_token"

    def test_a_login_that_is_good(self) -> None:
        """The web portal asks for no more than that. It is told even where there is no service now."""
        self.broker.status.why = "Server is blocked"
        reply = self.one(request("/qvd/authenticate_user?store_auth=1"))
        assert (reply.head.status, json.loads(reply.body)) == (200, {})
        assert self.status(request("/qvd/authenticate_user", login="alice:wrong")) == 401
        assert not self.client.closed

    def test_a_token_is_issued_and_accepted(self) -> None:
        reply = self.one(request(self.CREATE))
        assert reply.head.status == 200
        encoded = json.loads(reply.body)["auth_token"]
        assert self.broker.tokens.issued == [TokenTerms(None, multi_use=True, seconds=86400)]
        other = self.broker.client()
        assert self.one(request(LIST, f"Authorization: Bearer {encoded}", login=""), other).head.status == 200
        other.leave()

    def test_for_one_vm_one_use_and_a_short_while(self) -> None:
        assert self.status(request(f"{self.CREATE}?id=9&multi_use=0&seconds=300")) == 200
        assert self.broker.tokens.issued == [TokenTerms(VMId(9), multi_use=False, seconds=300)]

    def test_what_is_looked_at_in_which_order(self) -> None:
        for query, login, status in (
            ("id=nine", "alice:wrong", 401),
            ("id=nine", "alice:secret", 422),
            ("id=", "alice:secret", 422),
            ("multi_use=yes", "alice:secret", 422),
            ("seconds=0", "alice:secret", 422),
            ("seconds=86401", "alice:secret", 422),
            ("seconds=1e3", "alice:secret", 422),
            ("id=77", "alice:secret", 404),
            ("id=8", "alice:secret", 403),
        ):
            assert self.status(request(f"{self.CREATE}?{query}", login=login)) == status, query
        assert self.broker.tokens.issued == []
        assert not self.client.closed

    def test_not_for_a_token(self) -> None:
        """Else one for a few minutes and one VM were as good as a password."""
        assert self.status(bearer("any", self.CREATE)) == 403
        assert self.broker.tokens.issued == []

    def test_too_many(self) -> None:
        self.conduct.fail("issue", Unavailable("There are too many tokens"))
        assert self.status(request(self.CREATE)) == 503

    def test_it_is_in_no_log(self) -> None:
        with capturedLogs() as events:
            assert self.status(request(self.CREATE)) == 200
        lines = [formatEvent(event) for event in events]
        assert any("token for user 3: VM any, many uses, 86400 s" in line for line in lines)
        assert not [line for line in lines if "canary" in line]


class StopTests(ConversationCase):
    def test_one_that_is_stopped(self) -> None:
        self.broker.rows.write(9, state=VMState.STOPPED, desired=Desired.STOPPED, host_id=None)
        reply = self.one(request(STOP))
        assert (reply.head.status, reply.body) == (200, b"Machine stopped\r\n")

    def test_one_that_runs(self) -> None:
        replies = self.client.ask(request(STOP))
        assert news(replies)[0] == "Stopping virtual machine"
        cause = self.conduct.of("order_stop")[0][1]
        assert isinstance(cause, str)
        assert "alice" in cause
        self.broker.rows.write(9, state=VMState.STOPPED, acked=1)
        assert statuses(self.client.read()) == [200]
        assert not self.client.closed

    def test_one_that_does_not_stop_in_time(self) -> None:
        self.client.send(request(STOP))
        self.broker.clock.pump([1.0] * 47)
        assert statuses(self.client.read())[-1] == 408
        assert not self.client.closed

    def test_one_that_cannot_be_ended(self) -> None:
        stuck = "Cannot be ended; trying again"
        self.broker.rows.write(9, state=VMState.ZOMBIE, phase=Step.STUCK.value, detail=stuck)
        replies = self.client.ask(request(STOP))
        assert news(replies) == ["Stopping virtual machine"]
        assert statuses(replies) == [102, 503]
        assert b"unstoppable state (zombie)" in replies[-1].body
        assert not self.client.closed

    def test_what_is_looked_at_in_which_order(self) -> None:
        assert self.status(request("/qvd/stop_vm")) == 422
        assert self.status(request("/qvd/stop_vm?id=nine")) == 422
        assert self.status(request("/qvd/stop_vm?id=77")) == 404
        assert self.status(request("/qvd/stop_vm?id=8")) == 403
        assert self.conduct.count("order_stop") == 0
        assert not self.client.closed

    def test_a_token_for_another_vm(self) -> None:
        self.broker.tokens.tokens["eight"] = VMId(8)
        assert self.status(bearer("eight", STOP)) == 403
        assert self.conduct.count("order_stop") == 0

    def test_a_client_that_goes_meanwhile_leaves_nothing(self) -> None:
        self.client.send(request(STOP))
        self.client.leave()
        assert self.broker.rows[9].desired is Desired.STOPPED


class ConnectTests(ConversationCase):
    def fresh(self, data: bytes) -> Response:
        """On a connection of its own, which is closed then."""
        client = self.broker.client()
        reply = self.one(data, client)
        assert client.closed
        client.leave()
        return reply

    def test_list_stop_and_connect_on_one_connection(self) -> None:
        assert self.status(request(LIST)) == 200
        self.client.send(request(STOP))
        self.broker.rows.write(9, state=VMState.STOPPED, acked=1, host_id=None, guest=None)
        self.client.send(connect_request())
        self.broker.rows.write(9, **UP, acked=2)
        replies = self.client.read()
        assert statuses(replies)[-1] == 101
        assert [status for status in statuses(replies) if status != 102] == [200, 101]

    def test_what_is_looked_at_in_which_order(self) -> None:
        for data, status in (
            (request("/qvd/connect_to_vm?id=9"), 426),
            (request("/qvd/connect_to_vm?id=9", "Connection: Upgrade", "Upgrade: websocket"), 426),
            (connect_request("/qvd/connect_to_vm"), 422),
            (connect_request("/qvd/connect_to_vm?id=9&qvd.vm.user.name=root"), 403),
            (connect_request("/qvd/connect_to_vm?id=77"), 404),
            (connect_request("/qvd/connect_to_vm?id=8"), 403),
        ):
            assert self.fresh(data).head.status == status, data
        assert self.conduct.count("claim") == 0

    def test_a_vm_under_maintenance(self) -> None:
        self.broker.rows.write(9, blocked=True)
        reply = self.fresh(connect_request())
        assert reply.head.status == 403
        assert b"offline for maintenance" in reply.body

    def test_somebody_elses_vm_under_maintenance_is_somebody_elses(self) -> None:
        self.broker.rows.write(8, blocked=True)
        assert b"not allowed" in self.fresh(connect_request("/qvd/connect_to_vm?id=8")).body

    def test_a_token_for_another_vm(self) -> None:
        self.broker.tokens.tokens["eight"] = VMId(8)
        upgrade = b"Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n\r\n"
        data = bearer("eight", "/qvd/connect_to_vm?id=9")[:-2] + upgrade
        assert self.fresh(data).head.status == 403

    def test_a_node_that_serves_nobody(self) -> None:
        self.broker.status.why = "Server is stopping"
        reply = self.fresh(connect_request())
        assert reply.head.status == 503
        assert reply.body.strip() == b"Server is stopping"

    def test_what_follows_a_refused_connect_is_not_looked_at(self) -> None:
        replies = self.client.ask(connect_request("/qvd/connect_to_vm?id=77") + request(LIST))
        assert statuses(replies) == [404]

    def test_the_client_hears_of_a_cold_start(self) -> None:
        self.broker.rows.write(9, state=VMState.STOPPED, desired=Desired.STOPPED, host_id=None, guest=None)
        self.client.send(connect_request())
        self.broker.rows.write(9, state=VMState.STARTING, acked=1, detail="Unpacking the image, 40 %")
        self.broker.rows.write(9, **UP)
        replies = self.client.read()
        assert "Unpacking the image, 40 %" in news(replies)
        assert statuses(replies)[-1] == 101

    def test_a_start_that_fails(self) -> None:
        self.broker.rows.write(9, state=VMState.STOPPED, desired=Desired.STOPPED, host_id=None, guest=None)
        self.client.send(connect_request())
        self.broker.rows.write(9, state=VMState.STOPPED, host_id=None, last_error="The image is not there")
        replies = self.client.read()
        assert statuses(replies)[-1] == 503
        assert b"The image is not there" in replies[-1].body
        assert self.client.closed


class StrangeTests(ConversationCase):
    def test_an_unknown_path_or_method(self) -> None:
        assert self.status(request("/")) == 404
        assert self.status(request("/qvd/list_of_vm/")) == 404
        assert self.status(request(LIST).replace(b"GET", b"HEAD")) == 404
        assert not self.client.closed

    def test_garbage_is_refused_and_the_connection_closed(self) -> None:
        reply = self.one(b"\x16\x03\x01\x02\x00\x01\x00\n\n")
        assert reply.head.status == 400
        assert self.client.closed

    def test_a_head_without_end(self) -> None:
        reply = self.one(b"GET /qvd/ping HTTP/1.1\r\n" + b"X: y\r\n" * 1000)
        assert reply.head.status == 431
        assert self.client.closed

    def test_a_head_a_byte_a_second(self) -> None:
        for byte in b"GET /qvd/ping":
            self.client.send(bytes([byte]))
            self.broker.clock.advance(1)
        assert statuses(self.client.read()) == [408]
        assert self.client.closed

    def test_an_unexpected_failure_is_answered_too(self) -> None:
        self.conduct.fail("list_for_user", ZeroDivisionError("/usr/lib/secret/place.py"))
        self.client.send(request(LIST))
        assert self.logged(ZeroDivisionError) == 1
        replies = self.client.read()
        assert statuses(replies) == [500]
        assert b"secret" not in replies[0].body
        assert self.client.closed

    def test_a_password_is_in_no_answer(self) -> None:
        self.client.send(request(LIST, login="alice:canary") + request("/canary?canary", login="canary:canary"))
        assert b"canary" not in b"".join(reply.body for reply in self.client.read())


class RecordedTests(ConversationCase):
    """The bytes of real clients, one connection each."""

    def play(self, name: str, number: int, what: str) -> list[Response]:
        return self.client.ask((WIRE / f"{name}-{number}-{what}.bin").read_bytes())

    def script(self, name: str) -> None:
        listed = self.play(name, 0, "list_of_vm")
        assert statuses(listed) == [200]
        assert json.loads(listed[0].body)[0]["id"] == 9
        self.play(name, 1, "stop_vm")
        self.broker.rows.write(9, state=VMState.STOPPED, acked=1, host_id=None, guest=None)
        assert statuses(self.client.read())[-1] == 200
        self.play(name, 2, "connect_to_vm")
        self.broker.rows.write(9, **UP, acked=2)
        assert statuses(self.client.read())[-1] == 101
        told = self.broker.guest.parameters
        assert told["qvd.client.keyboard"] == "pc105/us"
        assert told["qvd.client.geometry"] == "800x600"
        assert "id" not in told

    def test_the_qt_client(self) -> None:
        self.script("qt")

    def test_the_perl_client(self) -> None:
        self.script("perl")
