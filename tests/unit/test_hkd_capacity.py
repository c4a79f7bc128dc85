"""What a machine has for VMs."""

from __future__ import annotations

import psutil

from qvd.hkd.capacity import FOR_VMS, measure


def test_some_memory_is_left_for_the_node() -> None:
    capacity = measure()
    assert 0 < capacity.memory < psutil.virtual_memory().total
    assert capacity.memory == int(psutil.virtual_memory().total * FOR_VMS)
    assert capacity.cpus >= 1


def test_what_is_free_is_within_what_there_is() -> None:
    capacity = measure()
    assert 0 < capacity.available <= psutil.virtual_memory().total
    assert 0 <= capacity.idle <= capacity.cpus
