"""Calls whose clients go away, and calls that are there when the daemon stops."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred

from qvd.admin.call import Answer
from qvd.admin.problems import Problem
from qvd.admin.underway import Underway
from tests.admin.raw import hang_up
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, pause, spawn, until

HEAD = b"Host: localhost\r\nAuthorization: Bearer anna\r\nContent-Type: application/json\r\n"


def lock_users(api: ApiWorld) -> None:
    """Whoever writes a user waits from now on, until L{unlock}."""
    api.ask("BEGIN")
    api.ask("LOCK TABLE users")


def unlock(api: ApiWorld) -> None:
    api.ask("COMMIT")


@asynchronous
async def test_who_hangs_up_costs_no_connection_to_the_database(api: ApiWorld, tmp_path: Path) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna}, {"database.pool.size": 2})
    await server.start()
    pool = server.composition.pool
    try:
        await until(lambda: pool.load().idle == 2, "all connections are there")
        links = set(pool._links)
        lock_users(api)
        for _ in range(3):
            await hang_up(server, b"GET /api/v1/users HTTP/1.1\r\n" + HEAD + b"\r\n")
        await until(lambda: pool.load().waiting == 1, "all wait for the table")
        unlock(api)
        await until(lambda: pool.load().idle == 2, "all is answered")
        assert set(pool._links) == links
    finally:
        await server.stop()


@asynchronous
async def test_a_change_whose_client_is_gone_is_whole_and_in_the_trail(api: ApiWorld, tmp_path: Path) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna})
    await server.start()
    try:
        lock_users(api)
        body = b'{"name": "alice"}'
        head = b"POST /api/v1/users HTTP/1.1\r\n" + HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
        await hang_up(server, head + body)
        await until(lambda: server.composition.underway.count == 1, "it is being done")
        await pause(0.1)
        unlock(api)
        await until(lambda: server.composition.underway.count == 0, "it is done")
        assert api.ask("SELECT login FROM users") == [{"login": "alice"}]
        assert [row["action"] for row in api.trail()] == ["user.create"]
    finally:
        await server.stop()


@asynchronous
async def test_who_is_being_answered_when_the_daemon_stops_gets_the_answer(api: ApiWorld, tmp_path: Path) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna})
    await server.start()
    lock_users(api)
    headers = {"Authorization": "Bearer anna"}
    answering = server.ask("GET", "/api/v1/users", headers=headers)
    await until(lambda: server.composition.underway.count == 1, "it is being answered")
    stopping = server.stop()
    await pause(0.1)
    unlock(api)
    assert (await answering).status == 200
    await stopping


@asynchronous
async def test_a_stop_gives_up_what_does_not_end(api: ApiWorld, tmp_path: Path) -> None:
    server = Server(api.dsn, tmp_path, {"anna": api.anna}, {"admin.stop.timeout": 1.5})
    await server.start()
    lock_users(api)
    answering = server.ask("GET", "/api/v1/users", headers={"Authorization": "Bearer anna"})
    answering.addErrback(lambda _: None)
    await until(lambda: server.composition.underway.count == 1, "it is being answered")
    await server.stop()
    assert server.composition.underway.count == 0
    unlock(api)
    await answering


async def answer_after(wait: Deferred[None]) -> Answer:
    await wait
    return Answer(204)


@asynchronous
async def test_there_is_a_bound_for_one_address_and_for_all() -> None:
    underway, wait = Underway(most=3, most_of_one=2), Deferred[None]()
    waiting = [underway.run(address, answer_after(wait)) for address in ("a", "a")]
    assert refusal(underway, "a") == "Too many calls at once: try again"
    assert refusal(underway, "b") == ""
    waiting.append(underway.run("b", answer_after(wait)))
    assert refusal(underway, "c") == "Too many calls at once: try again"
    wait.callback(None)
    assert [(await each).status for each in waiting] == [204, 204, 204]
    assert refusal(underway, "a") == ""
    await underway.stop()
    assert refusal(underway, "a") == "The administration is stopping"


@asynchronous
async def test_a_stop_that_is_given_up_cancels_the_calls() -> None:
    underway, never = Underway(), Deferred[None]()
    waiting = underway.run("a", answer_after(never))
    stopping = spawn(underway.stop())
    stopping.cancel()
    for each in (stopping, waiting):
        try:
            await each
        except CancelledError:
            continue
        raise AssertionError("it was not given up")
    assert underway.count == 0


def refusal(underway: Underway, address: str) -> str:
    try:
        underway.admit(address)
    except Problem as problem:
        return problem.detail
    return ""
