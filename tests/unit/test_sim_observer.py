"""The observer outside the nodes finds what must not be."""

from __future__ import annotations

from qvd.model.ids import VMId
from qvd.sim.observer import Observer

ONE, TWO = VMId(1), VMId(2)


def observer() -> Observer:
    return Observer(lambda: 12.5)


def test_one_vm_on_one_node_after_the_other_is_well() -> None:
    seen = observer()
    for node in ("n1", "n2"):
        seen.mounted(ONE, node)
        seen.started(ONE, node, 10, 100)
        seen.ended(ONE, node, 10)
        seen.unmounted(ONE, node)
    assert (seen.violations, seen.overbooked, seen.accounts) == (0, 0, [])


def test_one_vm_on_two_nodes_is_found() -> None:
    seen = observer()
    seen.started(ONE, "n1", 10, 100)
    seen.started(ONE, "n2", 10, 100)
    assert seen.violations == 1
    assert seen.accounts == ["at 12.500 s: VM 1 runs on n2 and on n1"]


def test_one_home_on_two_nodes_is_found() -> None:
    seen = observer()
    seen.mounted(ONE, "n1")
    seen.mounted(TWO, "n2")
    assert seen.violations == 0
    seen.mounted(ONE, "n2")
    assert seen.violations == 1


def test_too_many_for_the_memory_is_found() -> None:
    seen = observer()
    seen.started(ONE, "n1", 60, 100)
    seen.started(TWO, "n1", 60, 100)
    assert (seen.overbooked, seen.most["n1"]) == (1, 2)
    seen.ended(ONE, "n1", 60)
    seen.started(ONE, "n1", 40, 100)
    assert seen.overbooked == 1
