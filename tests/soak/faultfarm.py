"""Two real nodes, each with a faulty way to a real PostgreSQL, watched from outside; and what must hold of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from qvd.demo.installation import DemoError
from tests.conftest import require
from tests.integration.farm import Client, Farm, OtherNode, kill_guests
from tests.soak.observer import Sighting, Watch
from tests.soak.pgproxy import PgProxy

DEFAULTS = os.environ.get("SOAK_TIMES") == "default"
"""With the times of a node whose settings say nothing, so that all takes five times as long."""
LEASE, RENEW, RECONCILE, LOOK, MARGIN = (30.0, 5.0, 5.0, 5.0, 5.0) if DEFAULTS else (6.0, 0.7, 1.0, 0.5, 1.0)
"""Seconds."""
MACHINE = 6.0
"""Seconds that processes of this machine, which may have other things to do, take to start, end and notice."""
BOUND = LEASE + RECONCILE + LOOK + MARGIN + MACHINE
"""Within that everything is as it should be, once what was wrong is over."""
TIMES = {
    "hkd.lease": LEASE,
    "hkd.heartbeat": RENEW,
    "hkd.reconcile": RECONCILE,
    "hkd.cluster.interval": LOOK,
    "hkd.cluster.margin": MARGIN,
    "hkd.watch.interval": 1.0,
    "hkd.timeout.shutdown": 2.0,
    "hkd.timeout.kill": 1.0,
    "database.timeout": 5.0,
    "hkd.stop.vms": True,
    "l7r.timeout.takeover": 5.0,
}
SESSION = "#!/bin/sh\nexec sleep 1000\n"
SESSIONS = {
    "sessions": "SELECT id::text FROM sessions WHERE ended_at IS NULL",
    "VMs with a session": "SELECT vm_id AS id FROM vm_runtimes WHERE session_id IS NOT NULL",
}
BUSY = "is in use by another process"
"""What a start says that only the lock of the home has kept from a double run."""


class FaultNode(OtherNode):
    """A node behind a proxy of its own.

    @ivar should_run: whether its daemon is meant to be there.
    """

    def __init__(self, farm: Farm, name: str, sockets: Path) -> None:
        self.proxy = PgProxy(sockets / name, farm.installation.postgres.socket_folder)
        super().__init__(farm, name, overrides={"database.host": str(self.proxy.folder), "database.port": 5432})
        self.name = name
        self.should_run = False
        self._looked_at = 0
        self.proxy.start()
        (row,) = farm.rows("SELECT id FROM hosts WHERE name = %s", name)
        self.host_id = int(row["id"])

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        self.should_run = True
        try:
            super().start(environment)
        except DemoError as error:
            raise NotConverged(f"{self.name}: {error.text}: {self.log[-2000:]}") from None

    @property
    def pid(self) -> int:
        assert self.node is not None
        return self.node.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for the daemon; VMs and watchdog stay."""
        assert self.node is not None
        self.node.process.kill()
        self.node.process.wait()
        self.node, self.should_run = None, False

    def kill_machine(self) -> None:
        """As a machine that loses its power."""
        self.kill()
        for watchdog in self.watchdogs():
            watchdog.kill()
        kill_guests(self.run)

    def stop(self) -> None:
        self.proxy.heal()
        self.should_run = False
        super().stop()

    def close(self) -> None:
        """Stop it and its proxy."""
        self.stop()
        self.proxy.stop()

    def watchdogs(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if str(self.run) in words and any(word.endswith("watchdog_launch.py") for word in words):
                    found.append(process)
        return found

    def tracebacks(self) -> list[str]:
        """What is in the log since the last look, from the line before the first of them: one text, or none."""
        log = self.log
        new, self._looked_at = log[self._looked_at :], len(log)
        first = new.find("Traceback")
        return [new[max(0, first - 600) : first + 6000]] if first >= 0 else []

    def leftovers(self) -> set[int]:
        """VMs of which this node has a folder."""
        folders = (self.run / "vms", self.folder / "overlays")
        return {int(each.name) for folder in folders if folder.exists() for each in folder.iterdir()}

    def supervisors(self) -> dict[int, psutil.Process]:
        """By VM, as the node has written them down; those that live."""
        found = {}
        for file in (self.run / "vms").glob("*/state.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, psutil.Error):
                known = json.loads(file.read_text())["supervisor"]
                process = psutil.Process(known["pid"])
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found[int(file.parent.name)] = process
        return found


class FaultFarm:
    """The installation, two nodes, and the observer.

    @ivar server: the database's own server.
    @ivar clients: those that are connected, and are to stay so.
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        program = folder / "session"
        program.write_text(SESSION)
        program.chmod(0o755)
        weights = {f"l7r.loadbalancer.plugin.default.weight.{name}": 0.0 for name in ("cpu", "random")}
        self.farm = Farm(folder, program, {**TIMES, **weights})
        self.server = self.farm.installation.postgres
        self.server.start()
        self.farm.installation.prepare()
        self.sockets = sockets
        self.nodes = [FaultNode(self.farm, name, sockets) for name in ("n1", "n2")]
        self.watch = Watch(str(folder))
        self.vms = [int(row["id"]) for row in self.rows("SELECT id FROM vms ORDER BY id")]
        self.clients: list[Client] = []
        self._ports: set[int] = set()

    @property
    def rows(self) -> Callable[..., list[dict[str, Any]]]:
        return self.farm.rows

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def close(self) -> None:
        try:
            for node in self.nodes:
                node.close()
        finally:
            self.watch.stop()
            self.server.stop("immediate")

    # Orders, and what became of them.

    def vm(self, vm_id: int) -> dict[str, Any]:
        return self.farm.vm(vm_id)

    def order_on(self, node: FaultNode, vm_id: int) -> None:
        """As a placement that has chosen this node."""
        done = self.rows(
            "UPDATE vm_runtimes SET host_id = %s, desired_state = 'running', generation = generation + 1,"
            " phase = 'stopped' WHERE vm_id = %s AND host_id IS NULL RETURNING 1",
            node.host_id,
            vm_id,
        )
        assert done, self.vm(vm_id)

    def order_stop(self, vm_id: int) -> None:
        self.rows(
            "UPDATE vm_runtimes SET desired_state = 'stopped', generation = generation + 1,"
            " acked_generation = CASE WHEN host_id IS NULL THEN generation + 1 ELSE acked_generation END"
            " WHERE vm_id = %s AND (vm_state <> 'stopped' OR host_id IS NOT NULL)",
            vm_id,
        )

    def run_vm(self, node: FaultNode, vm_id: int) -> None:
        """Order it, and wait for it."""
        self.order_on(node, vm_id)
        self.converge(f"VM {vm_id} runs on {node.name}", also=lambda: self.runs_on(vm_id) is node)

    def connect(self, node: FaultNode, vm_id: int) -> Client:
        """A client that stays."""
        client = node.client()
        self.clients.append(client)
        response = client.connect(vm_id)
        assert response.head.status == 101, response
        return client

    def lost_clients(self) -> int:
        """How many of those that were to stay have been closed; the others are let go."""
        lost = sum(is_closed(client) for client in self.clients)
        for client in self.clients:
            client.close()
        self.clients.clear()
        return lost

    def runs_on(self, vm_id: int) -> FaultNode | None:
        """By its row."""
        row = self.vm(vm_id)
        return self._node_of(row) if row["vm_state"] == "running" else None

    def _node_of(self, row: dict[str, Any]) -> FaultNode:
        return next(node for node in self.nodes if node.host_id == row["host_id"])

    def guests(self, vm_id: int) -> list[Sighting]:
        """By the observer."""
        return [each for each in self.watch.live() if each.run.endswith(f"/vms/{vm_id}")]

    def host(self, node: FaultNode) -> dict[str, Any]:
        return self.rows(
            "SELECT *, lease_until > clock_timestamp() AS alive FROM host_runtimes WHERE host_id = %s", node.host_id
        )[0]

    # What must hold.

    def complaints(self) -> list[str]:
        """What is not as it should be: nothing, once the farm is at rest."""
        found = [
            f"{node.name} is not at work: {row['state']}"
            for node in self.nodes
            if node.should_run and ((row := self.host(node))["state"] != "running" or not row["alive"])
        ]
        live = self.watch.live()
        running: dict[str, set[int]] = {node.name: set() for node in self.nodes}
        for row in self.rows("SELECT * FROM vm_runtimes ORDER BY vm_id"):
            vm_id, state = row["vm_id"], row["vm_state"]
            guests = [each for each in live if each.run.endswith(f"/vms/{vm_id}")]
            self._ports |= {port for port in (row["vm_vma_port"], row["vm_x_port"]) if port}
            if row["generation"] != row["acked_generation"]:
                found.append(f"VM {vm_id}: an order has not been taken up")
            if state == "running":
                on = self._node_of(row)
                running[on.name].add(vm_id)
                if [each.node for each in guests] != [str(on.run)]:
                    found.append(f"VM {vm_id} runs on {on.name} by its row, but really: {guests}")
            elif state == "stopped":
                if row["host_id"] is not None:
                    found.append(f"VM {vm_id} is stopped, and bound to a node")
                if guests:
                    found.append(f"VM {vm_id} is stopped, but really: {guests}")
            else:
                found.append(f"VM {vm_id} is {state}")
        return found + self._leaks(running)

    def _leaks(self, running: dict[str, set[int]]) -> list[str]:
        found = []
        for node in self.nodes:
            if not node.should_run:
                continue
            found += [f"{node.name}: files of VM {vm_id}" for vm_id in node.leftovers() - running[node.name]]
            supervisors = node.supervisors()
            found += [f"{node.name}: a supervisor of VM {vm}" for vm in supervisors.keys() - running[node.name]]
            if len(node.watchdogs()) != 1:
                found.append(f"{node.name}: {len(node.watchdogs())} watchdogs")
        mounts = Path("/proc/self/mountinfo").read_text()
        if str(self.farm.folder) in mounts:
            found.append("something is mounted on the node itself")
        if not any(running.values()):
            found += [f"port {port} is listened on" for port in self._ports & listening()]
        for what, sql in SESSIONS.items():
            there = [str(row["id"]) for row in self.rows(sql)]
            if len(there) != len(self.clients):
                found.append(f"{what} {there} for {len(self.clients)} clients")
        return found

    def converge(self, what: str, seconds: float = BOUND, also: Callable[[], bool] = lambda: True) -> float:
        """Wait until there is nothing to complain about and C{also} holds; return for how many seconds."""
        began = time.monotonic()
        while True:
            complaints = self.complaints()
            if not complaints and also():
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise NotConverged(f"{what}: not in {seconds:g} s: {complaints or 'the end that was expected'}")
            time.sleep(0.05)

    def rest(self) -> list[str]:
        """Stop all VMs, as an administrator would; return what is left of them and of sessions."""
        self.lost_clients()
        for node in self.nodes:
            node.proxy.heal()
            if node.node is None or node.node.process.poll() is not None:
                node.start()
            node.should_run = True
        for vm_id in self.vms:
            self.order_stop(vm_id)
        try:
            self.converge("all VMs are stopped", 2 * BOUND, lambda: not self.watch.live())
        except NotConverged:
            return self.complaints() or ["a guest that runs"]
        return []

    def second_line(self) -> int:
        """How often only the lock of a home has kept a VM from running twice."""
        return sum(node.log.count(BUSY) for node in self.nodes if (node.folder / "node.log").exists())

    def tracebacks(self) -> list[str]:
        """Those that have come since they were last asked for, each with the lines around it."""
        return [f"{node.name}: {text}" for node in self.nodes for text in node.tracebacks()]


class NotConverged(AssertionError):
    """Not everything was as it should be in time."""


def is_closed(client: Client) -> bool:
    """Has the server ended the connection?"""
    client.socket.settimeout(0.2)
    try:
        while client.socket.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def listening() -> set[int]:
    """Ports of this machine."""
    there = psutil.net_connections("inet")
    return {each.laddr.port for each in there if each.laddr and each.status == psutil.CONN_LISTEN}


@contextlib.contextmanager
def fault_farm() -> Iterator[FaultFarm]:
    """Started, and stopped whatever happens."""
    require("bwrap", "nxagent")
    folder = Path(tempfile.mkdtemp(prefix="qvd-faults-"))
    (folder / "farm").mkdir()
    (folder / "ways").mkdir()
    made = FaultFarm(folder / "farm", folder / "ways")
    try:
        made.start()
        yield made
    finally:
        made.close()
        if "QVD_KEEP" not in os.environ:
            shutil.rmtree(folder)
