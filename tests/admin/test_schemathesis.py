"""
Schemathesis against the description that the daemon serves: no 500, and no answer that is not described.

With an administrator of each role, a little; with the two who may do everything, more: also the edges of each
parameter, and calls that follow each other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from qvd.model.declared import Principal
from tests.admin.matrix import principal_of
from tests.admin.roles import Caller, callers
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
)
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
"""503 has a reason that is not ours, such as no node for a VM; where it is not described it is still found."""
HOOKS = """
import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""
LISTS = r"^GET /api/v1/[a-z]+$"
"""They have so many filters that the edges of each would take minutes; their examples are made at random."""


PATIENCE = float(os.environ.get("QVD_SCHEMATHESIS") or 1)
"""How many times as long as in the daily test to try."""


@frozen
class Plan:
    """@ivar examples: of each operation.
    @ivar seconds: after which no more are begun.
    """

    name: str
    phases: str
    examples: int
    seconds: int
    more: tuple[str, ...] = ()


LITTLE = Plan("little", "examples,fuzzing", 1, round(4 * PATIENCE))
MUCH = (
    Plan("random", "examples,fuzzing", 2, round(8 * PATIENCE)),
    Plan("edges", "coverage", 2, round(8 * PATIENCE), (f"--exclude-name-regex={LISTS}",)),
    Plan("sequences", "stateful", 2, round(15 * PATIENCE)),
)
"""Short, since all tests are to be through soon; how far they come, the machine says."""
CALLERS = [each for each in callers() if not each.anonymous and not each.expired]
ASSIGNABLE = {"Root", "Operator L1", "Operator L2", "Operator L3", "Tenant owner", "Auditor", "Helpdesk"}
"""Of the shipped roles, those that people get; the others are what these are made of."""
RUNS = [
    (caller, plan)
    for caller in CALLERS
    if caller.acls is None or caller.name in ASSIGNABLE
    for plan in (MUCH if caller.acls is None else (LITTLE,))
]


def known(api: ApiWorld, caller: Caller) -> Principal:
    """A caller as an administrator that there is."""
    owner = api.boss if caller.superadmin else api.anna
    made = principal_of(caller, owner.administrator_id, api.acme)
    assert made is not None
    return made


@pytest.mark.acceptance(24)
@pytest.mark.parametrize(("caller", "plan"), RUNS, ids=lambda each: each.name)
@asynchronous
async def test_answers_are_as_described(api: ApiWorld, tmp_path: Path, caller: Caller, plan: Plan) -> None:
    for tenant in (api.acme, api.rival):
        for number in range(3):
            api.insert("users (tenant_id, login) VALUES (%s, %s)", tenant, f"user{number}")
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    (tmp_path / "hooks.py").write_text(HOOKS)
    server = Server(api.dsn, tmp_path, {"known": known(api, caller)}, {"path.storage.images": str(images)})
    await server.start()
    try:
        output, errors, status = await getProcessOutputAndValue(  # type: ignore[no-untyped-call]
            str(Path(sys.executable).with_name("st")),
            [
                "run",
                f"{server.url}/api/v1/openapi.json",
                f"--tls-verify={server.ca_file}",
                "--header=Authorization: Bearer known",
                f"--checks={CHECKS}",
                f"--phases={plan.phases}",
                f"--max-examples={plan.examples}",
                f"--max-time={plan.seconds}",
                *plan.more,
                "--seed=1",
                "--request-timeout=30",
                "--no-color",
                "--generation-database=none",
                "--suppress-health-check=all",
                "--warnings=off",
            ],
            env={**os.environ, "COLUMNS": "120", "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)},
            path=str(tmp_path),
            reactor=reactor,
        )
    finally:
        await server.stop()
    assert status == 0, (output + errors).decode()
    # One that has called nothing has found nothing.
    assert b"passed" in output, output.decode()
