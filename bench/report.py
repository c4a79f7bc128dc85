"""What a benchmark says: one line of JSON per figure, on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any


def emit(name: str, value: float, unit: str, **extra: Any) -> None:
    """Print one figure.

    @param extra: what the reader must know beside it: the other side's figure, the ratio, counts.
    """
    _print({"name": name, "value": _short(value), "unit": unit, **{key: _short(more) for key, more in extra.items()}})


def emit_beside(name: str, unit: str, ours: float, theirs: float | None, **extra: Any) -> None:
    """Print one figure and HAProxy's, measured in the same run, with the ratio of ours to theirs."""
    if theirs is not None:
        extra = {"haproxy": theirs, "ratio": ours / theirs if theirs else None, **extra}
    emit(name, ours, unit, **extra)


def emit_error(name: str, error: BaseException) -> None:
    """Print that a figure could not be measured, and why."""
    _print({"name": name, "error": f"{type(error).__name__}: {error}"})


def quantiles(name: str, found: list[float]) -> dict[str, float]:
    """Median, 95th and 99th of a hundred, and the worst; milliseconds."""
    found = sorted(found)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    parts = {part: found[int(len(found) * share)] for part, share in at.items()} | {"max": found[-1]}
    return {f"{name}_{part}_ms": round(value, 2) for part, value in parts.items()}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line), file=sys.stdout, flush=True)
