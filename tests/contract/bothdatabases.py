"""The simulated database and the real one, with the same random calls made on both."""

from __future__ import annotations

from collections.abc import Awaitable
from random import Random
from typing import Any
from uuid import UUID

from attrs import evolve

from qvd.db.sessions import Sessions
from qvd.model.crashloop import Ending
from qvd.model.errors import QVDError
from qvd.model.ids import Generation, Run, SessionId, UserId, VMId
from qvd.model.records import Capacity, Change, Drain, Guest, Held, HostState, Lease, SessionSpec
from qvd.model.secret import Secret
from qvd.model.vm import VMState
from tests.contract.stores import GIB, World
from tests.world.farm import new_vm
from tests.world.statements import MemoryDatabase

HOSTS, VMS = 3, 5
NOW = 1_700_000_000.0
YEAR = 31_536_000.0
GUEST = Guest("127.0.0.1", 3030, 4100, Secret("the guest's own"))
FORMER = "another server"
INSTANCES = [str(UUID(int=number)) for number in (1, 2)]
ORDER = "vm_id, desired_state, generation, acked_generation, host_id, host_epoch, vm_state, phase, detail, last_error"


class Both:
    """The two databases, with the same rows. Ids differ by nothing: both count from 1."""

    def __init__(self, world: World, chance: Random) -> None:
        self.world = world
        self.chance = chance
        self.memory = MemoryDatabase(lambda: NOW)
        self.leases: list[Lease] = []
        self.sessions: list[SessionId] = []
        self.outcomes: set[tuple[str, Any]] = set()
        self.hosts = [self.memory.add_host(f"node{number}") for number in range(1, HOSTS + 1)]
        for number in range(2, HOSTS + 1):
            assert world.new_host(f"node{number}") == number
        self.vms = [VMId(number) for number in range(1, VMS + 1)]
        for vm_id in self.vms[1:]:
            assert world.new_vm(f"vm{vm_id}") == vm_id
        for vm_id in self.vms:
            self.memory.add_vm(new_vm(vm_id), GIB)

    def any_lease(self) -> Lease:
        """The newest more often than an old one."""
        return self.chance.choice([*self.leases, *self.leases[-HOSTS:] * 2])

    def lease_for(self, vm_id: VMId) -> Lease:
        """Mostly the newest one of the VM's node."""
        host_id = self.memory.vms[vm_id].vm.host_id
        mine = [lease for lease in self.leases if lease.host_id == host_id]
        return mine[-1] if mine and self.chance.random() < 0.8 else self.any_lease()

    def vm_and_lease(self) -> tuple[Lease, VMId]:
        vm_id = self.chance.choice(self.vms)
        return self.lease_for(vm_id), vm_id

    async def begin(self) -> None:
        """All nodes run."""
        for _ in range(HOSTS):
            await self.do_register()

    def any_number(self, vm_id: VMId) -> Generation:
        return Generation(self.memory.vms[vm_id].vm.generation - self.chance.choice((0, 0, 0, 1)))

    def any_run(self, vm_id: VMId) -> Run | None:
        run = self.memory.vms[vm_id].vm.run
        return self.chance.choice((None, run, run, run, run, Run(run - 1)))

    async def do(self) -> None:
        """One random call, on both."""
        name = self.chance.choice(NAMES)
        await getattr(self, "do_" + name)()
        assert self.rows_of_memory() == self.rows_of_world(), name

    async def same(self, real: Awaitable[Any], simulated: Any, *arguments: Any) -> None:
        """Both answer the same, be it with an error."""
        outcome: Any
        try:
            outcome = await real
        except QVDError as error:
            outcome = type(error)
        try:
            other = simulated(*arguments)
        except QVDError as error:
            other = type(error)
        assert plain(outcome) == plain(other), simulated.__name__
        self.outcomes.add((simulated.__name__, outcome if isinstance(outcome, type) else bool(outcome)))

    async def do_register(self) -> None:
        name = f"node{len(self.leases) % HOSTS + 1}"
        lease = await self.world.hosts.register(name, "127.0.0.1", YEAR)
        assert self.memory.register(name, YEAR) == lease
        self.leases.append(lease)
        capacity = Capacity(2 * GIB, 2.0, 2 * GIB, 1.5)
        await self.same(self.world.hosts.renew(lease, YEAR, capacity), self.memory.renew, lease, YEAR, capacity)
        running = HostState.RUNNING
        await self.same(self.world.hosts.set_state(lease, running), self.memory.set_state, lease, running)
        if self.chance.random() < 0.7:
            await self.same(self.world.ownership.account(lease, []), self.memory.account, lease, [])

    async def do_renew(self) -> None:
        lease, capacity = self.any_lease(), Capacity(2 * GIB, 2.0, 2 * GIB, 1.5)
        await self.same(self.world.hosts.renew(lease, YEAR, capacity), self.memory.renew, lease, YEAR, capacity)

    async def do_set_state(self) -> None:
        lease, state = self.any_lease(), self.chance.choice((HostState.RUNNING, HostState.RUNNING, HostState.STOPPING))
        await self.same(self.world.hosts.set_state(lease, state), self.memory.set_state, lease, state)

    async def do_end_stale_sessions(self) -> None:
        lease, living = self.any_lease(), self.chance.sample(INSTANCES, self.chance.randint(0, 2))
        await self.same(
            self.world.hosts.end_stale_sessions(lease, "x", living),
            self.memory.end_stale_sessions,
            lease,
            "x",
            living,
        )

    async def do_drain(self) -> None:
        host_id, drain = self.chance.choice(self.hosts), self.chance.choice((None, None, *Drain))
        self.world.ask("UPDATE host_runtimes SET drain = %s WHERE host_id = %s", drain and drain.value, host_id)
        self.memory.set_flags(host_id, drain, False)
        lease = self.chance.choice([lease for lease in self.leases if lease.host_id == host_id])
        await self.same(self.world.hosts.drain(lease), self.memory.drain, lease.host_id)

    async def do_fail_over(self) -> None:
        """The nodes were on another server; that may be long ago."""
        self.world.ask("UPDATE host_runtimes SET server = %s WHERE server IS NOT NULL", FORMER)
        for host_id in self.hosts:
            if self.memory.hosts[host_id].server is not None:
                self.memory.write_host(host_id, server=FORMER)
        if self.chance.random() < 0.5:
            self.world.ask("UPDATE servers SET since = since - interval '10 years'")
            self.memory.servers = {name: since - 10 * YEAR for name, since in self.memory.servers.items()}
        else:
            self.world.ask("DELETE FROM servers")
            self.memory.servers = {}

    async def do_account(self) -> None:
        lease = self.any_lease()
        held = [
            Held(
                vm_id,
                self.chance.choice((None, self.memory.vms[vm_id].vm.state, VMState.RUNNING)),
                port,
                self.any_run(vm_id),
            )
            for vm_id in self.chance.sample(self.vms, self.chance.randint(0, 2))
            for port in self.chance.choices((None, GUEST.vma_port, 1))
        ]
        await self.same(self.world.ownership.account(lease, held), self.memory.account, lease, held)

    async def do_expire(self) -> None:
        """A lease is over, for long."""
        host_id = self.chance.choice(self.hosts)
        if self.memory.hosts[host_id].lease_until is not None:
            self.world.ask(
                "UPDATE host_runtimes SET lease_until = now() - interval '1 hour', ok_ts = now() - interval '2 hours'"
                " WHERE host_id = %s",
                host_id,
            )
            self.memory.write_host(host_id, lease_until=NOW - 3600, ok_ts=NOW - 7200)

    async def do_declare_lost(self) -> None:
        lease, steady = self.any_lease(), self.chance.choice((60.0, 4000.0, 4000.0))
        real, simulated = await self.world.hosts.read_clock(), self.memory.read_clock()
        await self.same(
            self.world.hosts.declare_lost(lease, 5.0, real, steady),
            self.memory.declare_lost,
            lease,
            5.0,
            simulated,
            steady,
        )

    async def do_order_start(self) -> None:
        vm_id = self.chance.choice(self.vms)
        # The random part of a score is the same for all nodes there; ours must choose the same one.
        self.memory.chance = lambda: 0.5
        await self.same(self.world.vms.order_start(vm_id, "x"), self.memory.order_start, vm_id)

    async def do_order_stop(self) -> None:
        vm_id = self.chance.choice(self.vms)
        await self.same(self.world.vms.order_stop(vm_id, "x"), self.memory.order_stop, vm_id)

    async def do_place_again(self) -> None:
        await self.same(self.world.vms.unplaced(), lambda: sorted(self.memory.unplaced()))
        vm_id = self.chance.choice(self.vms)
        await self.same(self.world.vms.place_again(vm_id, "x"), self.memory.place_again, vm_id)

    async def do_look(self) -> None:
        lease, carried = self.any_lease(), self.chance.sample(self.vms, self.chance.randint(0, VMS))
        await self.same(self.world.ownership.pending(lease, carried), self.memory.pending, lease, carried)
        await self.same(self.world.ownership.bound(lease), self.memory.bound, lease)

    async def do_claim_start(self) -> None:
        lease, vm_id, secret = *self.vm_and_lease(), Secret("s")
        await self.same(
            self.world.ownership.claim_start(lease, vm_id, secret), self.memory.claim_start, lease, vm_id, secret
        )

    async def do_refuse(self) -> None:
        lease, vm_id = self.vm_and_lease()
        number = self.any_number(vm_id)
        await self.same(
            self.world.ownership.refuse(lease, vm_id, number, "no"), self.memory.refuse, lease, vm_id, number, "no"
        )

    async def do_acknowledge(self) -> None:
        lease, vm_id = self.vm_and_lease()
        number = self.any_number(vm_id)
        await self.same(
            self.world.ownership.acknowledge(lease, vm_id, number), self.memory.acknowledge, lease, vm_id, number
        )

    async def do_adopt(self) -> None:
        lease, vm_id = self.vm_and_lease()
        vm = self.memory.vms[vm_id].vm
        again = self.chance.random() < 0.2
        await self.same(self.world.ownership.adopt(lease, vm, again), self.memory.adopt, lease, vm, again)

    async def do_save(self) -> None:
        lease, vm_id = self.vm_and_lease()
        vm = self.memory.vms[vm_id].vm
        expected = self.chance.choice((vm.state, vm.state, VMState.STARTING))
        state = self.chance.choice((VMState.STARTING, VMState.RUNNING, VMState.RUNNING, VMState.STOPPING))
        error = self.chance.choice((None, None, "broken"))
        change, run = (
            Change(state, state.value, "detail", GUEST if state is VMState.RUNNING else None, error),
            self.any_run(vm_id),
        )
        await self.same(
            self.world.ownership.save(lease, vm_id, expected, change, run),
            self.memory.save,
            lease,
            vm_id,
            expected,
            change,
            run,
        )

    async def do_progress(self) -> None:
        lease, vm_id = self.vm_and_lease()
        await self.same(
            self.world.ownership.progress(lease, vm_id, "running", "text"),
            self.memory.progress,
            lease,
            vm_id,
            "running",
            "text",
        )

    async def do_release(self) -> None:
        lease, vm_id, error = *self.vm_and_lease(), self.chance.choice((None, "ended"))
        ending, run = self.chance.choice((*Ending, Ending.FAILED)), self.any_run(vm_id)
        await self.same(
            self.world.ownership.release(lease, vm_id, error, ending, run),
            self.memory.release,
            lease,
            vm_id,
            error,
            ending,
            run,
        )
        self.move_back_offs("> now()", "'1 year'", NOW + YEAR)

    def move_back_offs(self, which: str, by: str, at: float) -> None:
        """So that none is over because the test took its time."""
        self.world.ask(f"UPDATE vm_runtimes SET retry_at = now() + interval {by} WHERE retry_at {which}")
        for vm_id, row in self.memory.vms.items():
            if row.retry_at is not None and (row.retry_at > NOW or at < NOW):
                self.memory.vms[vm_id] = evolve(row, retry_at=at)

    async def do_wait(self) -> None:
        """Until all may be started again."""
        self.move_back_offs("IS NOT NULL", "'-1 hour'", NOW - 3600)

    async def do_reset_failures(self) -> None:
        vm_id = self.chance.choice([*self.vms, VMId(99)])
        await self.same(self.world.vms.reset_failures(vm_id, "x"), self.memory.reset_failures, vm_id)

    async def do_show(self) -> None:
        lease, phases = self.any_lease(), ("running", "preparing", "stopping")
        texts = [(vm_id, self.chance.choice(phases), "place 3") for vm_id in self.chance.sample(self.vms, 2)]
        await self.same(self.world.ownership.show(lease, texts), self.memory.show, lease, texts)

    async def do_claim(self) -> None:
        session_id = SessionId(str(UUID(int=self.chance.getrandbits(128))))
        vm_id, lease = self.chance.choice(self.vms), self.any_lease()
        spec = SessionSpec(session_id, vm_id, self.world.tenant, UserId(1), lease, "192.0.2.1:5")
        instance = self.chance.choice((None, *INSTANCES))
        await self.same(Sessions(self.world.pool, instance).claim(spec), self.memory.claim, spec, instance)
        self.sessions.append(session_id)

    async def do_sessions(self) -> None:
        sessions = self.world.sessions
        for session_id in self.chance.sample(self.sessions, min(2, len(self.sessions))):
            await self.same(sessions.is_current(session_id), self.memory.is_current, session_id)
            await self.same(sessions.has_ended(session_id), self.memory.has_ended, session_id)
            if self.chance.random() < 0.5:
                await self.same(sessions.connected(session_id), self.memory.connected, session_id)
            else:
                await self.same(sessions.end(session_id, "bye"), self.memory.end, session_id, "bye")
        host_id = self.chance.choice(self.hosts)
        instance = self.chance.choice((None, *INSTANCES))
        await self.same(Sessions(self.world.pool, instance).unended(host_id), self.memory.unended, host_id, instance)

    def rows_of_memory(self) -> list[Any]:
        found: list[Any] = [
            (
                vm.vm_id,
                vm.desired.value,
                vm.generation,
                vm.acked,
                vm.host_id,
                vm.epoch,
                vm.state.value,
                vm.phase,
                vm.detail,
                vm.last_error,
                vm.guest is not None,
                vm.session_id,
                vm.failures,
                vm.run,
                None if row.retry_at is None else row.retry_at > NOW,
            )
            for row in self.memory.vms.values()
            for vm in (row.vm,)
        ]
        known = {None: None, FORMER: False, self.memory.server: True}
        found += [
            (row.host_id, row.state.value, row.epoch, row.usable, known[row.server])
            for row in self.memory.hosts.values()
        ]
        sessions = sorted(self.memory.sessions.values(), key=lambda row: row.session_id)
        found += [(row.session_id, row.vm_id, row.host_id, row.epoch, row.state, row.reason) for row in sessions]
        return found

    def rows_of_world(self) -> list[Any]:
        rows = self.world.ask(
            f"SELECT {ORDER}, vm_address IS NOT NULL AS guest, session_id::text, failures, run,"
            " retry_at > now() AS waits FROM vm_runtimes ORDER BY vm_id"
        )
        rows += self.world.ask(
            "SELECT host_id, state, epoch, usable_ram, server = pg_postmaster_start_time()::text AS known"
            " FROM host_runtimes ORDER BY host_id"
        )
        rows += self.world.ask(
            "SELECT id::text, vm_id, host_id, host_epoch, state, end_reason FROM sessions ORDER BY id::text"
        )
        return [tuple(row.values()) for row in rows]


def plain(answer: Any) -> Any:
    """Without what the two cannot have in common: names, times, secrets."""
    if isinstance(answer, list | tuple | set):
        return sorted((plain(one) for one in answer), key=str)
    if hasattr(answer, "generation"):
        return (answer.vm_id, answer.state, answer.desired, answer.generation, answer.acked, answer.host_id)
    if hasattr(answer, "home"):
        return (answer.vm_id, answer.memory, answer.home, answer.secret, answer.run)
    return dict(answer) if isinstance(answer, dict) else answer


NAMES = [name.removeprefix("do_") for name in dir(Both) if name.startswith("do_")]
OFTEN = "renew order_start order_start release look claim_start claim_start save acknowledge adopt claim sessions"
NAMES += 3 * [*OFTEN.split(), "account", "wait"]
