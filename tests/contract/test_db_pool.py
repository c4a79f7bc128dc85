"""L{qvd.db.pool} against a real server that is restarted, paused, and cut by a proxy."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg2.errors
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from qvd.db import pool as pool_module
from qvd.db.pool import Pool
from qvd.interfaces import IDatabase, ITransaction
from qvd.model.errors import DatabaseUnavailable, NotFound
from qvd.model.secret import Secret
from tests.fakes.asynchronous import pause, spawn, until
from tests.fakes.postgres import RealPostgres
from tests.fakes.tcp_proxy import FaultyProxy

NewPool = Callable[..., Pool]
DELAYED = "SELECT pg_sleep(60)"


@pytest_twisted.async_yield_fixture
async def new_pool(empty_database: str) -> AsyncIterator[NewPool]:
    """Makes pools, not started, on the test's own database; they are stopped in the end."""
    made: list[Pool] = []

    def new(dsn: Any = empty_database, size: int = 2, deadline: float = 10.0) -> Pool:
        made.append(Pool(reactor, dsn, size, deadline, random.Random(1)))
        return made[-1]

    yield new
    for pool in made:
        await pool.stop()


async def answers(pool: Pool) -> bool:
    try:
        row = await pool.fetch_one("SELECT 1 AS one")
    except DatabaseUnavailable:
        return False
    return row is not None and row["one"] == 1


async def until_back(pool: Pool) -> None:
    """The pool works again; how long that takes is not a test's to say."""
    for _ in range(300):
        if await answers(pool):
            return
        await pause(0.1)
    raise AssertionError("the pool does not come back")


async def connections(pool: Pool) -> int:
    """How many connections the server sees, by our application name, that are at work or in a transaction."""
    row = await pool.fetch_one(
        "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = 'qvd'"
        " AND datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    assert row is not None
    return int(row["number"])


@pytest_twisted.ensureDeferred
async def test_statements(new_pool: NewPool) -> None:
    pool = new_pool()
    assert verifyObject(IDatabase, pool)
    await pool.start()
    assert pool.available
    await pool.execute("CREATE TABLE things (id integer PRIMARY KEY, name text)")
    assert await pool.execute("INSERT INTO things VALUES (%s, %s), (%s, %s)", (1, "a", 2, "b")) == 2
    assert [dict(row) for row in await pool.fetch("SELECT * FROM things ORDER BY id")] == [
        {"id": 1, "name": "a"},
        {"id": 2, "name": "b"},
    ]
    row = await pool.fetch_one("UPDATE things SET name = %(name)s WHERE id = 2 RETURNING id", {"name": "50 %"})
    assert row is not None and row["id"] == 2
    assert await pool.fetch_one("SELECT id FROM things WHERE name LIKE '%50%'") == {"id": 2}
    assert await pool.fetch_one("SELECT * FROM things WHERE id = 3") is None
    assert await pool.execute("DELETE FROM things WHERE id = 3") == 0
    assert list(await pool.fetch("DELETE FROM things")) == []


@pytest_twisted.ensureDeferred
async def test_session_set_up(new_pool: NewPool) -> None:
    pool = new_pool(deadline=7.0)
    await pool.start()
    row = await pool.fetch_one(
        "SELECT current_setting('timezone') AS zone, current_setting('statement_timeout') AS statement,"
        " current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('application_name') AS name"
    )
    assert row == {"zone": "UTC", "statement": "9s", "idle": "9s", "name": "qvd"}


@pytest_twisted.ensureDeferred
async def test_parameters_as_mapping(postgres: RealPostgres, empty_database: str, new_pool: NewPool) -> None:
    parameters: dict[str, object] = psycopg2.extensions.parse_dsn(postgres.over_tcp(empty_database))
    parameters["password"] = Secret(str(parameters["password"]))
    pool = new_pool(parameters)
    await pool.start()
    assert await answers(pool)


@pytest_twisted.ensureDeferred
async def test_second_address_is_tried(postgres: RealPostgres, empty_database: str, new_pool: NewPool) -> None:
    """A closed port comes as a hang-up of the socket: that must not end libpq's walk through its addresses."""
    parameters = psycopg2.extensions.parse_dsn(postgres.over_tcp(empty_database))
    pool = new_pool({**parameters, "host": "127.0.0.1,127.0.0.1", "port": f"1,{postgres.port}"})
    await pool.start()
    assert await answers(pool)


@pytest_twisted.ensureDeferred
async def test_error_of_a_statement_keeps_the_connection(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()
    before = await pool.fetch_one("SELECT pg_backend_pid() AS pid")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        await pool.fetch("SELECT * FROM nowhere")
    with pytest.raises(psycopg2.ProgrammingError):
        await pool.fetch("SELECT %s", (object(),))
    with pytest.raises(psycopg2.errors.QueryCanceled):
        await pool.fetch("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)")
    assert await pool.fetch_one("SELECT pg_backend_pid() AS pid") == before


@pytest_twisted.ensureDeferred
async def test_transaction(new_pool: NewPool) -> None:
    pool = new_pool()
    await pool.start()
    await pool.execute("CREATE TABLE things (id integer)")
    kept: list[ITransaction] = []

    async def work(transaction: ITransaction) -> int:
        assert verifyObject(ITransaction, transaction)
        kept.append(transaction)
        await transaction.execute("INSERT INTO things VALUES (1)")
        level = await transaction.fetch_one("SHOW transaction_isolation")
        assert level == {"transaction_isolation": "read committed"}
        return len(await transaction.fetch("SELECT * FROM things"))

    assert await pool.transact("insert", work) == 1
    assert len(await pool.fetch("SELECT * FROM things")) == 1
    with pytest.raises(RuntimeError, match="insert is over"):
        await kept[0].fetch("SELECT 1")


@pytest_twisted.ensureDeferred
async def test_roll_back(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()
    await pool.execute("CREATE TABLE things (id integer PRIMARY KEY)")

    async def refuse(transaction: ITransaction) -> None:
        await transaction.execute("INSERT INTO things VALUES (1)")
        raise NotFound("no")

    async def violate(transaction: ITransaction) -> None:
        await transaction.execute("INSERT INTO things VALUES (1), (1)")

    async def go_on(transaction: ITransaction) -> None:
        try:
            await violate(transaction)
        except psycopg2.errors.UniqueViolation:
            pass

    with pytest.raises(NotFound):
        await pool.transact("refuse", refuse)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        await pool.transact("violate", violate)
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        await pool.transact("go on", go_on)
    assert list(await pool.fetch("SELECT * FROM things")) == []


@pytest_twisted.ensureDeferred
async def test_a_second_connection_is_refused(new_pool: NewPool) -> None:
    pool = new_pool()
    await pool.start()

    async def work(transaction: ITransaction) -> None:
        with pytest.raises(RuntimeError, match="outer"):
            await pool.fetch("SELECT 1")
        with pytest.raises(RuntimeError, match="outer"):
            await pool.transact("inner", work)

    await pool.transact("outer", work)
    both: list[Deferred[Any]] = [spawn(pool.transact("outer", work)), spawn(pool.execute("SELECT 1"))]
    await gatherResults(both)
    assert await answers(pool)


@pytest_twisted.ensureDeferred
async def test_what_a_lost_transaction_sets_off_is_outside_of_it(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()

    async def cut(transaction: ITransaction) -> None:
        await transaction.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)")

    lost = spawn(pool.transact("cut", cut))
    # Waits for the connection that is made for the lost one; its callback asks again in the same breath.
    waiting = spawn(pool.fetch("SELECT %s", (object(),)))
    again: Deferred[Any] = waiting.addErrback(lambda _: spawn(pool.fetch("SELECT 1 AS one")))
    with pytest.raises(DatabaseUnavailable):
        await lost
    assert await again == [{"one": 1}]


@pytest_twisted.ensureDeferred
async def test_one_statement_at_a_time(new_pool: NewPool) -> None:
    pool = new_pool()
    await pool.start()

    async def work(transaction: ITransaction) -> None:
        first = spawn(transaction.fetch("SELECT pg_sleep(0.05)"))
        with pytest.raises(RuntimeError, match="one statement"):
            await transaction.fetch("SELECT 1")
        await first

    await pool.transact("both", work)


@pytest_twisted.ensureDeferred
async def test_serialization_failure_is_tried_again(new_pool: NewPool) -> None:
    pool = new_pool(size=3)
    await pool.start()
    await pool.execute("CREATE TABLE counters (n integer)")
    await pool.execute("INSERT INTO counters VALUES (0)")
    began: list[Deferred[None]] = [Deferred(), Deferred()]
    tries = 0

    async def increase(transaction: ITransaction) -> None:
        nonlocal tries
        await transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = await transaction.fetch_one("SELECT n FROM counters")
        assert row is not None
        tries += 1
        if tries <= 2:
            began[tries - 1].callback(None)
            await began[1] if tries == 1 else None
        await transaction.execute("UPDATE counters SET n = %s", (row["n"] + 1,))

    await gatherResults([spawn(pool.transact("increase", increase)) for _ in range(2)])
    assert await pool.fetch("SELECT n FROM counters") == [{"n": 2}]
    assert tries == 3


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("call", ["execute", "fetch", "fetch_one"])
async def test_a_statement_of_its_own_is_tried_again(new_pool: NewPool, call: str) -> None:
    pool = new_pool()
    await pool.start()
    # A sequence goes on where all else is undone.
    await pool.execute("CREATE SEQUENCE tries")
    await pool.execute(
        "CREATE FUNCTION third_time() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint := nextval('tries'); BEGIN"
        " IF n < 3 THEN RAISE EXCEPTION SQLSTATE '40P01'; END IF; RETURN n; END $$"
    )
    await getattr(pool, call)("SELECT third_time()")
    assert await pool.fetch("SELECT last_value FROM tries") == [{"last_value": 3}]


@pytest_twisted.ensureDeferred
async def test_retries_are_bounded(new_pool: NewPool) -> None:
    pool = new_pool()
    await pool.start()
    tries = 0

    async def hopeless(transaction: ITransaction) -> None:
        nonlocal tries
        tries += 1
        await transaction.execute("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40P01'; END $$")

    with pytest.raises(psycopg2.errors.DeadlockDetected):
        await pool.transact("hopeless", hopeless)
    assert tries == 1 + pool_module.RETRIES


@pytest_twisted.ensureDeferred
async def test_callers_wait_in_line(new_pool: NewPool) -> None:
    pool = new_pool(size=2)
    await pool.start()
    order: list[int] = []

    async def call(number: int) -> None:
        await pool.fetch("SELECT pg_sleep(0.002)")
        order.append(number)

    await gatherResults([spawn(call(number)) for number in range(40)])
    assert sorted(order) == list(range(40))
    assert order.index(0) < order.index(39)
    row = await pool.fetch_one("SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()")
    assert row == {"n": 2}


@pytest_twisted.ensureDeferred
async def test_the_line_is_bounded(new_pool: NewPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MOST_WAITING", 3)
    pool = new_pool(size=1)
    await pool.start()
    calls = [spawn(pool.fetch("SELECT pg_sleep(0.1)")) for _ in range(4)]
    with pytest.raises(DatabaseUnavailable, match="Too many"):
        await pool.fetch("SELECT 1")
    await gatherResults(calls)


@pytest_twisted.ensureDeferred
async def test_many_that_fail_at_once(new_pool: NewPool) -> None:
    """Each is done in the callback that gives it the connection: that must not nest."""
    pool = new_pool(size=1)
    await pool.start()
    calls = [spawn(pool.fetch("SELECT %s", (object(),))) for _ in range(900)]
    for call in calls:
        with pytest.raises(psycopg2.ProgrammingError):
            await call
    assert await answers(pool)


@pytest_twisted.ensureDeferred
async def test_deadline_of_a_statement(new_pool: NewPool) -> None:
    pool = new_pool(size=1, deadline=0.3)
    await pool.start()
    with pytest.raises(DatabaseUnavailable, match=r"0\.3 s"):
        await pool.fetch(DELAYED)
    await until_back(pool)


@pytest_twisted.ensureDeferred
async def test_deadline_counts_the_waiting(new_pool: NewPool, empty_database: str) -> None:
    pool = new_pool(size=1, deadline=0.4)
    await pool.start()
    first = spawn(pool.fetch(DELAYED))
    second = spawn(pool.fetch(DELAYED))
    for call in (first, second):
        with pytest.raises(DatabaseUnavailable):
            await call
    await until_back(pool)


@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_runs(new_pool: NewPool) -> None:
    pool, watcher = new_pool(size=1), new_pool(size=1)
    await pool.start()
    await watcher.start()
    call = spawn(pool.fetch("SELECT pg_sleep(60)"))
    while await connections(watcher) != 1:
        await pause(0.01)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await until_back(pool)
    # The server notices by itself that nobody waits any more.
    while await connections(watcher):
        await pause(0.05)


@pytest_twisted.ensureDeferred
async def test_cancelled_in_the_turn_of_its_answer(new_pool: NewPool) -> None:
    """txpostgres hands an answer over in the next turn of the reactor: cancelling before must do no harm."""
    pool = new_pool(size=1)
    await pool.start()
    for number in range(30):
        call = spawn(pool.fetch("SELECT 1"))
        await pause(number * 0.0001)
        call.cancel()
        try:
            await call
        except (CancelledError, DatabaseUnavailable):
            await until_back(pool)
    assert await answers(pool)


@pytest_twisted.ensureDeferred
async def test_cancelled_in_line(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()
    first, second, third = (spawn(pool.fetch("SELECT pg_sleep(0.1), %s AS n", (n,))) for n in range(3))
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    assert (await first)[0]["n"] == 0
    assert (await third)[0]["n"] == 2


@pytest_twisted.ensureDeferred
async def test_cancelled_transaction_is_not_committed(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()
    await pool.execute("CREATE TABLE things (id integer)")
    inserted: Deferred[None] = Deferred()

    async def work(transaction: ITransaction) -> None:
        await transaction.execute("INSERT INTO things VALUES (1)")
        inserted.callback(None)
        await Deferred()

    call = spawn(pool.transact("never ends", work))
    await inserted
    await pause(0)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await until_back(pool)
    assert list(await pool.fetch("SELECT * FROM things")) == []


@pytest_twisted.ensureDeferred
async def test_restart_under_load(
    new_pool: NewPool, postgres: RealPostgres, empty_database: str, logged: list[dict[str, Any]]
) -> None:
    pool = new_pool(size=3)
    await pool.start()
    errors: list[DatabaseUnavailable] = []
    good = 0
    stopping = False

    async def work(transaction: ITransaction) -> None:
        await transaction.fetch("SELECT pg_sleep(0.002)")
        await transaction.fetch("SELECT 1")

    async def load() -> None:
        nonlocal good
        while not stopping:
            try:
                await pool.transact("load", work)
                good += 1
            except DatabaseUnavailable as error:
                errors.append(error)
                await pause(0.01)

    clients = [spawn(load()) for _ in range(8)]
    for mode in ("fast", "immediate"):
        before, failed = good, len(errors)
        await until(lambda before=before: good > before + 20)  # type: ignore[misc]
        await deferToThread(postgres.stop, mode)
        await until(lambda failed=failed: len(errors) > failed)  # type: ignore[misc]
        await until(lambda: not pool.available)
        with pytest.raises(DatabaseUnavailable) as refused:
            await pool.fetch("SELECT 1")
        assert refused.value.retry_after == 5
        postgres.start()
        before = good
        await until(lambda before=before: good > before + 20)  # type: ignore[misc]
    stopping = True
    await gatherResults(clients)
    assert pool.available
    # One line when it is lost, one when it is back, each time.
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info] * 2


@pytest_twisted.ensureDeferred
async def test_idle_when_the_server_restarts(
    new_pool: NewPool, postgres: RealPostgres, logged: list[dict[str, Any]]
) -> None:
    pool = new_pool()
    await pool.start()
    await until(lambda: len(pool._links) == 2)
    await deferToThread(postgres.stop)
    await until(lambda: not pool.available)
    postgres.start()
    await until(lambda: pool.available)
    assert await answers(pool)
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info]


@pytest_twisted.ensureDeferred
async def test_one_connection_less_is_no_loss(new_pool: NewPool, logged: list[dict[str, Any]]) -> None:
    pool = new_pool(size=2)
    await pool.start()
    await until(lambda: len(pool._links) == 2)
    await pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert await answers(pool)
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)")
    await until_back(pool)
    await until(lambda: len(pool._links) == 2)
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_mute_server(new_pool: NewPool, postgres: RealPostgres, logged: list[dict[str, Any]]) -> None:
    pool = new_pool(size=2, deadline=0.5)
    await pool.start()
    await until(lambda: len(pool._links) == 2)
    postgres.pause()
    turns: list[None] = []
    calls = [spawn(pool.fetch("SELECT 1")) for _ in range(5)]
    ticking = spawn(tick(turns))
    for call in calls:
        with pytest.raises(DatabaseUnavailable):
            await call
    await until(lambda: not pool.available)
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT 1")
    ticking.cancel()
    with pytest.raises(CancelledError):
        await ticking
    # The reactor was never held up.
    assert len(turns) > 5
    postgres.resume()
    await until_back(pool)
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info]


async def tick(turns: list[None]) -> None:
    while True:
        await pause(0.02)
        turns.append(None)


@pytest_twisted.ensureDeferred
async def test_cut_in_a_statement(
    new_pool: NewPool, postgres: RealPostgres, empty_database: str, proxy: tuple[FaultyProxy, int]
) -> None:
    faulty, port = proxy
    pool = new_pool(postgres.over_tcp(empty_database, port), size=1)
    await pool.start()
    await pool.execute("CREATE TABLE things (id integer)")

    async def work(transaction: ITransaction) -> None:
        await transaction.execute("INSERT INTO things VALUES (1)")
        await transaction.execute("SELECT pg_sleep(60)")

    for cut_at in (b"pg_sleep", b"BEGIN", b"INSERT"):
        faulty.cut_on(cut_at)
        with pytest.raises(DatabaseUnavailable):
            await pool.transact("cut", work)
        await until_back(pool)
    assert list(await pool.fetch("SELECT * FROM things")) == []


@pytest_twisted.ensureDeferred
async def test_answers_that_are_lost(
    new_pool: NewPool, postgres: RealPostgres, empty_database: str, proxy: tuple[FaultyProxy, int]
) -> None:
    """The network swallows everything and no connection is closed: only deadlines help."""
    faulty, port = proxy
    pool = new_pool(postgres.over_tcp(empty_database, port), size=2, deadline=0.5)
    await pool.start()
    faulty.mute()
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT 1")
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT 1")
    await until(lambda: not pool.available)
    faulty.cut()
    faulty.unmute()
    await until_back(pool)


@pytest_twisted.ensureDeferred
async def test_start_without_a_server(
    new_pool: NewPool,
    postgres: RealPostgres,
    empty_database: str,
    proxy: tuple[FaultyProxy, int],
    logged: list[dict[str, Any]],
) -> None:
    faulty, port = proxy
    faulty.refusing = True
    pool = new_pool(postgres.over_tcp(empty_database, port), deadline=0.5)
    with pytest.raises(DatabaseUnavailable) as raised:
        await pool.start()
    assert "password" not in raised.value.text
    assert not pool.available
    faulty.refusing = False
    await until_back(pool)
    assert [event["log_level"] for event in logged] == [LogLevel.warn, LogLevel.info]


@pytest_twisted.ensureDeferred
async def test_stop(new_pool: NewPool) -> None:
    pool = new_pool(size=1)
    await pool.start()
    running, waiting = spawn(pool.fetch(DELAYED)), spawn(pool.fetch(DELAYED))
    await pool.stop()
    for call in (running, waiting, spawn(pool.fetch("SELECT 1"))):
        with pytest.raises(DatabaseUnavailable):
            await call
    assert pool._links == set()


@pytest_twisted.ensureDeferred
async def test_stop_while_connecting(
    new_pool: NewPool, postgres: RealPostgres, empty_database: str, proxy: tuple[FaultyProxy, int]
) -> None:
    faulty, port = proxy
    faulty.mute()
    pool = new_pool(postgres.over_tcp(empty_database, port))
    starting = spawn(pool.start())
    await until(lambda: faulty.legs)
    await pool.stop()
    with pytest.raises(DatabaseUnavailable):
        await starting
    await until(lambda: not faulty.legs, "the end of the half-open connection")
