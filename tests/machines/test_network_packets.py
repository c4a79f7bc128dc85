"""What VMs may send, and what may reach them: tried with packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from attrs import evolve

from tests.conftest import require
from tests.machines.frames import (
    ACK,
    BROADCAST,
    ECHO_REPLY,
    REPLY,
    REQUEST,
    Card,
    arp,
    discover,
    echo,
    echo6,
    ethernet,
    offer,
    router_advertisement,
    tcp,
    udp,
    vlan,
)
from tests.machines.packetnet import (
    BRIDGE,
    CABLE,
    CABLE_CARD,
    ENDS,
    FAR,
    FIRST,
    LOGIN,
    MEMBERS,
    NODE,
    NX,
    OUTSIDE,
    PEER,
    POLICY,
    SECOND,
    SSH,
    VMA,
    Network,
    Place,
    run,
    tcp_from,
)

pytestmark = [pytest.mark.private, pytest.mark.network]

VM, OTHER = FIRST.card, SECOND.card
WITH_LOGIN = evolve(POLICY, login_port=LOGIN)
OPEN = evolve(POLICY, isolated=False)
OUTWARDS = evolve(POLICY, nat_interface=CABLE)
WEB = 80
STRANGER = "02:51:00:00:00:99"
HONEST = tcp(VM, PEER.card, LOGIN)
"""What a VM may send where nodes let VMs log in."""


@pytest.fixture(scope="module")
def cables() -> Iterator[Network]:
    require("nft", "ip")
    made = Network()
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["bridge", "bridge and ip"])
def network(cables: Network, request: pytest.FixtureRequest) -> Network:
    """Fresh, without filters. The kernel lets bridged IPv4 pass C{table ip}, too, or it does not."""
    cables.bridged_ip(request.param)
    cables.unfilter()
    cables.learns_all(False)
    cables.forget()
    return cables


LIES = {
    "MAC": tcp(Card(STRANGER, VM.address), PEER.card, LOGIN),
    "MAC of another VM": tcp(Card(OTHER.mac, VM.address), PEER.card, LOGIN),
    "address": tcp(Card(VM.mac, "10.88.1.200"), PEER.card, LOGIN),
    "address of another VM": tcp(Card(VM.mac, OTHER.address), PEER.card, LOGIN),
    "address of a node": tcp(Card(VM.mac, NODE.address), PEER.card, LOGIN),
    "address from outside": tcp(Card(VM.mac, OUTSIDE.address), PEER.card, LOGIN),
    "all of another VM": tcp(OTHER, PEER.card, LOGIN),
    "ARP answer for another VM": arp(REPLY, Card(VM.mac, OTHER.address), PEER.address, target=PEER.mac),
    "ARP answer for a node": arp(REPLY, Card(VM.mac, NODE.address), PEER.address, target=PEER.mac),
    "ARP question as another VM": arp(REQUEST, Card(VM.mac, OTHER.address), PEER.address),
    "ARP with another MAC": arp(REPLY, Card(OTHER.mac, VM.address), PEER.address, VM.mac, PEER.mac),
    "ARP in another's frame": arp(REPLY, VM, PEER.address, OTHER.mac, PEER.mac),
    "gratuitous ARP for the gateway": arp(REQUEST, Card(VM.mac, NODE.address), NODE.address),
    "gratuitous ARP answer for the gateway": arp(REPLY, Card(VM.mac, NODE.address), NODE.address),
    "DHCP offer": offer(VM),
    "DHCP discover": discover(VM.mac),
    "router advertisement": router_advertisement(VM.mac),
    "ping by IPv6": echo6(VM.mac, PEER.mac),
    "another protocol": ethernet(VM.mac, BROADCAST, 0x88B5, b"qvd" * 20),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_vm_may_not_send(network: Network, lie: str) -> None:
    frame = LIES[lie]
    targets = (PEER, NODE, SECOND) if frame[0] & 1 else (PEER,)
    network.filter(WITH_LOGIN)
    for target in targets:
        assert not network.arrives(FIRST, frame, target)
    assert network.arrives(FIRST, HONEST, PEER)
    network.unfilter()
    for target in targets:
        assert network.arrives(FIRST, frame, target)


@pytest.mark.parametrize("kind", [0x8100, 0x88A8])
def test_nothing_in_a_vlan(network: Network, kind: int) -> None:
    """The kernel shows a frame that has arrived without its tag."""
    tagged, shown = vlan(HONEST, 7, kind), HONEST.__eq__
    network.filter(WITH_LOGIN)
    assert not network.arrives(FIRST, tagged, PEER, shown)
    network.unfilter()
    assert network.arrives(FIRST, tagged, PEER, shown)


def test_a_vm_that_has_no_entry(network: Network) -> None:
    question = arp(REQUEST, VM, PEER.address)
    network.filter(WITH_LOGIN, MEMBERS[1:])
    for frame in (HONEST, question, discover(VM.mac)):
        assert not network.arrives(FIRST, frame, PEER)
    network.filter(WITH_LOGIN)
    assert network.arrives(FIRST, HONEST, PEER)
    assert network.arrives(FIRST, question, PEER)


def test_an_entry_is_good_for_one_interface(network: Network) -> None:
    swapped = [evolve(MEMBERS[0], mac=SECOND.mac, address=SECOND.address), MEMBERS[1]]
    network.filter(WITH_LOGIN, swapped)
    assert not network.arrives(FIRST, HONEST, PEER)


BRIDGES_ONLY = "01:80:c2:00:00:0e"
"""To this MAC a bridge passes nothing on, but the node hears it: it goes around the hook where all else is checked."""


def test_spoofed_address_to_bridges_only(network: Network) -> None:
    frame = udp(Card(VM.mac, PEER.address), Card(BRIDGES_ONLY, NODE.address), WEB)
    later = arp(REQUEST, VM, NODE.address)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind((NODE.address, WEB))
        for filtered, found in ((True, []), (False, [b"qvd!"])):
            if filtered:
                network.filter(POLICY)
            else:
                network.unfilter()
            network.wires[FIRST].send(frame)
            assert network.arrives(FIRST, later, NODE)
            assert heard(server) == found


def test_router_advertisement_to_bridges_only(network: Network) -> None:
    """The node would take the VM for its way outside."""
    frame = router_advertisement(VM.mac, BRIDGES_ONLY)
    for filtered in (True, False):
        if filtered:
            network.filter(POLICY)
        else:
            network.unfilter()
        network.wires[FIRST].send(frame)
        assert network.arrives(FIRST, arp(REQUEST, VM, NODE.address), NODE)
        routes = NODE.ip("-6", "route", "show", "default", "dev", ENDS[FIRST])
        assert ("via fe80::1" in routes) is not filtered
    NODE.ip("-6", "route", "del", "default", "dev", ENDS[FIRST])


def test_spoofed_mac_to_bridges_only(network: Network) -> None:
    """The bridge would learn it, and send another VM's frames there."""
    theft = ethernet(OTHER.mac, BRIDGES_ONLY, 0x88CC, b"qvd" * 20)
    desktop = tcp(PEER.card, OTHER, NX)
    network.filter(POLICY)
    network.wires[FIRST].send(theft)
    assert network.arrives(PEER, desktop, SECOND)
    assert not network.arrives(PEER, desktop, FIRST)
    network.unfilter()
    network.learns_all(True)
    network.wires[FIRST].send(theft)
    assert network.arrives(PEER, desktop, FIRST)


def test_what_is_for_another_vm(network: Network) -> None:
    """The bridge sends everywhere what it does not know the place of, such as a VM that has said nothing for long."""
    desktop = tcp(PEER.card, OTHER, NX)
    network.filter(POLICY)
    assert not network.arrives(PEER, desktop, FIRST)
    network.unfilter()
    network.forget()
    assert network.arrives(PEER, desktop, FIRST)


def test_multicast(network: Network) -> None:
    frame = udp(VM, Card("01:00:5e:00:00:fb", "224.0.0.251"), 5353)
    network.filter(POLICY)
    assert not network.arrives(FIRST, frame, PEER)
    assert not network.arrives(FIRST, frame, SECOND)
    network.unfilter()
    assert network.arrives(FIRST, frame, PEER)
    assert network.arrives(FIRST, frame, SECOND)


VIA_NODE = Card(NODE.mac, SECOND.address)
AMONG_VMS = {
    "TCP": (tcp(VM, OTHER, WEB), SECOND),
    "TCP to the agent": (tcp(VM, OTHER, VMA), SECOND),
    "TCP to the desktop": (tcp(VM, OTHER, NX), SECOND),
    "TCP, later": (tcp(VM, OTHER, WEB, ACK), SECOND),
    "UDP": (udp(VM, OTHER, WEB), SECOND),
    "ping": (echo(VM, OTHER), SECOND),
    "answer to a ping": (echo(VM, OTHER, ECHO_REPLY), SECOND),
    "ARP": (arp(REQUEST, VM, SECOND.address), SECOND),
    "TCP to another node's": (tcp(VM, FAR.card, WEB), FAR),
    "ping to another node's": (echo(VM, FAR.card), FAR),
    "ARP to another node's": (arp(REQUEST, VM, FAR.address), FAR),
    "TCP from another node's": (tcp(FAR.card, VM, WEB), FIRST),
    "ping from another node's": (echo(FAR.card, VM), FIRST),
    "TCP to the agent from another node's": (tcp(FAR.card, VM, VMA), FIRST),
    "ARP from another node's": (arp(REQUEST, FAR.card, VM.address), FIRST),
}


def sender(frame: bytes) -> Place:
    return next(
        place for place in (FIRST, SECOND, FAR, PEER) if frame[6:12] == bytes.fromhex(place.mac.replace(":", ""))
    )


@pytest.mark.parametrize("way", AMONG_VMS)
def test_from_vm_to_vm(network: Network, way: str) -> None:
    frame, target = AMONG_VMS[way]
    network.filter(POLICY)
    assert not network.arrives(sender(frame), frame, target)
    network.unfilter()
    assert network.arrives(sender(frame), frame, target)


@pytest.mark.parametrize("way", [way for way in AMONG_VMS if "agent" not in way and "desktop" not in way])
def test_from_vm_to_vm_where_that_is_wanted(network: Network, way: str) -> None:
    frame, target = AMONG_VMS[way]
    network.filter(OPEN)
    assert network.arrives(sender(frame), frame, target)


@pytest.mark.parametrize("way", [way for way in AMONG_VMS if "agent" in way or "desktop" in way])
def test_what_nodes_use_is_never_for_vms(network: Network, way: str) -> None:
    frame, target = AMONG_VMS[way]
    network.filter(OPEN)
    assert not network.arrives(sender(frame), frame, target)


def test_from_vm_to_vm_through_the_node(network: Network) -> None:
    """Sent to the node's MAC, which would send it on."""
    frame, seen = tcp(VM, VIA_NODE, WEB), tcp_from(VM.address, 40000)
    network.filter(POLICY)
    assert not network.arrives(FIRST, frame, SECOND, seen)
    network.filter(OPEN)
    assert network.arrives(FIRST, frame, SECOND, seen)
    to_agent, seen = tcp(VM, VIA_NODE, VMA, from_port=40001), tcp_from(VM.address, 40001)
    assert not network.arrives(FIRST, to_agent, SECOND, seen)
    network.unfilter()
    assert network.arrives(FIRST, to_agent, SECOND, seen)


TO_NODES = {"SSH": SSH, "login": LOGIN, "database": 5432}


@pytest.mark.parametrize("service", TO_NODES)
def test_from_vm_to_this_node(network: Network, service: str) -> None:
    port = TO_NODES[service]
    with closing(NODE.listen(port)):
        network.filter(POLICY)
        for place in (FIRST, FAR):
            assert not network.answers(place, tcp(place.card, NODE.card, port), port)
            # To its other address, and in the middle of a connection that there is not.
            assert not network.answers(place, tcp(place.card, Card(NODE.mac, CABLE_CARD.address), port), port)
            assert not network.answers(place, tcp(place.card, NODE.card, port, ACK), port)
        network.unfilter()
        assert network.answers(FIRST, tcp(VM, NODE.card, port), port)
        assert network.answers(FAR, tcp(FAR.card, NODE.card, port), port)


@pytest.mark.parametrize("service", TO_NODES)
def test_from_vm_to_another_node(network: Network, service: str) -> None:
    frame = tcp(VM, PEER.card, TO_NODES[service])
    through_us, seen = (
        tcp(VM, Card(NODE.mac, PEER.address), TO_NODES[service], from_port=40001),
        tcp_from(VM.address, 40001),
    )
    network.filter(POLICY)
    assert not network.arrives(FIRST, frame, PEER)
    assert not network.arrives(FIRST, through_us, PEER, seen)
    network.unfilter()
    assert network.arrives(FIRST, frame, PEER)
    assert network.arrives(FIRST, through_us, PEER, seen)


def test_where_vms_may_log_in(network: Network) -> None:
    """There, and nowhere else."""
    with closing(NODE.listen(LOGIN)), closing(NODE.listen(SSH)):
        network.filter(WITH_LOGIN)
        assert network.answers(FIRST, tcp(VM, NODE.card, LOGIN), LOGIN)
        assert not network.answers(FIRST, tcp(VM, NODE.card, SSH), SSH)
        with closing(FIRST.dial(NODE.address, LOGIN)):
            pass
    assert network.arrives(FIRST, HONEST, PEER)
    assert network.arrives(FIRST, echo(VM, PEER.card), PEER)
    assert not network.arrives(FIRST, tcp(VM, PEER.card, SSH), PEER)
    assert not network.arrives(FIRST, tcp(VM, FAR.card, LOGIN), FAR)


FOREIGN = Card(PEER.mac, "172.16.0.9")
INWARDS = {
    "agent": (PEER, tcp(FOREIGN, VM, VMA)),
    "desktop": (PEER, tcp(FOREIGN, VM, NX)),
    "desktop, from the VMs' part": (FAR, tcp(FAR.card, VM, NX)),
    "another port of a VM": (PEER, tcp(PEER.card, VM, SSH)),
    "DHCP offer": (PEER, offer(PEER.card)),
    "router advertisement": (PEER, router_advertisement(PEER.mac)),
    "ping by IPv6": (PEER, echo6(PEER.mac, VM.mac)),
    "ping by IPv6 from this node": (NODE, echo6(NODE.mac, VM.mac)),
}


@pytest.mark.parametrize("way", INWARDS)
def test_what_may_not_reach_a_vm(network: Network, way: str) -> None:
    source, frame = INWARDS[way]
    network.filter(POLICY)
    assert not network.arrives(source, frame, FIRST)
    network.unfilter()
    assert network.arrives(source, frame, FIRST)


@pytest.mark.parametrize("port", [VMA, NX])
def test_from_outside_through_the_node(network: Network, port: int) -> None:
    frame, seen = tcp(OUTSIDE.card, Card(CABLE_CARD.mac, VM.address), port), tcp_from(OUTSIDE.address, 40000)
    for policy in (POLICY, OUTWARDS):
        network.filter(policy)
        assert not network.arrives(OUTSIDE, frame, FIRST, seen)
    network.unfilter()
    assert network.arrives(OUTSIDE, frame, FIRST, seen)


def test_from_outside_as_a_node(network: Network) -> None:
    frame, seen = (
        tcp(Card(OUTSIDE.mac, PEER.address), Card(CABLE_CARD.mac, VM.address), VMA),
        tcp_from(PEER.address, 40000),
    )
    network.filter(OUTWARDS)
    assert not network.arrives(OUTSIDE, frame, FIRST, seen)
    network.unfilter()
    assert network.arrives(OUTSIDE, frame, FIRST, seen)


@contextmanager
def meeting(source: Place, target: Place, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, of machines that have forgotten where the other one is."""
    for place in (source, target):
        place.ip("neigh", "flush", "all")
    with closing(target.listen(port)) as listener, closing(source.dial(target.address, port)) as near:
        far, _ = listener.accept()
        with closing(far):
            yield near, far


def exchange(near: socket.socket, far: socket.socket) -> None:
    near.settimeout(10)
    far.settimeout(10)
    for one, other in ((near, far), (far, near)):
        one.sendall(b"x" * 5000)
        left = 5000
        while left:
            left -= len(other.recv(left))


@pytest.mark.parametrize("port", [VMA, NX])
@pytest.mark.parametrize("source", [NODE, PEER], ids=["this node", "another node"])
def test_from_nodes_to_a_vm(network: Network, source: Place, port: int) -> None:
    """With nothing known of each other, so that ARP has to come through as well."""
    network.filter(POLICY)
    NODE.ip("neigh", "del", FIRST.address, "dev", BRIDGE)
    try:
        with meeting(source, FIRST, port) as (near, far):
            exchange(near, far)
            assert far.getpeername()[0] == source.address
    finally:
        network.know(FIRST)


@pytest.mark.parametrize("source", [NODE, PEER], ids=["this node", "another node"])
def test_a_connection_outlives_new_filters(network: Network, source: Place) -> None:
    network.filter(POLICY)
    with meeting(source, FIRST, NX) as (near, far):
        for policy in (POLICY, WITH_LOGIN, OPEN):
            network.filter(policy)
            exchange(near, far)


def test_the_tables_of_others_stay(network: Network) -> None:
    run("nft", "-f", "-", text="table inet others { chain input { type filter hook input priority 5\n}\n}\n")
    others = run("nft", "list", "table", "inet", "others")
    for _ in range(2):
        network.filter(POLICY)
        assert run("nft", "list", "table", "inet", "others") == others


def test_a_vm_is_pinged_by_a_node(network: Network) -> None:
    network.filter(POLICY)
    assert network.arrives(PEER, echo(PEER.card, VM), FIRST)
    assert network.arrives(FIRST, echo(VM, PEER.card, ECHO_REPLY), PEER)


def test_arp_for_its_own_address(network: Network) -> None:
    network.filter(POLICY)
    assert network.arrives(PEER, arp(REQUEST, PEER.card, VM.address), FIRST)
    assert network.arrives(FIRST, arp(REPLY, VM, PEER.address, target=PEER.mac), PEER)
    assert network.arrives(FIRST, arp(REQUEST, VM, VM.address), PEER)


def test_to_the_outside_and_back(network: Network) -> None:
    network.filter(OUTWARDS)
    with meeting(FIRST, OUTSIDE, WEB) as (near, far):
        exchange(near, far)
        assert far.getpeername()[0] == CABLE_CARD.address


def test_to_the_outside_where_there_is_no_way(network: Network) -> None:
    frame = tcp(VM, Card(NODE.mac, OUTSIDE.address), WEB)
    seen = tcp_from(VM.address, 40000)
    for policy in (POLICY, evolve(OUTWARDS, nat_except=["192.0.2.0/24"])):
        network.filter(policy)
        assert not network.arrives(FIRST, frame, OUTSIDE, seen)
        # Whatever address it would have there.
        assert not network.arrives(FIRST, frame, OUTSIDE, tcp_from(CABLE_CARD.address, 40000))
    network.unfilter()
    assert network.arrives(FIRST, frame, OUTSIDE, seen)


@pytest.mark.parametrize("served", [False, True], ids=["not served", "served"])
def test_dhcp(network: Network, served: bool) -> None:
    """To us, and to nobody else."""
    frame = discover(VM.mac)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("", 67))
        network.filter(evolve(OPEN, dhcp=served))
        for place in (SECOND, PEER, FAR):
            assert not network.arrives(FIRST, frame, place)
        assert heard(server) == ([discovered(frame)] * 3 if served else [])
        assert network.arrives(FIRST, renewal := udp(VM, NODE.card, 67), NODE)
        assert heard(server) == ([renewal[-4:]] if served else [])


def discovered(frame: bytes) -> bytes:
    return frame[14 + 20 + 8 :]


def heard(server: socket.socket) -> list[bytes]:
    """All that has come, without a wait: it came before what the test has seen since."""
    server.setblocking(False)
    found = list[bytes]()
    try:
        while True:
            found.append(server.recv(4096))
    except BlockingIOError:
        return found
