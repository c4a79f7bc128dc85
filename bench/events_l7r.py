"""
Child of L{bench.events}: users of a node, who ask it for their desktops and log in. It reads the names of what is the
case from now on (an empty one: what is not measured), and at its end prints how long they waited in each case.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import quantiles
from tests.integration.farm import Client

LISTS, LOGINS = 0.02, 0.25
"""Seconds from an answer to the next question."""


class Users:
    """One on a connection that is kept, and one who logs in on a new one each time.

    @ivar case: what is measured now.
    @ivar waited: milliseconds, by case and what for.
    """

    def __init__(self, port: int, ca_file: Path, login: str, password: str) -> None:
        self._known = (port, ca_file, login, password)
        self._kept = Client(*self._known)
        self.case = ""
        self.waited: dict[tuple[str, str], list[float]] = {}

    def start(self) -> None:
        for name, work, pause in (("lists", self._list, LISTS), ("logins", self._log_in, LOGINS)):
            threading.Thread(target=self._repeat, args=(name, work, pause), daemon=True).start()

    def tell(self) -> None:
        """Print how long they have waited."""
        for (case, name), each in list(self.waited.items()):
            print(json.dumps({"what": name, "when": case, **quantiles("wait", each), "answers": len(each)}))

    def _repeat(self, name: str, work: Callable[[], None], pause: float) -> None:
        try:
            while True:
                case, began = self.case, time.monotonic()
                work()
                if case and case == self.case:
                    self.waited.setdefault((case, name), []).append((time.monotonic() - began) * 1000)
                time.sleep(pause)
        except (OSError, AssertionError, EOFError):
            # Whoever waits for our figures is to notice.
            os._exit(1)

    def _list(self) -> None:
        assert len(self._kept.list()) == 2

    def _log_in(self) -> None:
        with Client(*self._known) as client:
            assert len(client.list()) == 2


def main() -> None:
    users = Users(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    users.start()
    for line in sys.stdin:
        users.case = line.strip()
    users.tell()


if __name__ == "__main__":
    main()
