"""What Prometheus reads of the administration and of the farm."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.admin.numbers import FRESH, FarmGauges, Starts
from qvd.db.farm import Farm
from qvd.interfaces.farm import FarmNumbers, IFarm, NodeNumbers, VMStep
from qvd.model.errors import DatabaseUnavailable
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


def test_phases_of_a_start() -> None:
    phases: list[tuple[str, float]] = []
    starts = Starts(lambda name, seconds: phases.append((name, seconds)))
    for vm_id, kind, at in (
        (1, "vm.running", 1.0),
        (1, "vm.ordered", 10.0),
        (2, "vm.starting", 10.5),
        (1, "vm.moved", 11.0),
        (1, "vm.starting", 13.0),
        (2, "vm.running", 14.5),
        (1, "vm.running", 17.0),
        (1, "vm.running", 18.0),
        (3, "vm.ordered", 20.0),
        (3, "vm.starting", 21.0),
        (3, "vm.stopping", 22.0),
        (3, "vm.running", 23.0),
    ):
        starts.follow(VMStep(vm_id, kind, at))
    assert phases == [
        ("placement", 1.0),
        ("queue", 2.0),
        ("boot", 4.0),
        ("boot", 4.0),
        ("whole", 7.0),
        ("queue", 1.0),
    ]


@implementer(IFarm)
class CountedFarm:
    """A farm that says what the test wants."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        self.away = False

    async def count(self, last: int | None) -> FarmNumbers:
        self.asked.append(last)
        if self.away:
            raise DatabaseUnavailable("The database does not answer")
        nodes = [NodeNumbers("n1", "running", False, 2.5, 7), NodeNumbers("n2", "lost", True, None, 0)]
        steps = [VMStep(1, "vm.ordered", 1.0), VMStep(1, "vm.starting", 1.3)]
        return FarmNumbers(
            nodes=nodes, vm_states={"running": 8, "starting": 1}, unplaced=3, queued=1, steps=steps, last=99
        )


@asynchronous
async def test_the_farm_is_counted_now_and_then() -> None:
    clock, farm, registry = Clock(), CountedFarm(), CollectorRegistry()
    gauges = FarmGauges(clock, farm, registry)
    await gauges.refresh()
    await gauges.refresh()
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        'qvd_sessions{node="n1"} 7.0',
        'qvd_vms{state="running"} 8.0',
        'qvd_vms{state="zombie"} 0.0',
        'qvd_queue_length{queue="placement"} 3.0',
        'qvd_queue_length{queue="start"} 1.0',
        'qvd_node_lease_age_seconds{node="n1"} 2.5',
        'qvd_nodes{blocked="true",state="lost"} 1.0',
        'qvd_vm_start_seconds_bucket{le="0.5",phase="queue"} 1.0',
    ):
        assert line in lines
    assert farm.asked == [None]
    clock.advance(FRESH)
    farm.away = True
    await gauges.refresh()
    assert farm.asked == [None, 99]
    text = generate_latest(registry).decode()
    assert "qvd_vms{" not in text and "qvd_sessions{" not in text


@asynchronous
async def test_a_farm_in_the_database(api: ApiWorld) -> None:
    farm = Farm(api.pool)
    begun = await farm.count(None)
    assert (begun.nodes, begun.vm_states, begun.unplaced, begun.steps) == ([], {}, 0, [])
    host = api.insert("hosts (name, address) VALUES ('n1', '10.0.0.1')")
    user = api.insert("users (tenant_id, login) VALUES (%s, 'u')", api.acme)
    osf = api.insert("osfs (tenant_id, name, memory) VALUES (%s, 'o', 1000000000)", api.acme)
    vms = [
        api.insert("vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", api.acme, user, osf, f"vm{number}")
        for number in range(3)
    ]
    api.ask("UPDATE vm_runtimes SET desired_state = 'running', generation = 1 WHERE vm_id = %s", vms[0])
    api.ask(
        "UPDATE vm_runtimes SET vm_state = 'starting', phase = 'queued', host_id = %s, host_epoch = 1 WHERE vm_id = %s",
        host,
        vms[1],
    )
    api.ask("ALTER TABLE events DISABLE TRIGGER ALL; UPDATE events SET at = at - interval '1 minute'")
    counted = await farm.count(begun.last)
    assert [(node.name, node.sessions) for node in counted.nodes] == [("n1", 0)]
    assert counted.vm_states == {"stopped": 2, "starting": 1}
    assert (counted.unplaced, counted.queued) == (1, 1)
    assert [(step.vm_id, step.kind) for step in counted.steps] == [(vms[0], "vm.ordered"), (vms[1], "vm.starting")]
    assert (await farm.count(counted.last)).steps == []


@asynchronous
async def test_calls_are_counted(database: str, tmp_path: Path) -> None:
    server = Server(database, tmp_path)
    await server.start()
    try:
        for _ in range(3):
            await server.ask("GET", "/api/v1/users")
        answer = await server.ask("GET", "/metrics")
    finally:
        await server.stop()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    assert 'qvd_api_requests_total{action="user.list",method="GET",status="401"} 3.0' in lines
    assert 'qvd_api_request_seconds_count{action="user.list",method="GET"} 3.0' in lines
    assert any(line.startswith("qvd_reactor_lag_seconds_count") for line in lines)
    assert "qvd_database_available 1.0" in lines
    assert "qvd_jobs_waiting 0.0" in lines and "qvd_jobs_running 0.0" in lines
    assert 'qvd_vms{state="running"} 0.0' in lines
