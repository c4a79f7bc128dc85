"""Who is at the other end, through all requests of a connection."""

from __future__ import annotations

from base64 import b64encode

import pytest

from qvd.l7r.gate import Authenticators, Gate, Identity
from qvd.model.errors import AuthenticationFailed, DatabaseUnavailable, Forbidden
from qvd.model.ids import VMId
from qvd.protocols.http1 import HeadReader, RequestHead
from tests.fakes.case import Case
from tests.fakes.conduct import Conduct
from tests.fakes.users import ALICE, FakePasswords, FakeTokens, FakeUsers


def head(scheme: str, text: str) -> RequestHead:
    """A request with credentials."""
    reader = HeadReader(4096)
    encoded = b64encode(text.encode()).decode()
    reader.feed(f"GET /qvd/list_of_vm HTTP/1.1\r\nAuthorization: {scheme} {encoded}\r\n\r\n".encode())
    request = reader.next_head()
    assert request is not None
    return request


def bare() -> RequestHead:
    return RequestHead("GET", "/qvd/list_of_vm", "/qvd/list_of_vm", (), ())


class GateTests(Case):
    def setUp(self) -> None:
        self.conduct = Conduct()
        self.users = FakeUsers(self.conduct)
        self.passwords = FakePasswords(self.conduct)
        self.tokens = FakeTokens(self.conduct)
        self.authenticators = Authenticators(self.users, self.passwords, self.tokens, "@#", "default")
        self.gate = Gate(self.authenticators)

    def admit(self, request: RequestHead) -> Identity:
        return self.result(self.gate.admit(request))

    def refused(self, request: RequestHead) -> str:
        return self.failure(self.gate.admit(request), AuthenticationFailed).text

    def test_a_password(self) -> None:
        assert self.admit(head("Basic", "alice:secret")) == Identity(ALICE, None)

    def test_the_tenant_is_named_in_the_login(self) -> None:
        self.passwords.accounts["acme", "bob", "pw"] = ALICE
        self.admit(head("Basic", "bob@acme:pw"))
        assert self.conduct.of("password") == [("acme", "bob")]

    def test_nobody_is_refused_without_a_question(self) -> None:
        assert self.refused(bare()) == "Authentication failed"
        assert self.refused(head("Digest", "alice:secret")) == "Authentication failed"
        assert self.conduct.calls == []

    def test_wrong_and_unknown_are_told_the_same(self) -> None:
        assert self.refused(head("Basic", "alice:wrong")) == self.refused(head("Basic", "bob:secret"))
        assert self.refused(head("Bearer", "unknown")) == self.refused(head("Basic", "bob:secret"))

    def test_a_password_is_looked_at_once(self) -> None:
        for _ in range(3):
            self.admit(head("Basic", "alice:secret"))
        assert self.conduct.names() == ["password", "is_blocked", "is_blocked"]

    def test_a_one_time_code_is_accepted_again_on_the_same_connection(self) -> None:
        self.passwords.once = True
        self.admit(head("Basic", "alice:secret"))
        self.admit(head("Basic", "alice:secret"))
        self.gate = Gate(self.authenticators)
        self.refused(head("Basic", "alice:secret"))

    def test_a_single_use_token_is_accepted_again_on_the_same_connection(self) -> None:
        assert self.admit(head("Bearer", "nine")) == self.admit(head("Bearer", "nine"))
        self.gate = Gate(self.authenticators)
        self.refused(head("Bearer", "nine"))

    def test_a_user_who_is_blocked_is_refused_from_the_next_request_on(self) -> None:
        self.admit(head("Basic", "alice:secret"))
        self.users.blocked.add(ALICE.user_id)
        self.refused(head("Basic", "alice:secret"))
        self.refused(head("Basic", "alice:secret"))
        self.users.blocked.clear()
        self.admit(head("Basic", "alice:secret"))

    def test_other_credentials_are_looked_at(self) -> None:
        self.admit(head("Basic", "alice:secret"))
        self.refused(head("Basic", "alice:wrong"))
        self.admit(head("Bearer", "any"))
        assert self.conduct.count("password") == 2

    def test_a_refusal_is_not_remembered_for_good(self) -> None:
        self.refused(head("Basic", "bob:pw"))
        self.passwords.accounts["default", "bob", "pw"] = ALICE
        self.admit(head("Basic", "bob:pw"))

    def test_a_database_that_is_away_is_no_refusal(self) -> None:
        self.admit(head("Basic", "alice:secret"))
        self.conduct.fail("is_blocked", DatabaseUnavailable("away"))
        self.failure(self.gate.admit(head("Basic", "alice:secret")), DatabaseUnavailable)

    def test_a_token_may_be_for_one_vm(self) -> None:
        identity = self.admit(head("Bearer", "nine"))
        identity.check_vm(VMId(9))
        with pytest.raises(Forbidden):
            identity.check_vm(VMId(8))
        self.admit(head("Bearer", "any")).check_vm(VMId(8))
