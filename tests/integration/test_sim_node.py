"""A real C{twistd qvd-node} with the simulated driver, as load tests use it."""

from __future__ import annotations

from pathlib import Path

from qvd.sim.wires import greeting
from tests.integration.farm import Farm, eventually


def test_a_client_gets_a_simulated_desktop(tmp_path: Path) -> None:
    farm = Farm(tmp_path / "farm", overrides={"vm.hypervisor": "simulated"})
    farm.folder.mkdir()
    try:
        farm.start()
        vm_id = farm.credentials["vm_id"]
        with farm.client() as client:
            assert client.connect(vm_id).head.status == 101
            said = client._reader.take_rest()
            while len(said) < len(greeting(vm_id)):
                said += client.socket.recv(100)
            assert said == greeting(vm_id)
            client.socket.sendall(b"typing")
            assert client.socket.recv(100) == b"typing"
        eventually(lambda: farm.rows("SELECT 1 FROM sessions WHERE ended_at IS NOT NULL"), "the session's end")
        assert farm.vm()["vm_state"] == "running"
        # Its VMs go with the daemon, however that ends, and its successor says so.
        farm.kill_node()
        farm.start_node()
        eventually(lambda: farm.vm()["vm_state"] == "stopped", "its VM is known to have ended")
        assert farm.vm()["host_id"] is None
    finally:
        farm.stop()
