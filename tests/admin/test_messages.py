"""Messages to the user of a VM: from the call to what its node reads, and what is kept of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import psycopg2.extensions
import pytest
import pytest_twisted
from twisted.internet import reactor

from qvd.db.messages import LAPSED, MOST_WAITING, Messages
from qvd.db.pool import Pool
from qvd.model.ids import Epoch, HostId, VMId
from qvd.model.messages import LONGEST
from qvd.model.records import Lease
from tests.admin.desks import Desks
from tests.admin.world import ApiWorld, Reply
from tests.fakes.asynchronous import asynchronous

TEXT = "The node stops at 22:00.\nSave your work"


@pytest_twisted.async_yield_fixture
async def node(api: ApiWorld) -> AsyncIterator[Messages]:
    """The store as a node has it."""
    pool = Pool(reactor, psycopg2.extensions.make_dsn(api.dsn, user="qvd_node"), size=1, deadline=10.0, rng=Random(1))
    await pool.start()
    yield Messages(pool)
    await pool.stop()


def lease(desks: Desks, epoch: int = 1) -> Lease:
    return Lease(HostId(desks.host), Epoch(epoch))


def sit_down(desks: Desks) -> None:
    """The VM runs, and its user is connected."""
    desks.be("running")
    desks.connect()
    desks.api.ask("UPDATE vm_runtimes SET vm_secret = 'hush'")


async def say(api: ApiWorld, desks: Desks, text: Any = TEXT) -> Reply:
    return await api.call(api.anna, "POST", f"/vms/{desks.vm}/message", {"text": text})


@asynchronous
async def test_the_node_of_the_vm_gets_it(api: ApiWorld, desks: Desks, node: Messages) -> None:
    sit_down(desks)
    reply = await say(api, desks, f"{TEXT}\n")
    assert (reply.status, reply.body["id"]) == (202, desks.vm)
    assert await node.waiting(lease(desks, 2), 10) == [], "that epoch does not run it"
    (found,) = await node.waiting(lease(desks), 10)
    assert (found.vm_id, found.text, found.guest.vma_port) == (VMId(desks.vm), TEXT, 1)
    await node.settled(lease(desks), found.number, None)
    assert await node.waiting(lease(desks), 10) == []
    (event,) = api.ask("SELECT vm_id, tenant_id, after, cause FROM events WHERE kind = 'vm.message'")
    assert (event["vm_id"], event["tenant_id"], event["after"]) == (desks.vm, api.acme, {"handed_over": True})
    assert event["cause"] == "vm.message by anna, request test"
    (row,) = api.trail()
    assert (row["action"], row["outcome"], row["object_name"]) == ("vm.message", "done", "alice-1")
    assert row["arguments"]["body"] == {"text": f"{TEXT}\n"}
    history = await api.call(api.anna, "GET", f"/vms/{desks.vm}/events")
    assert history.body["items"][0]["kind"] == "vm.message"


@asynchronous
async def test_why_it_was_not_shown_is_kept(api: ApiWorld, desks: Desks, node: Messages) -> None:
    sit_down(desks)
    await say(api, desks)
    (found,) = await node.waiting(lease(desks), 10)
    await node.settled(lease(desks), found.number, "The image has no program that shows messages")
    (event,) = api.ask("SELECT after FROM events WHERE kind = 'vm.message'")
    assert event["after"] == {"handed_over": False, "problem": "The image has no program that shows messages"}


@pytest.mark.parametrize("state", ["stopped", "starting", "stopping", "zombie"])
@asynchronous
async def test_one_that_does_not_run(api: ApiWorld, desks: Desks, state: str) -> None:
    sit_down(desks)
    desks.be(state)
    reply = await say(api, desks)
    assert (reply.status, reply.problem) == (409, "invalid-vm-state")
    assert reply.body["detail"].endswith(f"this one is {state}")
    assert [(row["outcome"], row["problem"]) for row in api.trail()] == [("failed", "invalid-vm-state")]


@asynchronous
async def test_nobody_is_connected(api: ApiWorld, desks: Desks) -> None:
    desks.be("running")
    assert (await say(api, desks)).problem == "invalid-user-state"
    desks.connect()
    api.ask("UPDATE sessions SET state = 'connecting'")
    assert (await say(api, desks)).problem == "invalid-user-state"
    assert api.ask("SELECT * FROM vm_messages") == []


@pytest.mark.parametrize("text", ["", "  \n", "a\tb", "a\x1b[2J", "a\u202eb", "x" * (LONGEST + 1), 5, None])
@asynchronous
async def test_what_is_no_message(api: ApiWorld, desks: Desks, text: Any) -> None:
    sit_down(desks)
    reply = await say(api, desks, text)
    assert (reply.status, reply.problem, reply.body["errors"][0]["pointer"]) == (422, "invalid-value", "/text")
    assert (await api.call(api.anna, "POST", f"/vms/{desks.vm}/message")).problem == "missing-attribute"


@asynchronous
async def test_whose_session_has_ended_need_not_read_it(api: ApiWorld, desks: Desks, node: Messages) -> None:
    sit_down(desks)
    await say(api, desks)
    desks.connect()
    assert await node.waiting(lease(desks), 10) == [], "another client sits there now"
    await say(api, desks)
    api.ask("UPDATE vm_messages SET at = now() - interval '6 minutes'")
    assert await node.waiting(lease(desks), 10) == []
    events = api.ask("SELECT after FROM events WHERE kind = 'vm.message'")
    assert [event["after"]["problem"] for event in events] == [LAPSED, LAPSED]
    assert api.ask("SELECT * FROM vm_messages") == []


@asynchronous
async def test_there_are_not_too_many(api: ApiWorld, desks: Desks) -> None:
    sit_down(desks)
    for _ in range(MOST_WAITING):
        assert (await say(api, desks)).status == 202
    assert (await say(api, desks)).status == 409
    api.ask("UPDATE vm_messages SET at = now() - interval '6 minutes'")
    assert (await say(api, desks)).status == 202, "a node that never takes them up keeps nobody from sending one"


@asynchronous
async def test_another_tenants_vm_is_none(api: ApiWorld, desks: Desks) -> None:
    sit_down(desks)
    reply = await api.call(api.rick, "POST", f"/vms/{desks.vm}/message", {"text": TEXT})
    nothing = await api.call(api.rick, "POST", "/vms/999999/message", {"text": TEXT})
    assert (
        (reply.status, reply.body["detail"])
        == (nothing.status, nothing.body["detail"])
        == (404, nothing.body["detail"])
    )


@asynchronous
async def test_many_are_sent_one(api: ApiWorld, desks: Desks) -> None:
    sit_down(desks)
    other = desks.new_vm(api.acme, desks.user, desks.osf, "alice-2")
    body = {"op": "message", "ids": [desks.vm, other, desks.their_vm], "arguments": {"text": TEXT}}
    rehearsed = await api.call(api.anna, "POST", "/vms/bulk", {**body, "dry_run": True})
    assert (rehearsed.body["succeeded"], api.ask("SELECT * FROM vm_messages")) == (1, [])
    reply = await api.call(api.anna, "POST", "/vms/bulk", body)
    assert [each["status"] for each in reply.body["results"]] == [202, 409, 404]
    assert [row["vm_id"] for row in api.ask("SELECT vm_id FROM vm_messages")] == [desks.vm]
    wrong = await api.call(api.anna, "POST", "/vms/bulk", {**body, "arguments": {"text": "a\x1b"}})
    assert (wrong.status, wrong.problem) == (422, "invalid-value")
