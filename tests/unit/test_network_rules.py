"""The filters of the VM network as text."""

from __future__ import annotations

from typing import Any

from qvd.hkd.network.rules import TRACKED, Member, Policy, elements, policy_mark, render
from qvd.model.network import parse_plan

PLAN = parse_plan("10.0.0.0/16", "10.0.1.0", dns="10.0.0.53")
ONE = Member("qvd1", "02:51:00:00:00:01", "10.0.1.1")
TWO = Member("qvd2", "02:51:00:00:00:02", "10.0.1.2")


def policy(**changes: Any) -> Policy:
    return Policy(
        **{"plan": PLAN, "bridge": "qvdnet", "prefix": "qvd", "guest_ports": ("3030", "4100-4199"), **changes}
    )


def chain(text: str, name: str) -> str:
    return text.split(f"chain {name} {{\n", 1)[1].split("\n  }\n", 1)[0]


def test_it_replaces_our_tables_and_no_others() -> None:
    text = render(policy(), [])
    assert text.startswith("add table bridge qvd\ndelete table bridge qvd\nadd table ip qvd\ndelete table ip qvd\n")
    assert [line for line in text.splitlines() if line.startswith("table ")] == [
        f"table {family} qvd {{" for family in ("bridge", "ip", "ip6")
    ]
    assert "flush" not in text


def test_the_order_of_vms_is_no_difference() -> None:
    assert render(policy(), [TWO, ONE]) == render(policy(), [ONE, TWO])


def test_one_more_vm_is_an_element_of_each_set() -> None:
    assert elements("add", [ONE]) == (
        'add element bridge qvd cards { "qvd1" . 02:51:00:00:00:01 }\n'
        'add element bridge qvd addresses { "qvd1" . 02:51:00:00:00:01 . 10.0.1.1 }\n'
    )
    assert elements("delete", []) == ""


def test_what_is_not_allowed_is_dropped_last() -> None:
    text = render(policy(), [ONE])
    for name in ("spoken", "heard", "served", "leaving", "arriving"):
        assert chain(text, name).endswith("    drop"), name


def test_isolation_comes_before_replies() -> None:
    rules = chain(render(policy(), []), "sent").splitlines()
    assert rules[0].strip() == 'oifname "qvd*" drop'
    assert rules[3].strip() == "ip daddr 10.0.1.0-10.0.255.255 drop"
    assert 'oifname "qvd*" drop' not in render(policy(isolated=False), [])


def test_vms_that_reach_each_other_do_not_reach_the_ports_of_nodes() -> None:
    text = render(policy(isolated=False), [])
    for name in ("heard", "leaving"):
        assert "tcp dport { 3030, 4100-4199 }" in chain(text, name)


def test_options_open_what_they_name_and_no_more() -> None:
    closed = render(policy(), [])
    assert "masquerade" not in closed
    assert "8443" not in closed
    assert "dport 67 accept" not in closed
    opened = render(
        policy(login_port=8443, dhcp=True, nat_interface="eth1", nat_except=("10.9.0.0/24",), isolated=True), []
    )
    assert 'oifname "eth1" ip saddr 10.0.1.0-10.0.255.255 masquerade' in opened
    leaving = chain(opened, "leaving")
    assert leaving.index("ip daddr 10.9.0.0/24 drop") < leaving.index('oifname "eth1" accept')
    assert "tcp dport 8443 accept" in chain(opened, "served")
    assert "udp sport 68 udp dport 67 accept" in chain(opened, "spoken")


def test_replies_are_tracked_where_the_kernel_does() -> None:
    assert TRACKED in chain(render(policy(tracked=True), []), "heard")
    assert TRACKED not in chain(render(policy(), []), "heard")


def test_what_goes_around_the_bridges_hooks_does_not_reach_the_node() -> None:
    assert (
        chain(render(policy(), []), "node").splitlines()[1].strip()
        == f'iifname != "{policy().bridge}" iifname "qvd*" drop'
    )


def test_a_frame_in_a_vlan_is_not_taken_for_what_is_in_it() -> None:
    assert "ether type { 8021q, 8021ad } drop" in chain(render(policy(), []), "spoken")


def test_what_is_for_another_vm_is_not_heard() -> None:
    text = render(policy(isolated=False), [])
    for name in ("heard", "told"):
        assert "oifname . ether daddr != @cards drop" in chain(text, name)


def test_a_nodes_address_from_elsewhere_than_the_bridge_opens_nothing() -> None:
    assert chain(render(policy(), []), "arriving").splitlines()[0].strip() == 'iifname != "qvdnet" drop'


def test_another_policy_has_another_mark() -> None:
    assert policy_mark(policy()) in render(policy(), [ONE])
    assert policy_mark(policy()) != policy_mark(policy(isolated=False))
