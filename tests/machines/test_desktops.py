"""A whole desktop in a container: through the L7R with nxproxy, seen on pixels, typed into, and home kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.integration.farm import Farm, display, eventually
from tests.integration.screen import look, xdotool
from tests.machines.containers import grant_ids
from tests.machines.machinefarm import machine_farm, stop
from tests.rig.images import desktop_image

pytestmark = [pytest.mark.private]

PATIENCE = 300.0
"""Seconds for a virtual machine without a processor's help, on a busy machine."""
REACTION = 60.0
"""Seconds for a desktop that is up to do something."""
MENU, MENU_TERMINAL = (25, 563), (55, 332)
"""Places on a screen of 1024 by 768, of which the desktop takes three quarters: icewm's menu, and its first entry."""
TERMINAL_PIXELS = 50_000
COLOR = 0x306090
TERMINAL = f"xterm -geometry 100x30+0+0 -bg '#{COLOR:06x}' &"
TIMES = {"hkd.timeout.start": PATIENCE, "l7r.timeout.x_start": 60.0, "hkd.watch.failures": 30}


class Seat:
    """A user at a screen, with the real client."""

    def __init__(self, farm: Farm, screen: str) -> None:
        self.farm = farm
        self.screen = screen
        self.vm_id = farm.credentials["vm_id"]
        self.process = farm.run_client("connect", "--vm", str(self.vm_id), environment={"DISPLAY": screen})
        eventually(self.connected, f"a session; {farm.log[-1000:]}", PATIENCE)
        eventually(lambda: len(look(screen).colors) > 8, "a desktop on the screen", PATIENCE)

    def connected(self) -> bool:
        assert self.process.poll() is None, (self.process.communicate(), self.farm.log[-3000:])
        return bool(self.farm.rows("SELECT 1 AS one FROM sessions WHERE state = 'connected'"))

    def say(self, line: str) -> None:
        """Type a line into what has the keyboard: the terminal, under the pointer."""
        xdotool(self.screen, "type", "--delay", "30", line)
        xdotool(self.screen, "key", "Return")

    def open_terminal(self) -> None:
        """By the window manager's menu. Again and again: it may not be there yet."""
        before = look(self.screen).pixels

        def opened() -> bool:
            for x, y in (MENU, MENU_TERMINAL):
                xdotool(self.screen, "mousemove", str(x), str(y), "click", "1")
                time.sleep(1)
            now = look(self.screen).pixels
            return sum(one != other for one, other in zip(before, now, strict=True)) > TERMINAL_PIXELS

        eventually(opened, "a terminal", REACTION)

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
    eventually(lambda: first.sees(COLOR), "what was typed has happened", REACTION)
    first.leave()
    stop(farm, first.vm_id)
    second = Seat(farm, screen)
    second.open_terminal()
    second.say("grep -q kept kept && " + TERMINAL)
    eventually(lambda: second.sees(COLOR), "the home is there again", REACTION)
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
