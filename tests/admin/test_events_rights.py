"""Events and the rights of who hears them, by the real gate: acceptance point 5."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from attrs import evolve

from qvd.db.roles import Authority
from qvd.model.shipped_roles import BY_NAME, TENANT_OWNER
from tests.admin.listening import Listener, Listening
from tests.admin.logins import Client, real_gate
from tests.admin.test_login import logged_in
from tests.admin.test_tokens import made
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, until

READER = BY_NAME["Users Reader"].role_id
pytestmark = pytest.mark.acceptance(5)


@pytest.fixture
def roles(logins: ApiWorld, listening: Listening) -> ApiWorld:
    """Rights are those of the roles in the database, and asked for again as in production."""
    logins.services.gate = real_gate(evolve(logins.services.login, authority=Authority(logins.pool)))
    listening.feed.identify = logins.services.gate.recheck
    for each in (logins.anna, logins.rick):
        hold(logins, each.administrator_id, TENANT_OWNER)
    return logins


def hold(world: ApiWorld, administrator: int, role: int) -> None:
    world.ask(
        "INSERT INTO administrator_roles (administrator_id, tenant_id, role_id, role_tenant_id)"
        " SELECT a.id, a.tenant_id, r.id, r.tenant_id FROM administrators a, roles r WHERE a.id = %s AND r.id = %s",
        administrator,
        role,
    )


def headers(client: Client) -> Mapping[str, str]:
    sent = {"user-agent": "tests", "host": "api.example"}
    if client.token:
        return sent | {"authorization": f"Bearer {client.token}"}
    return sent | {"cookie": f"__Host-qvd={client.cookie}"}


async def ended_within_5_s(listening: Listening, listener: Listener) -> str:
    """Why it is over."""
    began = listening.feed.reactor.seconds()
    await until(lambda: listener.ended, "the end")
    assert listening.feed.reactor.seconds() - began < 5
    assert listener.changes[-1].name == "revoked"
    return str(listener.changes[-1].data["reason"])


@asynchronous
async def test_two_at_one_service(roles: ApiWorld, listening: Listening) -> None:
    """Over the same feed, with the same topics: none gets what is the other's."""
    topics = "users,vms,images,osfs,properties,log,config,administrators,roles,jobs,stats,me"
    anna, rick = await logged_in(roles), await logged_in(roles, "rick", "rival")
    first, second = [await listening.listen(topics, headers(each)) for each in (anna, rick)]
    await listening.settled()
    known = len(first.changes), len(second.changes)
    assert (await rick.call("POST", "/users", {"name": "ruth-of-rival"})).status == 201
    assert (await rick.call("POST", "/properties", {"key": "key-of-rival", "kinds": ["user"]})).status == 201
    listening.vm(roles.rival, "vm-of-rival")
    await listening.settled()
    assert len(second.changes) > known[1] and first.changes[known[0] :] == []
    assert b"of-rival" in second.request.written and b"rival" not in first.request.written
    assert (await anna.call("POST", "/users", {"name": "alice-of-acme"})).status == 201
    await listening.settled()
    assert b"of-acme" in first.request.written and b"acme" not in second.request.written


@asynchronous
async def test_a_session_that_is_ended(roles: ApiWorld, listening: Listening) -> None:
    client, other = await logged_in(roles), await logged_in(roles)
    listener, staying = [await listening.listen("users", headers(each)) for each in (client, other)]
    assert (await client.call("POST", "/auth/logout")).status == 204
    assert await ended_within_5_s(listening, listener) == "session-expired"
    roles.insert("users (tenant_id, login) VALUES (%s, 'later')", roles.acme)
    await listening.settled()
    assert [each.name for each in staying.changes] == ["added"] and len(listener.changes) == 1


@asynchronous
async def test_a_token_that_is_revoked(roles: ApiWorld, listening: Listening) -> None:
    client = await logged_in(roles)
    program, token = await made(roles, client, "user.see-main.")
    listener = await listening.listen("users", headers(program))
    assert (await program.call("GET", "/events?topics=vms")).problem == "forbidden"
    assert (await client.call("DELETE", f"/me/tokens/{token['id']}")).status == 204
    assert await ended_within_5_s(listening, listener) == "invalid-credentials"


@asynchronous
async def test_a_role_that_is_withdrawn(roles: ApiWorld, listening: Listening) -> None:
    """The stream is closed; whoever comes back hears what is left to them."""
    client = await logged_in(roles)
    listener = await listening.listen("users,osfs", headers(client))
    last = listener.last_id
    roles.ask("DELETE FROM administrator_roles WHERE administrator_id = %s", roles.anna.administrator_id)
    hold(roles, roles.anna.administrator_id, READER)
    assert await ended_within_5_s(listening, listener) == "permissions-changed"
    roles.insert("users (tenant_id, login) VALUES (%s, 'later')", roles.acme)
    assert (await client.call("GET", "/events?topics=users,osfs")).problem == "forbidden"
    again = await listening.listen("users", {**headers(client), "Last-Event-ID": last})
    await listening.settled()
    assert [each.name for each in again.changes] == ["added"]


@asynchronous
async def test_an_administrator_that_is_blocked(roles: ApiWorld, listening: Listening) -> None:
    client = await logged_in(roles)
    listener = await listening.listen("users", headers(client))
    roles.ask("UPDATE administrators SET blocked = true WHERE id = %s", roles.anna.administrator_id)
    assert await ended_within_5_s(listening, listener) == "session-expired"
