"""Addresses from a real C{dnsmasq}, asked for by a real client."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import evolve, frozen

from tests.conftest import require
from tests.integration.farm import eventually
from tests.machines import dhcpdaemon
from tests.machines.packetnet import BRIDGE, FIRST, POLICY, SECOND, Network, Place

pytestmark = [pytest.mark.private, pytest.mark.network]

PATIENCE = 20
SAY = '#!/bin/sh\n[ "$1" = bound ] && echo "$ip/$mask via ${router:-nothing} dns ${dns:-nothing}"\nexit 0\n'
"""For C{udhcpc}: what it was given."""


@pytest.fixture(scope="module")
def cables() -> Iterator[Network]:
    require("dnsmasq", "setpriv", "busybox", "ip", "nft")
    made = Network()
    yield made
    made.close()


@pytest.fixture
def folder(cables: Network, tmp_path: Path) -> Path:
    """A run folder that others may enter. The filters are there, too."""
    cables.filter(evolve(POLICY, dhcp=True))
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    return tmp_path / "run"


@frozen
class Daemon:
    """One that gives addresses."""

    process: subprocess.Popen[str]

    def tell(self, *places: tuple[str, str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(places) + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[Daemon]:
    words = [sys.executable, "-m", dhcpdaemon.__name__, BRIDGE, str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
    try:
        yield Daemon(process)
    finally:
        process.kill()
        process.wait()
        eventually(lambda: dnsmasqs() == [], "no dnsmasq left", PATIENCE)


def dnsmasqs() -> Sequence[int]:
    """Those that run in this world."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "comm").read_text() == "dnsmasq\n" and (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def ask(place: Place, folder: Path) -> str:
    """What a machine is given; nothing: no lease."""
    script = folder.parent / "say"
    script.write_text(SAY)
    script.chmod(0o755)
    there = ["nsenter", f"--net=/run/netns/{place.namespace}"]
    client = ["busybox", "udhcpc", "-i", "eth0", "-s", str(script), "-n", "-q", "-f", "-t", "2", "-T", "1"]
    done = subprocess.run([*there, *client], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout.strip()


def given(address: str) -> str:
    return f"{address}/16 via 10.88.0.1 dns 10.88.0.9"


def answered(place: Place, folder: Path, address: str) -> Callable[[], bool]:
    return lambda: ask(place, folder) == given(address)


def test_each_gets_its_own_and_strangers_get_none(folder: Path) -> None:
    with daemon(folder) as running:
        running.tell((FIRST.mac, FIRST.address))
        eventually(answered(FIRST, folder, FIRST.address), "the first lease", PATIENCE)
        assert ask(SECOND, folder) == ""
        running.tell((FIRST.mac, FIRST.address), (SECOND.mac, SECOND.address))
        eventually(answered(SECOND, folder, SECOND.address), "the second lease", PATIENCE)
        assert ask(FIRST, folder) == given(FIRST.address)
        running.stop()
        assert dnsmasqs() == []


def test_an_address_that_goes_to_another_vm(folder: Path) -> None:
    with daemon(folder) as running:
        running.tell((FIRST.mac, FIRST.address))
        eventually(answered(FIRST, folder, FIRST.address), "the first lease", PATIENCE)
        running.tell((SECOND.mac, FIRST.address))
        eventually(answered(SECOND, folder, FIRST.address), "the same for the second", PATIENCE)


def test_it_is_not_root(folder: Path) -> None:
    with daemon(folder):
        eventually(dnsmasqs, "one that runs", PATIENCE)
        eventually(lambda: status(dnsmasqs()[0], "CapEff") == "0000000000003400", "its few rights", PATIENCE)
        assert "0" not in status(dnsmasqs()[0], "Uid").split()


def status(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:"))


def test_one_that_dies_is_started_again(folder: Path) -> None:
    with daemon(folder) as running:
        running.tell((FIRST.mac, FIRST.address))
        eventually(answered(FIRST, folder, FIRST.address), "a lease", PATIENCE)
        (before,) = dnsmasqs()
        subprocess.run(["kill", "-KILL", str(before)], check=True)
        eventually(lambda: dnsmasqs() not in ([], [before]), "another one", PATIENCE)
        eventually(answered(FIRST, folder, FIRST.address), "a lease", PATIENCE)


def test_a_daemon_that_is_killed_leaves_none(folder: Path) -> None:
    with daemon(folder) as running:
        eventually(dnsmasqs, "one that runs", PATIENCE)
        running.process.kill()
        eventually(lambda: dnsmasqs() == [], "it to be gone", PATIENCE)


def test_a_successor_takes_over(folder: Path) -> None:
    """There is never more than one, and it gives what the successor says when the other has let go."""
    with daemon(folder) as running:
        running.tell((FIRST.mac, FIRST.address))
        eventually(answered(FIRST, folder, FIRST.address), "a lease", PATIENCE)
        with daemon(folder) as successor:
            successor.tell((SECOND.mac, SECOND.address))
            (before,) = dnsmasqs()
            assert ask(SECOND, folder) == ""
            running.stop()
            eventually(answered(SECOND, folder, SECOND.address), "a lease by the successor", PATIENCE)
            assert before not in dnsmasqs()
            assert len(dnsmasqs()) == 1
