"""What is made of the positions that clients were told."""

from __future__ import annotations

import pytest

from qvd.hkd.wording import DETAIL, place_in_queue
from qvd.model.vm import Step, Work
from qvd.sim.queues import Stay, account, overtaken, stay_of
from qvd.sim.record import phase_of
from qvd.sim.users import Person, Visit

WAITING = DETAIL[Step.QUEUED]


def visit(*news: tuple[float, str]) -> Visit:
    return Visit(Person(1, 1, "acme"), "n1", 100.0, news=list(news))


@pytest.mark.parametrize("position", [1, 20, 21, 4711])
def test_a_stay_ends_with_the_first_other_text(position: int) -> None:
    told = place_in_queue(position, "n2", Work.UNPACK)
    found = stay_of(visit((100.0, WAITING), (101.0, told), (107.0, DETAIL[Step.PREPARE]), (109.0, DETAIL[Step.BOOT])))
    assert found == Stay("acme", "n2", 100.0, 107.0)


def test_who_waits_to_boot_is_in_another_queue() -> None:
    told = place_in_queue(3, "n2", Work.BOOT)
    assert stay_of(visit((101.0, told), (107.0, DETAIL[Step.BOOT]))) is None
    assert account([visit((101.0, told))]) == {"clients": 1, "told_their_position": 1, "overtaken": 0}


def test_who_is_told_no_position_is_counted_apart() -> None:
    assert account([visit((100.0, WAITING)), visit((100.0, DETAIL[Step.BOOT]))]) == {
        "clients": 1,
        "told_their_position": 0,
        "overtaken": 0,
    }


def test_all_that_the_node_says_of_queues_is_understood() -> None:
    for text in (WAITING, DETAIL[Step.PREPARED], *(place_in_queue(3, "n2", work) for work in Work)):
        assert phase_of(text) == "queued", text


def stay(asked: float, left: float, tenant: str = "acme", node: str = "n1") -> Stay:
    return Stay(tenant, node, asked, left)


def test_in_order_nobody_is_overtaken() -> None:
    assert overtaken([stay(3.0, 30.0), stay(1.0, 10.0), stay(5.0, 50.0)]) == 0


def test_each_that_was_overtaken_counts_once() -> None:
    assert overtaken([stay(1.0, 40.0), stay(3.0, 30.0), stay(5.0, 20.0)]) == 2


def test_those_who_came_together_may_go_in_any_order() -> None:
    assert overtaken([stay(1.0, 40.0), stay(2.0, 30.0)]) == 0


def test_other_tenants_and_other_nodes_have_turns_of_their_own() -> None:
    assert overtaken([stay(1.0, 40.0), stay(9.0, 20.0, tenant="other"), stay(9.0, 20.0, node="n2")]) == 0
