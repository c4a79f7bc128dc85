"""What a machine has for VMs."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from qvd.hkd.capacity import FOR_VMS, measure, read_pressure


def test_some_memory_is_left_for_the_node() -> None:
    capacity = measure()
    assert 0 < capacity.memory < psutil.virtual_memory().total
    assert capacity.memory == int(psutil.virtual_memory().total * FOR_VMS)
    assert capacity.cpus >= 1


def test_what_is_free_is_within_what_there_is() -> None:
    capacity = measure()
    assert 0 < capacity.available <= psutil.virtual_memory().total
    assert 0 <= capacity.idle <= capacity.cpus


CPU = "some avg10=0.43 avg60=0.82 avg300=0.44 total=262425846\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
OLD_CPU = "some avg10=12.50 avg60=0.82 avg300=0.44 total=262425846\n"
MEMORY = (
    "some avg10=98.50 avg60=2.35 avg300=0.84 total=37137244\nfull avg10=31.49 avg60=2.32 avg300=0.82 total=30829059\n"
)
"""As Linux 6.18 wrote them; of processors, kernels before 5.13 have one line."""


@pytest.mark.parametrize(
    ("text", "share", "figure"),
    [
        (CPU, "some", 0.43),
        (OLD_CPU, "some", 12.5),
        (MEMORY, "full", 31.49),
        (MEMORY, "some", 98.5),
        (OLD_CPU, "full", None),
        ("", "some", None),
        ("some avg10=nonsense avg60=0\n", "some", None),
        ("some avg10=100.01 avg60=0.00 avg300=0.00 total=1\n", "some", 100.0),
    ],
)
def test_pressure_as_kernels_write_it(tmp_path: Path, text: str, share: str, figure: float | None) -> None:
    file = tmp_path / "memory"
    file.write_text(text)
    assert read_pressure(file, share) == figure


def test_pressure_is_published(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text(CPU)
    (tmp_path / "memory").write_text(MEMORY)
    capacity = measure(tmp_path)
    assert (capacity.cpu_pressure, capacity.memory_pressure) == (0.43, 31.49)


def test_a_kernel_without_pressure_is_normal(tmp_path: Path) -> None:
    capacity = measure(tmp_path / "absent")
    assert (capacity.cpu_pressure, capacity.memory_pressure) == (None, None)
    assert capacity.memory > 0
