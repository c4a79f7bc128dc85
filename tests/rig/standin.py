"""A package that looks like that of the agent, for trees without C{make deb}."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

CONTROL = """\
Package: qvd-vma
Version: 0
Architecture: all
Maintainer: nobody <nobody@localhost>
Depends: nxagent, python3
Description: stands in for the agent
"""
UNIT = "[Service]\nExecStart=/usr/bin/qvd-vma\n[Install]\nWantedBy=multi-user.target\n"


def agent_package(path: Path) -> None:
    """Write it to C{path}."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name, content, mode in (
            ("DEBIAN/control", CONTROL, 0o644),
            ("usr/bin/qvd-vma", "#!/bin/sh\nexec sleep infinity\n", 0o755),
            ("lib/systemd/system/qvd-vma.service", UNIT, 0o644),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
            (root / name).chmod(mode)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", folder, str(path)], check=True, capture_output=True)
