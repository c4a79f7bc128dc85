"""How often somebody may fail, and how often they may call."""

from __future__ import annotations

import pytest
from attrs import evolve
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock

from qvd.admin.login.throttle import LIMITS, Rate, RequestThrottle, network_of
from qvd.db.attempts import wait_after
from tests.admin.logins import Client
from tests.admin.test_login import PASSWORD
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, spawn


def pass_time(world: ApiWorld, seconds: int) -> None:
    """As if that long had gone by."""
    world.ask(
        "UPDATE login_attempts SET last_at = last_at - make_interval(secs => %s),"
        " until = until - make_interval(secs => %s), good_at = good_at - make_interval(secs => %s)",
        seconds,
        seconds,
        seconds,
    )


@pytest.mark.acceptance(10)
@asynchronous
async def test_the_sixth_failure_waits(logins: ApiWorld) -> None:
    """Point 10 of the acceptance checklist."""
    thief, anna = Client(logins, address="203.0.113.9"), Client(logins)
    for _ in range(5):
        assert (await thief.log_in("anna", "acme", "wrong")).status == 401
    for name in ("anna", " ANNA"):
        sixth = await thief.log_in(name, "acme", PASSWORD)
        assert (sixth.status, sixth.problem) == (429, "too-many-requests")
        assert 25 <= int(sixth.headers["Retry-After"]) <= 30
    assert (await anna.log_in("anna", "acme", PASSWORD)).status == 200
    last = logins.trail()[6]
    assert (last["outcome"], last["problem"], last["object_name"]) == ("denied", "too-many-requests", "anna")
    pass_time(logins, 31)
    assert (await thief.log_in("anna", "acme", "wrong")).status == 401
    assert 55 <= int((await thief.log_in("anna", "acme", "wrong")).headers["Retry-After"]) <= 60
    pass_time(logins, 901)
    assert [(await thief.log_in("anna", "acme", "wrong")).status for _ in range(6)] == [401] * 5 + [429]


@asynchronous
async def test_names_that_there_are_not_wait_alike(logins: ApiWorld) -> None:
    client = Client(logins)
    assert [(await client.log_in("nobody", "nowhere", "wrong")).status for _ in range(6)] == [401] * 5 + [429]


@asynchronous
async def test_success_forgives(logins: ApiWorld) -> None:
    client = Client(logins)
    for _ in range(3):
        for _ in range(4):
            assert (await client.log_in("anna", "acme", "wrong")).status == 401
        assert (await client.log_in("anna", "acme", PASSWORD)).status == 200
    [address] = logins.ask("SELECT failures FROM login_attempts WHERE kind = 'address'")
    # Those before the first success; from then on the pair counts for itself.
    assert address["failures"] == 4


@asynchronous
async def test_many_at_once_count(logins: ApiWorld) -> None:
    client = Client(logins)
    replies = await gatherResults([spawn(client.log_in("anna", "acme", f"guess {n}")) for n in range(12)])
    assert sorted(reply.status for reply in replies) == [401] * 5 + [429] * 7


@asynchronous
async def test_many_names_from_one_address(logins: ApiWorld) -> None:
    client = Client(logins)
    assert (await client.log_in("anna", "acme", PASSWORD)).status == 200
    statuses = [(await client.log_in(f"name{n}", "acme", "wrong")).status for n in range(21)]
    assert statuses == [401] * 20 + [429]
    # Whoever logged in from there before is not locked out by that.
    assert (await client.log_in("anna", "acme", PASSWORD)).status == 200
    assert (await client.log_in("rick", "rival", "rick's password")).status == 429
    assert (await Client(logins, address="192.0.2.2").log_in("rick", "rival", "rick's password")).status == 200


@asynchronous
async def test_one_name_from_many_addresses(logins: ApiWorld) -> None:
    own = Client(logins)
    assert (await own.log_in("anna", "acme", PASSWORD)).status == 200
    for n in range(50):
        assert (await Client(logins, address=f"203.0.113.{n}").log_in("anna", "acme", "wrong")).status == 401
    assert (await Client(logins, address="198.51.100.1").log_in("anna", "acme", PASSWORD)).status == 429
    assert (await own.log_in("anna", "acme", PASSWORD)).status == 200
    pass_time(logins, 31)
    assert (await Client(logins, address="198.51.100.1").log_in("anna", "acme", PASSWORD)).status == 200


@asynchronous
async def test_old_ones_go(logins: ApiWorld) -> None:
    await Client(logins).log_in("nobody", "acme", "wrong")
    pass_time(logins, 90_000)
    await Client(logins, address="192.0.2.2").log_in("anna", "acme", PASSWORD)
    # The tenant's is there again, for anna.
    rows = logins.ask("SELECT kind, count(*) AS count FROM login_attempts GROUP BY kind")
    assert {row["kind"]: row["count"] for row in rows} == {"pair": 1, "account": 1, "address": 1, "tenant": 1}
    assert "nobody" not in str(logins.ask("SELECT key FROM login_attempts"))


def test_waits_double() -> None:
    limit = LIMITS["pair"]
    assert [wait_after(n, limit) for n in (1, 4, 5, 6, 7, 8, 9, 10, 10_000)] == [0, 0, 30, 60, 120, 240, 480, 900, 900]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::9", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


@asynchronous
async def test_calls(api: ApiWorld) -> None:
    clock = Clock()
    throttle = RequestThrottle(clock, known=Rate(3, 1.0), unknown=Rate(2, 10.0), most=2)
    api.services.throttle = throttle

    async def status(who: object) -> int:
        return (await api.call(who, "GET", "/users")).status  # type: ignore[arg-type]

    assert [await status(api.anna) for _ in range(4)] == [200] * 3 + [429]
    assert await status(api.rick) == 200
    refused = await api.call(api.anna, "GET", "/users")
    assert (refused.problem, refused.headers["Retry-After"]) == ("too-many-requests", "1")
    clock.advance(1)
    assert [await status(api.anna) for _ in range(2)] == [200, 429]
    clock.advance(100)
    assert [await status(api.anna) for _ in range(4)] == [200] * 3 + [429]
    assert [await status(None) for _ in range(3)] == [401, 401, 429]
    assert len(throttle._free_at) == 2


@asynchronous
async def test_a_flood_does_not_fill_the_audit_trail(api: ApiWorld) -> None:
    api.services.throttle = RequestThrottle(Clock(), unknown=Rate(2, 10.0))
    for _ in range(9):
        await api.call(None, "POST", "/users", {"name": "x"})
    assert [each["problem"] for each in api.trail()] == ["credentials-required"] * 2 + ["too-many-requests"]
    everybody = evolve(api.anna)
    assert (await api.call(everybody, "POST", "/users", {"name": "x"})).status == 201
