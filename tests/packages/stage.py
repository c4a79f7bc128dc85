"""Run in a private world: boots a Debian with systemd from an archive, beside a PostgreSQL that it can reach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from qvd.demo.postgres import EmbeddedPostgres

ROOT, POSTGRES = Path("/tmp/root"), Path("/tmp/pg")
OTHERS = ("lxc", "lxc-net", "lxc-monitord")
"""Units of other packages, which want networks."""


def main(archive: str, *packages: str) -> int:
    (ROOT / "srv/dist").mkdir(parents=True)
    subprocess.run(["tar", "-x", "-f", archive, "-C", str(ROOT)], check=True)
    for package in packages:
        shutil.copy(package, ROOT / "srv/dist")
    for unit in OTHERS:
        (ROOT / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
    (ROOT / "srv/pg").mkdir()
    server = EmbeddedPostgres(POSTGRES)
    server.start()
    server.create_database("qvd")
    boot = ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", str(ROOT), "-b"]
    return subprocess.run([*boot, f"--bind={server.socket_folder}:/srv/pg"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
