"""A node that cannot renew its lease, whatever the reason: its VMs are gone before others may start them."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import require
from tests.integration.farm import Client, Farm, eventually

SHORT = {"hkd.lease": 4.0, "hkd.heartbeat": 0.5}
LONG = {"hkd.lease": 60.0, "hkd.heartbeat": 0.5}
SESSION = "#!/bin/sh\nexec sleep 1000\n"


@contextlib.contextmanager
def farm_with(folder: Path, **settings: Any) -> Iterator[Farm]:
    require("bwrap", "nxagent")
    program = folder / "session"
    program.write_text(SESSION)
    program.chmod(0o755)
    farm = Farm(folder, program, {"hkd.stop.vms": True, "hkd.reconcile": 0.5, **settings})
    farm.start()
    try:
        yield farm
    finally:
        farm.stop()


def start_vm(farm: Farm) -> tuple[Client, list[psutil.Process]]:
    """A running VM, with whoever asked for it: its supervisor, its init, and what runs inside."""
    client = farm.client()
    assert client.connect(farm.credentials["vm_id"]).head.status == 101
    assert farm.vm()["vm_state"] == "running"
    return client, vm_processes(farm)


def vm_processes(farm: Farm) -> list[psutil.Process]:
    folder = farm.folder / "run" / "vms" / str(farm.credentials["vm_id"])
    init = json.loads((folder / "init.json").read_text())
    supervisor = json.loads((folder / "state.json").read_text())["supervisor"]
    inside = psutil.Process(init["pid"]).children(recursive=True)
    assert len(inside) > 1
    return [psutil.Process(supervisor["pid"]), psutil.Process(init["pid"]), *inside]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def none_lives(processes: list[psutil.Process]) -> bool:
    return not any(map(alive, processes))


def watchdogs(farm: Farm) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(farm.folder / "run") in words and any(word.endswith("watchdog_launch.py") for word in words):
                found.append(process)
    return found


def lease_lasts(farm: Farm) -> bool:
    """By the database's clock, which decides who else may start a VM."""
    return bool(farm.rows("SELECT lease_until > clock_timestamp() AS lasts FROM host_runtimes")[0]["lasts"])


def watchdog_log(farm: Farm) -> str:
    return (farm.folder / "run" / "watchdog.log").read_text()


def test_a_daemon_that_is_stopped(tmp_path: Path) -> None:
    with farm_with(tmp_path, **SHORT) as farm:
        client, processes = start_vm(farm)
        epoch = farm.rows("SELECT epoch FROM host_runtimes")[0]["epoch"]
        assert farm.node is not None
        farm.node.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: none_lives(processes), "the VM is gone")
            assert lease_lasts(farm), watchdog_log(farm)
            assert farm.vm()["vm_state"] == "running", "rows are the daemon's"
            eventually(lambda: not lease_lasts(farm), "the lease is over")
            assert len(watchdogs(farm)) == 1, "it stays with a daemon that may go on"
        finally:
            farm.node.process.send_signal(signal.SIGCONT)
        client.close()
        anew = "SELECT 1 FROM host_runtimes WHERE state = 'running' AND epoch > %s"
        eventually(lambda: farm.rows(anew, epoch), "a new epoch has begun")
        assert "This node may not run VMs any more" in farm.log
        eventually(lambda: farm.vm()["vm_state"] == "stopped", "the VM's end is written")
        client, processes = start_vm(farm)
        client.close()
        log = watchdog_log(farm)
        assert f"the lease of epoch {epoch} was not renewed" in log
        assert f"VM {farm.credentials['vm_id']}: gone" in log
    assert none_lives(processes)
    assert watchdogs(farm) == []


def test_a_daemon_that_is_killed_and_not_missed(tmp_path: Path) -> None:
    with farm_with(tmp_path, **SHORT) as farm:
        client, processes = start_vm(farm)
        farm.kill_node()
        client.close()
        assert all(map(alive, processes[:2])), "a successor may come"
        eventually(lambda: none_lives(processes), "the VM is gone")
        assert lease_lasts(farm), watchdog_log(farm)
        eventually(lambda: watchdogs(farm) == [], "nothing is left to watch over")
        farm.start_node()
        row = eventually(lambda: farm.vm()["vm_state"] == "stopped" and farm.vm(), "the VM's end is written")
        assert "ended while its node was down" in row["last_error"]


def test_a_daemon_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with farm_with(tmp_path, **LONG) as farm:
        client, processes = start_vm(farm)
        (before,) = watchdogs(farm)
        farm.kill_node()
        client.close()
        farm.start_node()
        assert all(map(alive, processes[:2])), "adopted, not killed"
        assert farm.vm()["vm_state"] == "running"
        assert watchdogs(farm) == [before], "so is the watchdog"
        assert "killing" not in watchdog_log(farm)
        before.kill()
        eventually(lambda: watchdogs(farm) not in ([], [before]), "the daemon starts another one")


def test_a_daemon_that_takes_its_vms_along(tmp_path: Path) -> None:
    with farm_with(tmp_path, **LONG) as farm:
        client, processes = start_vm(farm)
        (before,) = watchdogs(farm)
        client.close()
        farm.stop_node()
        assert none_lives(processes)
        assert not alive(before), "it has been waited for"
        assert "killing" not in watchdog_log(farm)
        assert "not orderly" not in farm.log


def test_a_daemon_that_leaves_its_vms_and_does_not_come_back(tmp_path: Path) -> None:
    with farm_with(tmp_path, **SHORT, **{"hkd.stop.vms": False}) as farm:
        client, processes = start_vm(farm)
        client.close()
        farm.stop_node()
        assert all(map(alive, processes[:2])), "a successor may come"
        assert len(watchdogs(farm)) == 1
        eventually(lambda: none_lives(processes), "the VM is gone")
        assert lease_lasts(farm), watchdog_log(farm)
        eventually(lambda: watchdogs(farm) == [], "nothing is left to watch over")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_a_terminal_sends_does_not_end_it(tmp_path: Path, number: signal.Signals) -> None:
    with farm_with(tmp_path, **LONG) as farm:
        (watchdog,) = watchdogs(farm)
        assert watchdog.cwd() == "/"
        eventually(lambda: (farm.folder / "run" / "watchdog.log").exists(), "it is up")
        watchdog.send_signal(number)
        farm.stop_node()
        assert "has left" in watchdog_log(farm), "it went on to its orderly end"
