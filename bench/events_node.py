"""How late the reactor of a node has been, of which it tells itself (C{/metrics})."""

from __future__ import annotations

import re
import ssl
import urllib.request
from pathlib import Path

NAME = "qvd_reactor_lag_seconds"
BUCKET = re.compile(rf'^{NAME}_bucket{{le="([^"]+)"}} (\S+)$', re.MULTILINE)
TOTAL = re.compile(rf"^{NAME}_sum (\S+)$", re.MULTILINE)


class NodeWatch:
    """Asks a node."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self._url = f"https://localhost:{port}/metrics"
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._total, self._counts = self._read()

    def lag(self) -> dict[str, float]:
        """Since the last time: the mean, and limits that are not passed in 99 of 100 cases, and in all."""
        total, counts = self._read()
        seen = {limit: count - self._counts[limit] for limit, count in counts.items()}
        looks = max(seen.values())
        mean = (total - self._total) / looks if looks else 0.0
        self._total, self._counts = total, counts
        within = {share: min(limit for limit, count in seen.items() if count >= share * looks) for share in (0.99, 1.0)}
        return {
            "lag_mean_ms": mean * 1000,
            "lag_p99_ms_at_most": within[0.99] * 1000,
            "lag_max_ms_at_most": within[1.0] * 1000,
            "looks": looks,
        }

    def _read(self) -> tuple[float, dict[float, float]]:
        with urllib.request.urlopen(self._url, timeout=20, context=self._context) as answer:
            text = answer.read().decode()
        found = TOTAL.search(text)
        assert found is not None, text
        return float(found[1]), {float(limit): float(count) for limit, count in BUCKET.findall(text)}
