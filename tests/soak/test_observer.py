"""What the observer is there for: that it sees a VM that runs twice. Planted here, since nodes do not do it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.integration.farm import eventually
from tests.soak.observer import Sighting, Watch, violations

HOME, OTHER = "/homes/1/1", "/homes/1/2"


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    require("bwrap")
    made = Watch(str(tmp_path))
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def guest(base: Path, node: str, home: Path) -> Iterator[None]:
    """A process like those of the sandbox driver, with no lock that would keep it from a home that is in use."""
    marker = base / node / "run/vms/1/files/guest.json"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text("{}")
    home.mkdir(exist_ok=True)
    root = [word for name in ("bin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")]
    mounts = ["--ro-bind", str(marker), "/.qvd/guest.json", "--bind", str(home), "/home/alice"]
    process = subprocess.Popen(
        ["bwrap", "--unshare-pid", "--die-with-parent", "--ro-bind", "/usr", "/usr", *root, *mounts, "sleep", "1000"]
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seen(watch: Watch, number: int) -> None:
    eventually(lambda: len(watch.live()) == number, f"{number} guests are seen")


def test_two_nodes_with_one_home_are_seen(watch: Watch, tmp_path: Path) -> None:
    with guest(tmp_path, "n1", tmp_path / "home"):
        seen(watch, 1)
        assert watch.violations() == []
        with guest(tmp_path, "n2", tmp_path / "home"):
            seen(watch, 2)
    seen(watch, 0)
    ((one, two),) = watch.violations()
    assert [each.node.rpartition("/n")[2] for each in (one, two)] == ["1/run", "2/run"]
    assert one.home == two.home


def test_one_after_the_other_and_side_by_side_with_homes_of_their_own_are_none(watch: Watch, tmp_path: Path) -> None:
    with guest(tmp_path, "n1", tmp_path / "home"), guest(tmp_path, "n2", tmp_path / "other"):
        seen(watch, 2)
    seen(watch, 0)
    with guest(tmp_path, "n2", tmp_path / "home"):
        seen(watch, 1)
    seen(watch, 0)
    assert len(watch.sightings()) == 3
    assert watch.violations() == []


def sighting(node: str, began: float, alive: float, ended: float | None = None, home: str = HOME) -> Sighting:
    return Sighting(1, f"/{node}/run/vms/1", home, began, alive, ended)


@pytest.mark.parametrize(
    ("earlier", "later", "violated"),
    [
        (sighting("n1", 1, 5, 5.1), sighting("n2", 6, 7), False),
        (sighting("n1", 1, 5, 5.1), sighting("n2", 5.05, 7), True),  # between two samples
        (sighting("n1", 1, 5, 5.1), sighting("n2", 5.05, 7, home=OTHER), False),
        (sighting("n1", 1, 5), sighting("n2", 2, 3), True),
        # The end of the first may have been noticed late, and its node did not take long to start it again.
        (sighting("n1", 1, 5, 5.1), sighting("n1", 5.05, 7), False),
        (sighting("n1", 1, 5, 5.1), sighting("n1", 4.9, 7), True),
    ],
)
def test_overlaps(earlier: Sighting, later: Sighting, violated: bool) -> None:
    for order in ([earlier, later], [later, earlier]):
        assert violations(order) == ([(earlier, later)] if violated else [])
