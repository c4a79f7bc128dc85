"""Orders of administrators on a real PostgreSQL, as the role of the API; and what a node makes of them."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import TypeVar

import psycopg2
import psycopg2.extensions
from twisted.internet import reactor

from qvd.db.orders import Orders
from qvd.db.pool import Pool
from qvd.interfaces import ITransaction
from qvd.interfaces.orders import Boot
from qvd.model.placement import Weights
from qvd.model.records import Change, Desired, Guest, Lease
from qvd.model.vm import VMState
from tests.contract.stores import GIB, SECRET, World
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture

GUEST = Guest("127.0.0.1", 3030, 4100, SECRET)
T = TypeVar("T")


class Office(World):
    """A world with an administrator."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.dsn = dsn
        self.api = Pool(
            reactor, psycopg2.extensions.make_dsn(dsn, user="qvd_api"), size=1, deadline=10.0, rng=Random(1)
        )
        self.orders = Orders(self.api, Weights(), lambda: 0.5)

    @contextmanager
    def listening(self, channel: str) -> Iterator[Callable[[], int]]:
        """How often a bell has rung."""
        with closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {channel}")

            def heard() -> int:
                if not connection.notifies:
                    # It comes on a connection of its own, a moment after the commit.
                    select.select([connection], [], [], 0.5)
                connection.poll()
                return len(connection.notifies)

            yield heard

    async def order(self, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        return await self.api.transact("order", work)

    async def running(self) -> Lease:
        """The VM runs."""
        lease = await self.running_host()
        spec = await self.claimed(lease)
        await self.ownership.save(
            lease, self.vm_id, VMState.STARTING, Change(VMState.RUNNING, "running", "", GUEST), spec.run
        )
        return lease


@asynchronous_fixture
async def office(database: str) -> AsyncIterator[Office]:
    made = Office(database)
    await made.pool.start()
    await made.api.start()
    yield made
    await made.api.stop()
    await made.close()


@asynchronous
async def test_a_start_is_placed_and_a_stop_withdraws_it(office: Office) -> None:
    lease = await office.running_host()
    decision = await office.order(lambda tx: office.orders.start(tx, office.vm_id))
    assert decision is not None and decision.host_id == lease.host_id
    row = office.row()
    assert (row["desired_state"], row["host_id"], row["generation"]) == ("running", lease.host_id, 1)
    assert [vm.vm_id for vm in await office.ownership.pending(lease, ())] == [office.vm_id]
    await office.order(lambda tx: office.orders.stop(tx, office.vm_id, False))
    assert office.row()["desired_state"] == "stopped"


@asynchronous
async def test_a_refusal_is_kept(office: Office) -> None:
    await office.running_host(memory=GIB // 2)
    decision = await office.order(lambda tx: office.orders.start(tx, office.vm_id))
    assert decision is not None and decision.host_id is None
    office.ask("UPDATE vm_runtimes SET last_error = NULL, placement = NULL")
    await office.order(lambda tx: office.orders.refused(tx, office.vm_id, decision))
    explanation = await office.orders.explain(office.vm_id)
    assert explanation is not None and explanation.placement is not None
    assert explanation.vm.last_error == decision.refusal


@asynchronous
async def test_a_vm_that_restarts_is_wanted_again_once_it_is_released(office: Office) -> None:
    lease = await office.running()
    await office.order(lambda tx: office.orders.restart(tx, office.vm_id))
    (vm,) = await office.ownership.pending(lease, [office.vm_id])
    assert vm.desired is Desired.STOPPED and not vm.forced
    assert await office.ownership.acknowledge(lease, office.vm_id, vm.generation)
    await office.ownership.release(lease, office.vm_id, None)
    row = office.row()
    assert (row["vm_state"], row["desired_state"], row["host_id"], row["restart"]) == (
        "stopped",
        "running",
        None,
        False,
    )
    assert await office.vms.unplaced() == [office.vm_id]
    assert await office.vms.place_again(office.vm_id, "test")
    assert await office.ownership.claim_start(lease, office.vm_id, SECRET) is not None


@asynchronous
async def test_a_stop_ends_the_wish_to_restart(office: Office) -> None:
    lease = await office.running()
    await office.order(lambda tx: office.orders.restart(tx, office.vm_id))
    await office.vms.order_stop(office.vm_id, "the user")
    await office.ownership.acknowledge(lease, office.vm_id, office.row()["generation"])
    await office.ownership.release(lease, office.vm_id, None)
    assert office.row()["desired_state"] == "stopped"
    assert await office.vms.unplaced() == []


@asynchronous
async def test_a_stop_is_forced_while_one_is_under_way_and_the_next_one_is_not(office: Office) -> None:
    lease = await office.running()
    await office.order(lambda tx: office.orders.stop(tx, office.vm_id, False))
    await office.ownership.acknowledge(lease, office.vm_id, office.row()["generation"])
    await office.order(lambda tx: office.orders.stop(tx, office.vm_id, True))
    (vm,) = await office.ownership.pending(lease, [office.vm_id])
    assert vm.forced and vm.desired is Desired.STOPPED and vm.generation > vm.acked
    await office.ownership.acknowledge(lease, office.vm_id, vm.generation)
    await office.ownership.release(lease, office.vm_id, None)
    row = office.row()
    assert (row["forced"], row["generation"] == row["acked_generation"]) == (False, True)


@asynchronous
async def test_a_start_after_a_forced_stop_takes_the_force_back(office: Office) -> None:
    await office.running()
    await office.order(lambda tx: office.orders.stop(tx, office.vm_id, True))
    await office.order(lambda tx: office.orders.start(tx, office.vm_id))
    assert (office.row()["forced"], office.row()["desired_state"]) == (False, "running")


@asynchronous
async def test_a_session_is_ended_by_its_node(office: Office) -> None:
    lease = await office.running()
    assert not await office.order(lambda tx: office.orders.disconnect(tx, office.vm_id, "enough"))
    spec = office.session(lease)
    await office.sessions.claim(spec)
    await office.sessions.connected(spec.session_id)
    assert await office.sessions.unended(lease.host_id) == {spec.session_id: None}
    with office.listening(f"qvd_session_on_host_{lease.host_id}") as heard:
        assert await office.order(lambda tx: office.orders.disconnect(tx, office.vm_id, "enough"))
        assert heard() == 1
    assert await office.sessions.unended(lease.host_id) == {spec.session_id: "enough"}
    await office.sessions.end(spec.session_id, "enough")
    assert not await office.order(lambda tx: office.orders.disconnect(tx, office.vm_id, "more"))
    kinds = [each.kind for each in await office.orders.history(office.vm_id, None, 3)]
    assert kinds == ["session.disconnected", "session.end_wanted", "session.connected"]


@asynchronous
async def test_the_history_is_paged_by_number(office: Office) -> None:
    await office.running()
    first = await office.orders.history(office.vm_id, None, 2)
    rest = await office.orders.history(office.vm_id, first[-1].id, 50)
    assert [each.kind for each in [*first, *rest]] == ["vm.running", "vm.starting", "vm.ordered"]
    assert await office.orders.history(office.vm_id, rest[-1].id, 50) == []


@asynchronous
async def test_images_and_owners(office: Office) -> None:
    await office.running()
    assert await office.order(lambda tx: office.orders.boots(tx, office.vm_id)) == Boot("1", "1")
    office.ask("UPDATE vms SET di_tag = 'none'")
    assert await office.order(lambda tx: office.orders.boots(tx, office.vm_id)) == Boot("1", None)
    assert await office.order(lambda tx: office.orders.tenant_of(tx, "user", office.user)) == office.tenant
    assert await office.order(lambda tx: office.orders.tenant_of(tx, "osf", 999)) is None


@asynchronous
async def test_failures_are_forgotten(office: Office) -> None:
    office.ask("UPDATE vm_runtimes SET failures = 5, retry_at = now() + '1 hour'")
    await office.order(lambda tx: office.orders.forget_failures(tx, office.vm_id))
    assert (office.row()["failures"], office.row()["retry_at"]) == (0, None)
