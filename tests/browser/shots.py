"""Pictures of the panel's screens, light, dark and narrow: C{python -m tests.browser.shots [NAME...]}."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from qvd.db import migrate
from tests.browser.farm import Farm
from tests.browser.logins import log_in, log_out
from tests.browser.screens import SCREENS, Screen
from tests.browser.serving import Serving
from tests.browser.window import NARROW, WIDE, Window, driver
from tests.fakes.postgres import RealPostgres

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "screenshots"
"""Git keeps a few of them (C{.gitignore} there)."""
LOOKS = (("light", WIDE, ""), ("dark", WIDE, "-dark"), ("light", NARROW, "-narrow"))


def take(window: Window, farm: Farm, screens: list[Screen]) -> None:
    """Pictures of some screens, in the order of who looks at them."""
    who = ""
    for screen in sorted(screens, key=lambda each: each.who):
        if screen.who != who:
            log_out(window)
            log_in(window, screen.who, "*" if screen.who == "root" else "acme")
            who = screen.who
        for scheme, size, ending in LOOKS:
            window.size(size)
            window.scheme(scheme)
            window.go(screen.at(farm))
            window.rest(0.2)
            window.fit(size)
            window.shoot(FOLDER / f"{screen.name}{ending}.webp")
            print(FOLDER / f"{screen.name}{ending}.webp", flush=True)


def main(names: list[str]) -> None:
    """@param names: of screens; none: all."""
    screens = [each for each in SCREENS if not names or each.name in names]
    server = RealPostgres()
    with tempfile.TemporaryDirectory() as work:
        try:
            server.start()
            dsn = server.make_template("screens")
            migrate.initialize(dsn, login_roles=True)
            farm = Farm(dsn)
            farm.furnish()
            (Path(work) / "admin").mkdir()
            serving = Serving(dsn, Path(work) / "admin")
            try:
                serving.await_ready()
                window = Window(driver(Path(work) / "chromium"), serving.origin)
                try:
                    take(window, farm, screens)
                finally:
                    window.close()
            finally:
                serving.stop()
            farm.close()
        finally:
            server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
