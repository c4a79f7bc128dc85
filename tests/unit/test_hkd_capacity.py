"""What a machine has for VMs."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from qvd.hkd.capacity import FOR_VMS, Meter, read_pressure

Times = namedtuple("Times", ["user", "system", "idle", "iowait", "guest", "guest_nice"])


class Processors:
    """Two cores that have done something since the boot."""

    def __init__(self) -> None:
        self.times = Times(user=300.0, system=100.0, idle=1500.0, iowait=100.0, guest=200.0, guest_nice=0.0)
        self.cores = float(psutil.cpu_count() or 1)
        self.meter = Meter(lambda: self.times)

    def work(self, **seconds: float) -> None:
        self.times = self.times._replace(**{name: getattr(self.times, name) + more for name, more in seconds.items()})

    def idle_part(self) -> float:
        return self.meter.measure().idle / self.cores


def test_some_memory_is_left_for_the_node() -> None:
    capacity = Meter().measure()
    assert 0 < capacity.memory < psutil.virtual_memory().total
    assert capacity.memory == int(psutil.virtual_memory().total * FOR_VMS)
    assert capacity.cpus >= 1


def test_what_is_free_is_within_what_there_is() -> None:
    capacity = Meter().measure()
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
    capacity = Meter(pressure=tmp_path).measure()
    assert (capacity.cpu_pressure, capacity.memory_pressure) == (0.43, 31.49)


def test_a_kernel_without_pressure_is_normal(tmp_path: Path) -> None:
    capacity = Meter(pressure=tmp_path / "absent").measure()
    assert (capacity.cpu_pressure, capacity.memory_pressure) == (None, None)
    assert capacity.memory > 0


def test_at_first_it_is_what_went_on_since_the_boot() -> None:
    """A node that has just started is not taken for an idle one."""
    assert Processors().idle_part() == pytest.approx(0.8)


def test_then_what_went_on_since_the_look_before() -> None:
    processors = Processors()
    processors.idle_part()
    processors.work(user=6.0, idle=3.0, iowait=1.0)
    assert processors.idle_part() == pytest.approx(0.4)
    processors.work(user=10.0, guest=10.0)
    assert processors.idle_part() == 0.0, "a guest's time is counted once"
    processors.work(idle=10.0)
    assert processors.idle_part() == 1.0


def test_a_look_right_after_another_says_the_same() -> None:
    processors = Processors()
    processors.idle_part()
    processors.work(user=5.0, idle=5.0)
    assert processors.idle_part() == pytest.approx(0.5)
    processors.work(user=0.02)
    assert processors.idle_part() == pytest.approx(0.5)
    processors.work(user=0.98, idle=3.0)
    assert processors.idle_part() == pytest.approx(0.75), "and nothing is forgotten"


def test_a_counter_that_goes_back_gives_no_impossible_figure() -> None:
    processors = Processors()
    processors.idle_part()
    processors.work(user=20.0, iowait=-10.0)
    assert processors.idle_part() == 0.0
