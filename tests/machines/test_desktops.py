"""A whole desktop per driver: through the L7R with nxproxy, seen on pixels, typed into, and home kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.integration.farm import Farm, display, eventually
from tests.integration.screen import look, xdotool
from tests.machines import kvm_vms
from tests.machines.containers import grant_ids
from tests.machines.machinefarm import machine_farm, stop
from tests.rig.images import desktop_image

pytestmark = [pytest.mark.private]

PATIENCE = 300.0
"""Seconds for a virtual machine without a processor's help, on a busy machine."""
REACTION = 120.0
"""Seconds for a desktop that is up to do something."""
MENU, MENU_TERMINAL = (25, 563), (55, 332)
"""Places on a screen of 1024 by 768, of which the desktop takes three quarters: icewm's menu, and its first entry."""
TERMINAL_PIXELS = 50_000
CALM = 2_000
COLOR = 0x306090
TERMINAL = f"xterm -geometry 100x30+0+0 -bg '#{COLOR:06x}' &"
TIMES = {"hkd.timeout.start": PATIENCE, "l7r.timeout.x_start": 60.0, "hkd.watch.failures": 30}


def differing(one: list[int], other: list[int]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


class Seat:
    """A user at a screen, with the real client."""

    def __init__(self, farm: Farm, screen: str) -> None:
        self.farm = farm
        self.screen = screen
        self.vm_id = farm.credentials["vm_id"]
        self.process = farm.run_client("connect", "--vm", str(self.vm_id), environment={"DISPLAY": screen})
        self.wait(self.connected, "a session", PATIENCE)
        self.wait(lambda: len(look(screen).colors) > 8, "a desktop on the screen", REACTION)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = REACTION) -> None:
        """Wait for something on the screen; whatever hinders it is told."""

        def alive() -> bool:
            assert self.process.poll() is None, f"the client ended: {self.process.communicate()}"
            return bool(condition())

        try:
            eventually(alive, what, seconds)
        except AssertionError as error:
            self.process.kill()
            raise AssertionError(f"{error}\n{self.process.communicate()}\n{self.farm.log[-6000:]}") from None

    def connected(self) -> bool:
        return bool(self.farm.rows("SELECT 1 AS one FROM sessions WHERE state = 'connected'"))

    def calm_down(self, seconds: int = 2) -> None:
        """Wait until the screen has not changed for that long, but for a clock and a meter of load."""
        seen = deque([look(self.screen).pixels] * seconds, maxlen=seconds)

        def is_calm() -> bool:
            time.sleep(1)
            now = look(self.screen).pixels
            calm = all(differing(now, each) < CALM for each in seen)
            seen.append(now)
            return calm

        time.sleep(seconds)
        self.wait(is_calm, "a screen that is complete")

    def open_terminal(self) -> None:
        """By the window manager's menu. Again, when nothing comes of it: it may not have been ready."""
        self.calm_down()
        before = look(self.screen).pixels

        def opened() -> bool:
            for place in (MENU, MENU_TERMINAL):
                xdotool(self.screen, "mousemove", *map(str, place), "click", "1")
                self.calm_down()
            return differing(before, look(self.screen).pixels) > TERMINAL_PIXELS

        self.wait(opened, "a terminal")
        # A second one may be on its way, and would take the keyboard in the middle of a line.
        self.calm_down(5)

    def say(self, line: str) -> None:
        """Type a line into what has the keyboard: the terminal, under the pointer."""
        xdotool(self.screen, "type", "--delay", "30", line)
        xdotool(self.screen, "key", "Return")

    def sees(self, color: int) -> bool:
        return look(self.screen).colors[color] > 10_000

    def leave(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)
        eventually(
            lambda: not self.farm.rows("SELECT 1 AS one FROM sessions WHERE ended_at IS NULL"), "the session ended", 60
        )


def work(farm: Farm, screen: str) -> None:
    """Use the desktop, stop the machine, and find everything again."""
    first = Seat(farm, screen)
    first.open_terminal()
    first.say("echo kept > kept; " + TERMINAL)
    first.wait(lambda: first.sees(COLOR), "what was typed has happened")
    first.leave()
    stop(farm, first.vm_id)
    second = Seat(farm, screen)
    second.open_terminal()
    second.say("grep -q kept kept && " + TERMINAL)
    second.wait(lambda: second.sees(COLOR), "the home is there again")
    second.leave()


@pytest.fixture
def screen() -> Iterator[str]:
    require("Xvfb", "xwd", "xdotool", "nxproxy")
    with display() as made:
        yield made


@pytest.mark.lxc
@pytest.mark.desktop("lxc")
def test_a_desktop_in_a_container(tmp_path: Path, screen: str) -> None:
    require("lxc-start", "nft")
    grant_ids()
    with machine_farm(tmp_path, "lxc", desktop_image("lxc"), 512 << 20, TIMES) as farm:
        work(farm, screen)
        home = farm.folder / "homes/1" / str(farm.credentials["vm_id"]) / "alice"
        assert (home / "kept").read_text() == "kept\n"


@pytest.mark.kvm
@pytest.mark.desktop("kvm")
def test_a_desktop_in_a_virtual_machine(screen: str) -> None:
    require("nft", "dnsmasq")
    kvm_vms.prepare_world()
    with kvm_vms.short_folder() as folder, kvm_vms.short_folder() as place:
        libvirt = kvm_vms.Libvirt(place)
        libvirt.start()
        settings = {
            **TIMES,
            "vm.kvm.uri": libvirt.uri,
            "vm.kvm.virt_type": "qemu",
            "vm.kvm.user_storage": 256 << 20,
        }
        with machine_farm(folder, "kvm", desktop_image("kvm"), 768 << 20, settings) as farm:
            work(farm, screen)
            assert (farm.folder / "homes/1" / f"{farm.credentials['vm_id']}.qcow2").exists()
        libvirt.kill()
