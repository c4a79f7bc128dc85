"""On the demo the doctor finds nothing to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import require
from tests.integration.test_demo import DemoProcess, program

__all__ = ["program"]


def test_the_demo_is_clean(tmp_path: Path, program: Path) -> None:
    require("bwrap", "nxagent")
    folder = tmp_path / "demo"
    demo = DemoProcess(folder, program)
    try:
        words = [str(Path(sys.executable).with_name("qvd-doctor")), "--demo", str(folder), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    finally:
        demo.stop()
    document = json.loads(done.stdout)
    assert [each for each in document["findings"] if each["result"] not in ("ok", "not-applicable")] == []
    assert document["counts"]["ok"] > 40
    assert done.returncode == 0 and done.stderr == ""
