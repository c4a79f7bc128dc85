"""The simulated driver keeps to the contract of all drivers; its guests are in the memory of one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor

from qvd.hkd.watch import WatchTimes, until_alive
from qvd.interfaces import IDriver
from qvd.model.errors import GuestError, PermanentError
from qvd.model.ids import TenantId, VMId
from qvd.model.records import VMSpec
from qvd.model.secret import Secret
from qvd.protocols.adapters.relay import connect_guest
from qvd.protocols.adapters.rpc import GuestDialer
from qvd.sim.behaviour import Behaviour, named
from qvd.sim.driver import SimulatedDriver, SimulatedMachine
from qvd.sim.guests import Dialer, Life, Network
from qvd.sim.listening import listening_driver
from qvd.sim.observer import Observer
from qvd.sim.wires import greeting
from tests.contract.test_driver import NINE, DriverContract, ignore
from tests.fakes.asynchronous import asynchronous, pause, until

CLOCK: Any = reactor
BEHAVIOURS = named(
    {
        "ends": Behaviour(fails_booting=True),
        "stubborn": Behaviour(deaf=True),
        "broken": Behaviour(fails_preparing=True),
        "silent": Behaviour(silent=True),
    }
)


def spec_of(vm_id: int, name: str) -> VMSpec:
    return VMSpec(
        VMId(vm_id), TenantId(1), name, "alice", None, "", 256 << 20, f"1/{vm_id}", Secret(f"secret of {vm_id}")
    )


class TestSimulatedDriver(DriverContract):
    """A machine, and as many daemons on it as the test wants."""

    @pytest.fixture(autouse=True)
    def machine(self) -> Iterator[None]:
        self.network = Network()
        self.observer = Observer(CLOCK.seconds)
        self.on = SimulatedMachine("n1", 8 << 30, CLOCK, self.network, self.observer, BEHAVIOURS)
        yield
        self.on.wipe()
        assert self.observer.violations == 0

    def new_driver(self) -> IDriver:
        driver: IDriver = SimulatedDriver(self.on, CLOCK)
        return driver

    def spec(self, vm_id: int, name: str) -> VMSpec:
        return spec_of(vm_id, name)

    def has_booted(self, vm_id: VMId) -> bool:
        guest = self.on.held[vm_id].guest
        return guest is not None and guest.life is Life.UP

    def hang(self, vm_id: VMId) -> None:
        guest = self.on.held[vm_id].guest
        assert guest is not None
        guest.life = Life.HUNG

    def start_elsewhere(self, vm_id: int) -> None:
        # A daemon that dies by KILL takes its driver along, and leaves the machine.
        self.on.boot(spec_of(vm_id, "runs"))

    def leave_something(self, vm_id: int) -> None:
        self.on.prepare(spec_of(vm_id, "runs"))

    def traces(self) -> object:
        # Not what C{prepare} made: that is there before some tests begin.
        running = {vm_id for vm_id, held in self.on.held.items() if held.guest is not None}
        return running, sum(self.observer.counts.values()), len(self.network)

    @asynchronous
    async def test_a_guest_that_listens_for_real(self) -> None:
        driver = listening_driver(CLOCK, 8 << 30, BEHAVIOURS)
        spec = self.spec(9, "runs")
        await driver.prepare(spec, ignore)
        guest = await driver.start(spec)
        agent = GuestDialer(CLOCK).dial(guest)
        with pytest.raises(GuestError):
            await GuestDialer(CLOCK).dial(evolve(guest, secret=Secret("wrong"))).ping()
        await until_alive(CLOCK, agent, WatchTimes(boot=0.01, interval=1.0, failures=1))
        assert await agent.x_start({}) == "starting"
        while await agent.x_state() != "listening":
            await pause(0.01)
        leg = await connect_guest(CLOCK, guest.address, guest.x_port)
        seen: list[bytes] = []
        leg.dataReceived = seen.append  # type: ignore[method-assign, assignment]
        leg.transport.resumeProducing()
        leg.transport.write(b"and back\n")
        await until(lambda: b"".join(seen) == greeting(9) + b"and back\n")
        assert await agent.x_state() == "connected"
        assert await agent.x_suspend() == "suspended"
        await agent.expire({"vm.expiration.soft": "2026-01-01 00:00:00"})
        gone: list[VMId] = []
        driver.watch(gone.append)
        await agent.poweroff()
        await until(lambda: gone == [NINE])
        with pytest.raises(GuestError):
            await agent.ping()
        await driver.destroy(NINE)

    @asynchronous
    async def test_a_broken_image(self) -> None:
        driver = self.new_driver()
        with pytest.raises(PermanentError):
            await driver.prepare(self.spec(9, "broken"), ignore)

    @asynchronous
    async def test_the_agent(self) -> None:
        driver = self.new_driver()
        await driver.prepare(self.spec(9, "runs"), ignore)
        guest = await driver.start(self.spec(9, "runs"))
        agent = Dialer(self.network, CLOCK).dial(guest)
        with pytest.raises(GuestError):
            await agent.ping()
        await until(lambda: self.has_booted(NINE))
        await agent.ping()
        assert await agent.x_start({}) == "starting"
        await self.end(driver)
        with pytest.raises(GuestError):
            await agent.ping()
