"""How late the reactor of a node has been, of which it tells itself (C{/metrics})."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections import Counter
from pathlib import Path

NAME = "qvd_reactor_lag_seconds"
BUCKET = re.compile(rf'^{NAME}_bucket{{le="([^"]+)"}} (\S+)$', re.MULTILINE)
TOTAL = re.compile(rf"^{NAME}_sum (\S+)$", re.MULTILINE)


class NodeWatch:
    """Asks a node.

    @ivar looks: that the node took at its clock, by what is the case and by the limit that their lateness was within.
    """

    def __init__(self, port: int, ca_file: Path) -> None:
        self._url = f"https://localhost:{port}/metrics"
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._case = ""
        self._before = self._read()
        self.looks: dict[str, Counter[float]] = {}
        self.late: dict[str, float] = {}

    def enter(self, case: str) -> None:
        """Something else is the case from now on; empty: nothing that is measured."""
        late, looks = self._read()
        if self._case:
            self.late[self._case] = self.late.get(self._case, 0.0) + late - self._before[0]
            self.looks.setdefault(self._case, Counter()).update(looks - self._before[1])
        self._case, self._before = case, (late, looks)

    def lag(self, case: str) -> dict[str, float]:
        """The mean, and limits that are not passed in 99 of 100 cases, and in all."""
        looks = self.looks[case]
        number = max(looks.values())
        within = {share: min(limit for limit, count in looks.items() if count >= share * number) for share in (0.99, 1)}
        return {
            "lag_mean_ms": self.late[case] / number * 1000,
            "lag_p99_ms_at_most": within[0.99] * 1000,
            "lag_max_ms_at_most": within[1] * 1000,
            "looks": number,
        }

    def _read(self) -> tuple[float, Counter[float]]:
        with urllib.request.urlopen(self._url, timeout=20, context=self._context) as answer:
            text = answer.read().decode()
        found = TOTAL.search(text)
        assert found is not None, text
        return float(found[1]), Counter({float(limit): int(float(count)) for limit, count in BUCKET.findall(text)})
