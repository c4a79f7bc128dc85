"""L{qvd.auth.local}: what is refused, how long it takes, and how much may wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import argon2
import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from qvd.auth import local
from qvd.auth.local import DUMMY, PARAMETERS, Argon2Hasher, LocalAuthenticator, check, is_outdated
from qvd.interfaces import IHasher, IPasswordAuthenticator, IUsers
from qvd.model.errors import AuthenticationFailed, DatabaseUnavailable, QVDError, Unavailable
from qvd.model.ids import TenantId, UserId
from qvd.model.records import TokenTerms, TokenUse, User
from qvd.model.secret import Secret

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
DAMAGED = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AA"
PENDING = object()
make_failure: Any = Failure
ALICE = User(UserId(7), TenantId(3), "alice", Secret(CHEAP.hash("right")), blocked=False)


class FakePool:
    """Does in no thread what it is told, when it is told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., Any], Callable[[], Any]]] = []
        self.log: list[str] = []

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def callInThreadWithCallback(self, onResult: Callable[..., Any], func: Callable[[], Any]) -> None:
        self.waiting.append((onResult, func))

    def work(self) -> None:
        """One step of one thread."""
        on_result, func = self.waiting.pop(0)
        try:
            result = func()
        except QVDError:
            on_result(False, make_failure())
        else:
            on_result(True, result)


class FakeReactor:
    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        callable(*args, **kwargs)


def make_hasher(most_waiting: int = 3) -> tuple[Argon2Hasher, FakePool]:
    pool: Any = FakePool()
    reactor: Any = FakeReactor()
    hasher = Argon2Hasher(reactor, most_waiting=most_waiting, pool=pool)
    hasher.start()
    return hasher, pool


def spawn(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def outcome(deferred: Deferred[Any]) -> Any:
    """Its result, C{PENDING}, or the exception it failed with."""
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    result = seen[0] if seen else PENDING
    if isinstance(result, Failure):
        error: Any = result.value
        raise error
    return result


# check()


def test_right_and_wrong() -> None:
    stored = CHEAP.hash("right")
    assert check(stored, "right")
    assert not check(stored, "wrong")
    assert not check(stored, "")


@pytest.mark.parametrize("stored", [None, "5f4dcc3b5aa765d61d8327deb882cf99", ""])
def test_nothing_to_compare_with_costs_a_whole_verification(stored: str | None, monkeypatch: Any) -> None:
    seen = []

    class Spy:
        def verify(self, hash: str, password: bytes) -> bool:
            seen.append(hash)
            return True

    monkeypatch.setattr(local, "PARAMETERS", Spy())
    assert not check(stored, "anything")
    assert seen == [DUMMY]


def test_dummy_has_todays_costs() -> None:
    assert not is_outdated(DUMMY)
    assert is_outdated(CHEAP.hash("right"))
    assert (PARAMETERS.memory_cost, PARAMETERS.time_cost, PARAMETERS.parallelism) == (19 * 1024, 2, 1)
    assert not check(DUMMY, "anything")


def test_password_that_is_no_unicode() -> None:
    assert not check(CHEAP.hash("right"), "\udcff\ud800")


def test_damaged_hash_is_no_wrong_password() -> None:
    with pytest.raises(Unavailable):
        check(DAMAGED, "right")


# Argon2Hasher


def test_hasher_provides_its_port() -> None:
    assert verifyObject(IHasher, make_hasher()[0])


def test_verify_and_hash() -> None:
    hasher, pool = make_hasher()
    stored: list[str] = []
    spawn(hasher.hash("right")).addCallback(stored.append)
    assert stored == []
    pool.work()
    for password, expected in (("right", True), ("wrong", False)):
        verified = spawn(hasher.verify(stored[0], password))
        pool.work()
        assert outcome(verified) is expected


def test_queue_is_bounded() -> None:
    hasher, pool = make_hasher(most_waiting=2)
    first, _ = spawn(hasher.verify(None, "a")), spawn(hasher.verify(None, "b"))
    with pytest.raises(Unavailable) as raised:
        outcome(spawn(hasher.verify(None, "c")))
    assert raised.value.retry_after == 2
    pool.work()
    assert outcome(first) is False
    assert outcome(spawn(hasher.verify(None, "d"))) is PENDING
    assert len(pool.waiting) == 2


def test_nobody_waits_any_more(monkeypatch: Any) -> None:
    """The work is skipped, and its place is taken until its turn comes."""
    hasher, pool = make_hasher(most_waiting=1)
    calls: list[object] = []
    monkeypatch.setattr(local, "check", lambda *args: calls.append(args))
    waiting = spawn(hasher.verify(None, "a"))
    waiting.cancel()
    with pytest.raises(CancelledError):
        outcome(waiting)
    with pytest.raises(Unavailable):
        outcome(spawn(hasher.verify(None, "b")))
    pool.work()
    assert calls == []
    assert outcome(spawn(hasher.verify(None, "c"))) is PENDING


def test_failure_in_the_thread() -> None:
    hasher, pool = make_hasher()
    verified = spawn(hasher.verify(DAMAGED, "a"))
    pool.work()
    with pytest.raises(Unavailable):
        outcome(verified)


def test_stop() -> None:
    hasher, pool = make_hasher()
    waiting = spawn(hasher.verify(None, "a"))
    hasher.stop()
    hasher.stop()
    assert pool.log == ["start"]
    hasher.join()
    assert pool.log == ["start", "stop"]
    for late in (waiting, spawn(hasher.verify(None, "b"))):
        with pytest.raises(Unavailable):
            outcome(late)
    # The thread still comes back with what it had begun.
    pool.work()


@implementer(IHasher)
class FakeHasher:
    """Compares at once and writes down what it was asked."""

    def __init__(self, error: QVDError | None = None) -> None:
        self.verified: list[tuple[str | None, str]] = []
        self._error = error

    async def verify(self, stored: str | None, password: str) -> bool:
        self.verified.append((stored, password))
        if self._error is not None:
            raise self._error
        return stored is not None and check(stored, password)

    async def hash(self, password: str) -> str:
        return f"new hash of {password}"


@implementer(IUsers)
class FakeUsers:
    """Some accounts."""

    def __init__(self, users: Sequence[User], error: QVDError | None = None) -> None:
        self.rehashed: list[tuple[int, str]] = []
        self.asked: list[tuple[str, str]] = []
        self._users = users
        self._error = error

    async def find(self, tenant: str, login: str) -> User | None:
        self.asked.append((tenant, login))
        return next((user for user in self._users if user.login == login), None)

    async def is_blocked(self, user_id: UserId) -> bool:
        raise NotImplementedError

    async def rehash(self, user_id: UserId, old: Secret, new: str) -> None:
        if self._error is not None:
            raise self._error
        self.rehashed.append((user_id, new))

    async def redeem(self, token_hash: bytes) -> TokenUse | None:
        raise NotImplementedError

    async def add_token(self, token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        raise NotImplementedError


# LocalAuthenticator


def login(users: FakeUsers, login: str, password: str, hasher: FakeHasher | None = None) -> Any:
    authenticator = LocalAuthenticator(users, hasher or FakeHasher())
    return outcome(spawn(authenticator.authenticate("acme", login, Secret(password))))


def test_authenticator_provides_its_port() -> None:
    assert verifyObject(IPasswordAuthenticator, LocalAuthenticator(FakeUsers([]), FakeHasher()))


def test_right_login() -> None:
    users = FakeUsers([ALICE])
    assert login(users, "alice", "right") == ALICE
    assert users.asked == [("acme", "alice")]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("blocked", "right"),
        ("keyless", "right"),
        ("empty", ""),
        ("nobody", "right"),
        ("nul\0", "right"),
        ("surrogate\udcff", "right"),
    ],
)
def test_refusals_are_all_the_same(name: str, password: str) -> None:
    """One sentence and one verification each, whatever the reason; and nothing is stored."""
    blocked = evolve(ALICE, login="blocked", blocked=True)
    keyless = evolve(ALICE, login="keyless", password=None)
    empty = evolve(ALICE, login="empty", password=Secret(CHEAP.hash("")))
    users, hasher = FakeUsers([ALICE, blocked, keyless, empty]), FakeHasher()
    with pytest.raises(AuthenticationFailed) as raised:
        login(users, name, password, hasher)
    assert raised.value.text == "Authentication failed"
    assert [seen for _, seen in hasher.verified] == [password]
    assert users.rehashed == []


@pytest.mark.parametrize("name", ["nul\0", "surrogate\udcff"])
def test_database_never_sees_what_it_cannot_hold(name: str) -> None:
    users = FakeUsers([])
    with pytest.raises(AuthenticationFailed):
        login(users, name, "right")
    assert users.asked == []


def test_outdated_hash_is_replaced() -> None:
    users = FakeUsers([ALICE])
    login(users, "alice", "right")
    assert users.rehashed == [(7, "new hash of right")]


def test_current_hash_stays() -> None:
    users = FakeUsers([evolve(ALICE, password=Secret(PARAMETERS.hash("right")))])
    login(users, "alice", "right")
    assert users.rehashed == []


def test_login_is_right_even_when_the_new_hash_cannot_be_stored() -> None:
    users = FakeUsers([ALICE], DatabaseUnavailable("The database does not answer"))
    assert login(users, "alice", "right") == ALICE


def test_too_many_logins() -> None:
    with pytest.raises(Unavailable):
        login(FakeUsers([ALICE]), "alice", "right", FakeHasher(Unavailable("Too many", 2)))
