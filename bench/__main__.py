"""C{python -m bench [name...]}: measure all figures, or those whose group is named."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

from bench.children import BenchError
from bench.report import emit_error

MODULES = (
    "bench.relay",
    "bench.l7r",
    "bench.placement",
    "bench.fleet",
    "bench.containers",
    "bench.administration",
    "bench.events",
)
"""Each has C{FIGURES}: a name, and a function that measures and emits."""
DEADLINE = 300
"""Seconds for one function."""
FAILURES = (AssertionError, BenchError, OSError, RuntimeError, subprocess.SubprocessError, ValueError)


def expired(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"not done in {DEADLINE} s")


def measure(name: str, figure: Callable[[], None]) -> bool:
    """One function of one module; False when it failed, which does not keep the others from being measured."""
    signal.alarm(DEADLINE)
    try:
        figure()
    except FAILURES as error:
        emit_error(name, error)
        return False
    finally:
        signal.alarm(0)
    return True


def main(names: list[str]) -> int:
    signal.signal(signal.SIGALRM, expired)
    figures = {name: figure for module in MODULES for name, figure in importlib.import_module(module).FIGURES.items()}
    unknown = sorted(set(names) - set(figures))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are: {', '.join(figures)}", file=sys.stderr)
        return 2
    results = [measure(name, figures[name]) for name in names or figures]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
