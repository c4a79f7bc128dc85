"""What the settings mean to the node's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qvd.db.parameters import database_parameters
from qvd.hkd import configured
from qvd.hkd.slots import SlotSizes
from qvd.hkd.storage.layers import BtrfsLayers, OverlayLayers
from qvd.model.errors import SettingsError
from qvd.model.garbage import Terms
from qvd.model.settings import Settings
from qvd.model.settings_node import parse_node

NEEDED = {"nodename": "n1", "l7r.tls.cert": "c.pem", "l7r.tls.key": "k.pem"}


def settings(**changes: Any) -> Settings:
    return parse_node({**NEEDED, **changes}, "node.conf")


def test_an_empty_password_is_not_sent() -> None:
    assert "password" not in database_parameters(settings())
    assert database_parameters(settings(**{"database.password": "x"}))["password"] == "x"


def test_clients_are_promised_the_limits_of_the_node() -> None:
    given = settings(**{"hkd.timeout.start": 77.0, "hkd.timeout.queue": 400.0, "hkd.timeout.shutdown": 3.0})
    times, deadlines = configured.desktop_times(given), configured.deadlines_of(given)
    assert times.start == deadlines.queue + deadlines.start == 477.0
    assert times.stop == deadlines.queue + deadlines.end


def test_each_kind_of_work_has_a_budget_of_its_own() -> None:
    given = settings(**{"hkd.slots.unpack": 1, "hkd.slots.boot": 2, "hkd.slots.stop": 3})
    assert configured.slot_sizes(given) == SlotSizes(unpack=1, boot=2, stop=3)
    assert configured.slot_sizes(settings()) == SlotSizes()


def test_garbage_is_old_in_days() -> None:
    given = settings(**{"hkd.garbage.age": 2.0, "hkd.garbage.homes_age": 3.5})
    assert configured.garbage_terms(given) == Terms(2 * 86400.0, 3.5 * 86400.0, homes=False)


def test_a_move_is_given_up_before_its_transaction() -> None:
    given = settings(**{"database.timeout": 4.0})
    assert configured.garbage_patience(given) < given.seconds("database.timeout")


def test_a_stop_with_vms_has_time_for_their_end() -> None:
    without, with_vms = configured.node_times(settings()), configured.node_times(settings(**{"hkd.stop.vms": True}))
    assert with_vms.stop == without.stop + configured.deadlines_of(settings()).end


def test_the_run_folder_is_absolute() -> None:
    assert configured.run_folder(settings(**{"path.run": "run"})) == Path.cwd() / "run"


def test_containers_are_stored_as_the_settings_say() -> None:
    assert isinstance(configured.container_layers(settings()), OverlayLayers)
    btrfs = settings(**{"vm.lxc.storage": "btrfs"})
    assert isinstance(configured.container_layers(btrfs), BtrfsLayers)
    assert configured.storage_layout(btrfs).subvolumes
    layout = configured.storage_layout(settings())
    assert (layout.node, layout.uid_base, layout.subvolumes) == ("n1", 1000000, False)
    assert layout.bases == Path("/var/lib/qvd/storage/bases")
    with pytest.raises(SettingsError, match="no back-end 'zfs'; there are: overlayfs, btrfs"):
        configured.container_layers(settings(**{"vm.lxc.storage": "zfs"}))


def test_no_session_program_is_none() -> None:
    assert configured.sandbox_layout(settings()).x_session is None
    assert configured.sandbox_layout(settings(**{"vm.sandbox.x_session": "/bin/x"})).x_session == Path("/bin/x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(None, "No such file or directory"), ("nodename =", "Invalid value"), ("a = 1", "unknown key")],
)
def test_settings_that_cannot_be_read_name_the_file(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "node.conf"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        configured.read_settings(path)
    assert caught.value.text.startswith(f"{path}: ")
    assert complaint in caught.value.text


def test_a_look_at_the_images_costs_no_lease() -> None:
    for lease in (3.0, 30.0, 3000.0):
        given = settings(**{"hkd.lease": lease, "hkd.heartbeat": 1.0})
        assert configured.image_patience(given) < lease / 4
    assert configured.image_patience(settings()) == 5.0
    assert configured.image_folder(settings(**{"path.storage.images": "/srv/images"})) == Path("/srv/images")


def network_settings(**values: object) -> Settings:
    return settings(**{"node.address": "10.0.0.1"}, **{f"vm.network.{key}": value for key, value in values.items()})


def test_without_a_bridge_there_is_no_vm_network() -> None:
    assert configured.network_terms(network_settings()) is None


def test_what_becomes_part_of_the_filters_is_checked() -> None:
    terms = configured.network_terms(network_settings(bridge="br0", guest_ports="3030, 4100-4199", allow_login=True))
    assert terms is not None
    assert (terms.guest_ports, terms.login_port, terms.gateway) == (("3030", "4100-4199"), 8443, None)
    for key, value in (
        ("bridge", 'br0"; drop'),
        ("device_prefix", "q v d"),
        ("guest_ports", "3030; drop"),
        ("guest_ports", ""),
        ("nat_except", "everything"),
    ):
        with pytest.raises(SettingsError, match=rf"vm\.network\.{key}"):
            configured.network_terms(network_settings(**{"bridge": "br0", key: value}))
