"""The authorisation matrix: every route and every kind of caller, really called."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import evolve

from qvd.admin.api import all_endpoints
from qvd.admin.call import Answer, Call
from qvd.admin.dispatch import Dispatcher
from qvd.admin.endpoint import Endpoint
from qvd.admin.problems import Problem
from qvd.model.declared import Principal
from tests.admin.matrix import Matrix, principal_of
from tests.admin.roles import Caller, callers
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

REFUSALS = ("credentials-required", "session-expired", "forbidden", "superadmin-only", "not-found")
"""Problems that a call ends with before it is read, where the caller may not make it."""


def test_each_route_has_an_entry_and_each_entry_a_route() -> None:
    committed, declared = Matrix.committed().allowed, Matrix.declared(all_endpoints()).allowed
    assert committed.keys() == declared.keys(), "run python -m tests.admin.matrix, and look at what it has changed"


def test_entries_are_as_declared() -> None:
    assert Matrix.committed() == Matrix.declared(all_endpoints()), "run python -m tests.admin.matrix, and look"


def test_nobody_who_is_unknown_changes_anything_but_by_logging_in() -> None:
    public = {endpoint.route for endpoint in all_endpoints() if endpoint.need.public}
    for route, allowed in Matrix.committed().allowed.items():
        assert ("anonymous" in allowed) is (route in public)
        if not route.startswith("GET "):
            assert "anonymous" not in allowed or route.startswith("POST /auth/"), route


def test_whoever_is_over_all_tenants_may_call_everything() -> None:
    for route, allowed in Matrix.committed().allowed.items():
        assert "supertenant administrator" in allowed, route


class ExpiredGate:
    """What the callers have is no longer good."""

    async def identify(self, call: Call) -> Principal | None:
        raise Problem("session-expired", "Log in again", headers={"WWW-Authenticate": "Bearer"})

    def check_origin(self, call: Call) -> None:
        """It is not asked."""


async def reaches(api: ApiWorld, endpoint: Endpoint, caller: Caller) -> tuple[bool, Answer]:
    """Whether a call gets as far as the operation, with what is no object's id and as good as no body.

    What streams needs a connection, and is as good as called when it is reached.
    """
    reached: list[Call] = []

    async def handle(call: Call) -> Answer:
        reached.append(call)
        return Answer(204) if endpoint.streamed or endpoint.tag == "events" else await endpoint.handler(call)

    api.gate.principal = principal_of(caller, api.anna.administrator_id, api.acme)
    gate: Any = ExpiredGate() if caller.expired else api.gate
    values = dict.fromkeys(re.findall(r"\{([a-z_]+)\}", endpoint.path), "2000000000")
    path = endpoint.path.format(**values)
    call = api.make_call(evolve(endpoint, handler=handle), values, path, {"If-Match": "*"})
    raw = b"" if endpoint.body is None else b"{}"
    answer = await Dispatcher(evolve(api.services, gate=gate)).dispatch(call, raw)
    if reached:
        return True, answer
    assert answer.body is not None
    return answer.body["type"].removeprefix("/problems/") not in REFUSALS, answer


@pytest.mark.parametrize("caller", callers(), ids=lambda each: each.name)
@asynchronous
async def test_each_entry_is_true(api: ApiWorld, caller: Caller) -> None:
    committed = Matrix.committed().allowed
    for endpoint in all_endpoints():
        found, answer = await reaches(api, endpoint, caller)
        assert found is (caller.name in committed[endpoint.route]), f"{endpoint.route}: {answer}"
        assert answer.status < 500, f"{endpoint.route}: {answer}"
        if not found:
            assert answer.status == (401 if caller.anonymous or caller.expired else answer.status)
            assert answer.status in (401, 403, 404)


@asynchronous
async def test_a_refusal_is_told_from_an_absent_object(api: ApiWorld) -> None:
    """The check above would take one for the other: objects are looked for once the caller was let in."""
    [read] = [each for each in api.endpoints if each.route == "GET /tenants/{id}"]
    assert (await reaches(api, read, Caller("tenant administrator")))[0] is False
    assert (await reaches(api, read, Caller("supertenant administrator", superadmin=True)))[0] is True
