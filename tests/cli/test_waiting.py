"""C{--wait}."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.admin.desks import Desks
from tests.admin.server import Server
from tests.cli.gate import PASSWORD
from tests.cli.terminal import Run, Terminal
from tests.fakes.asynchronous import asynchronous, until


def ordered(desks: Desks) -> bool:
    [row] = desks.api.ask("SELECT desired_state FROM vm_runtimes WHERE vm_id = %s", desks.vm)
    return bool(row["desired_state"] == "running")


@asynchronous
async def test_until_a_vm_runs(anna: Terminal, desks: Desks) -> None:
    waiting: Deferred[Run] = anna.start("vm", "start", "alice-1", "--wait-for", "20", "-o", "json")
    await until(lambda: ordered(desks), "the order is given")
    desks.be("running")
    done = await waiting
    assert done.status == 0, done.err
    assert "alice-1 is running." in done.err
    assert done.json["id"] == desks.vm


@asynchronous
async def test_a_start_that_fails(anna: Terminal, desks: Desks) -> None:
    waiting: Deferred[Run] = anna.start("vm", "start", "alice-1", "--wait")
    await until(lambda: ordered(desks), "the order is given")
    desks.api.ask(
        "UPDATE vm_runtimes SET failures = failures + 1, last_error = 'no such image' WHERE vm_id = %s", desks.vm
    )
    done = await waiting
    assert (done.status, done.err.splitlines()[-1]) == (1, "Error: alice-1: no such image")


@asynchronous
async def test_not_in_time(anna: Terminal, desks: Desks) -> None:
    done = await anna.start("vm", "start", "alice-1", "--wait-for", "0.3")
    assert done.status == 8
    assert "alice-1 is still stopped, after 0.3 seconds" in done.err


@asynchronous
async def test_more_than_a_call_does_become_a_job(terminal: Terminal, gate: Server, desks: Desks) -> None:
    who = ("--url", gate.url, "--ca", str(gate.ca_file), "--name", "anna", "--tenant", "acme")
    assert (await terminal.start("login", *who, "--password-file", "-", stdin=PASSWORD)).status == 0
    for number in range(60):
        desks.new_vm(desks.api.acme, desks.user, desks.osf, f"many-{number}")
    done = await terminal.start("vm", "block", "--filter", "name~many-%", "--yes", "--wait", "-o", "json")
    assert done.status == 0, done.err
    assert done.json["state"] == "succeeded"
    assert "and 50 more" in done.err
    assert len((await terminal.start("vm", "list", "-q", "--filter", "blocked=true")).out.split()) == 60
    begun = await terminal.start("vm", "unblock", "--filter", "name~many-%", "--yes", "-o", "json")
    assert begun.status == 0, begun.err
    assert begun.json["kind"] == "bulk"
    assert f"qvd job show {begun.json['id']}" in begun.err
