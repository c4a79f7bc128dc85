"""The VM network of a node from its start to its end, with real bridges and filters."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from twisted.internet import reactor
from zope.interface import implementer

from qvd.hkd.network import commands
from qvd.hkd.network.service import NetworkTerms, VMNetwork
from qvd.interfaces import IAddressPlans
from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from qvd.model.network import AddressPlan, parse_plan
from qvd.model.records import Nic
from tests.conftest import require
from tests.fakes.asynchronous import asynchronous

pytestmark = [pytest.mark.private, pytest.mark.network]

TERMS = NetworkTerms("qvdtrial", True, "10.77.0.1", "qvd", ("3030", "4100"), None, True, False, None)
ONE, TWO = VMId(1), VMId(2)
CARDS = {number: Nic(f"10.77.1.{number}", 24, f"02:51:00:00:00:0{number}") for number in (ONE, TWO)}


@implementer(IAddressPlans)
class Plans:
    """One range, or none."""

    def __init__(self, plan: AddressPlan | None) -> None:
        self._plan = plan

    async def current(self) -> AddressPlan | None:
        return self._plan


PLANS = Plans(parse_plan("10.77.0.0/16", "10.77.1.0"))


def sh(words: str) -> str:
    return subprocess.run(words.split(), capture_output=True, text=True, check=True).stdout


def state() -> tuple[str, set[str]]:
    """All filters, and the names of all interfaces."""
    return sh("nft list ruleset"), {name for _, name in socket.if_nameindex()}


def make(terms: NetworkTerms = TERMS) -> VMNetwork:
    def no_dhcp(plan: AddressPlan) -> object:
        raise AssertionError("it is off")

    return VMNetwork(reactor, terms, no_dhcp)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    require("nft", "ip")
    before = state()
    yield
    subprocess.run(["sh", "-c", "for f in bridge ip ip6; do nft delete table $f qvd; done"], stderr=subprocess.DEVNULL)
    for name in ("qvd1", "qvd2", "qvdtrial"):
        subprocess.run(["ip", "link", "del", name], stderr=subprocess.DEVNULL, check=False)
    assert state() == before


def add_interface(vm_id: VMId) -> None:
    sh(f"ip link add qvd{vm_id} type bridge")


@asynchronous
async def test_it_comes_and_goes_and_leaves_others_alone() -> None:
    sh("nft add table ip other")
    before = state()
    network = make()
    await network.start(PLANS)
    assert "10.77.0.1/24" not in sh("ip -o address show qvdtrial")
    assert "10.77.0.1/16" in sh("ip -o address show qvdtrial")
    await network.attach(ONE, CARDS[ONE])
    assert '"qvd1" . 02:51:00:00:00:01 . 10.77.1.1' in sh("nft list set bridge qvd addresses")
    await network.stop(remove=True)
    assert "qvd1" in sh("nft list ruleset"), "a VM that goes on keeps its filters"
    await network.detach(ONE)
    await network.detach(ONE)
    await network.stop(remove=True)
    assert state() == before
    sh("nft delete table ip other")


@asynchronous
async def test_a_successor_changes_only_what_differs() -> None:
    first = make()
    await first.start(PLANS)
    for vm_id in (ONE, TWO):
        add_interface(vm_id)
        await first.attach(vm_id, CARDS[vm_id])
    handles = sh("nft -a list table bridge qvd")
    second = make()
    await second.start(PLANS)
    assert sh("nft -a list table bridge qvd") == handles, "nothing was touched"
    sh("ip link del qvd2")
    third = make()
    await third.start(PLANS)
    assert "qvd2" not in sh("nft list table bridge qvd")
    assert "qvd1" in sh("nft list table bridge qvd")
    await third.detach(ONE)
    assert "qvd1" not in sh("ip -o link")


@asynchronous
async def test_filters_that_somebody_took_away_are_set_anew() -> None:
    network = make()
    await network.start(PLANS)
    await network.attach(ONE, CARDS[ONE])
    sh("nft flush ruleset")
    await network.attach(TWO, CARDS[TWO])
    found = sh("nft list set bridge qvd addresses")
    assert "qvd1" in found and "qvd2" in found
    sh("nft delete table ip6 qvd")
    await make().start(PLANS)
    assert "unbridged" in sh("nft list table ip6 qvd")


@asynchronous
async def test_filters_that_cannot_be_seen_are_not_taken_for_absent() -> None:
    network = make()
    await network.start(PLANS)
    add_interface(ONE)
    await network.attach(ONE, CARDS[ONE])
    with patch.object(commands, "SECONDS", 0.0), pytest.raises(TransientError):
        await make().start(PLANS)
    with patch.object(commands, "SECONDS", 0.0), pytest.raises(TransientError):
        await network.stop(remove=True)
    assert "qvd1" in sh("nft list set bridge qvd addresses")


@asynchronous
async def test_what_is_missing_is_said() -> None:
    with pytest.raises(PermanentError, match="qvd-db network"):
        await make().start(Plans(None))
    with pytest.raises(PermanentError, match=r"node\.address"):
        await make(NetworkTerms("qvdtrial", True, "10.9.0.1", "qvd", ("3030",), None, True, False, None)).start(PLANS)
    with pytest.raises(PermanentError, match="does not exist"):
        await make(NetworkTerms("qvdtrial", False, "10.77.0.1", "qvd", ("3030",), None, True, False, None)).start(PLANS)
    with pytest.raises(TransientError, match="not up yet"):
        await make().attach(ONE, CARDS[ONE])
