"""Which driver the settings ask for, and what is said where it cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from qvd.hkd.drivers import IN_PROCESS, KNOWN, NETWORKED, SIGNALS, make_driver, make_network
from qvd.hkd.watchdog_launch import load_signals
from qvd.model.errors import SettingsError
from qvd.model.settings import Settings
from qvd.model.settings_node import parse_node


@pytest.fixture
def reactor() -> Any:
    return MemoryReactorClock()  # type: ignore[no-untyped-call]


def settings(**values: Any) -> Settings:
    needed = {"nodename": "n1", "l7r.tls.cert": "c.pem", "l7r.tls.key": "k.pem", "node.address": "10.0.0.1"}
    return parse_node({**needed, **values}, "node.conf")


def test_one_that_there_is_not(reactor: Any) -> None:
    with pytest.raises(SettingsError, match="no driver 'xen'; there are: kvm, lxc, sandbox, simulated"):
        make_driver(settings(**{"vm.hypervisor": "xen"}), reactor, None)


@pytest.mark.parametrize("name", sorted(NETWORKED))
def test_one_that_needs_a_network_asks_for_it(reactor: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=rf"vm\.network\.bridge: the driver {name} needs"):
        make_network(settings(**{"vm.hypervisor": name}), reactor)
    network = make_network(settings(**{"vm.hypervisor": name, "vm.network.bridge": "qvdnet"}), reactor)
    assert network is not None and network.bridge == "qvdnet"


def test_one_that_needs_none_has_none(reactor: Any) -> None:
    assert make_network(settings(**{"vm.network.bridge": "qvdnet"}), reactor) is None


def test_a_container_driver(reactor: Any) -> None:
    chosen = settings(**{"vm.hypervisor": "lxc", "vm.network.bridge": "qvdnet"})
    assert make_driver(chosen, reactor, make_network(chosen, reactor)).name == "lxc"


def test_each_is_watched_over_or_lives_in_the_daemon() -> None:
    assert SIGNALS.keys() | IN_PROCESS == set(KNOWN)
    assert not SIGNALS.keys() & IN_PROCESS
    for path in SIGNALS.values():
        assert load_signals(str(path))("/nowhere", "boot") == {}
