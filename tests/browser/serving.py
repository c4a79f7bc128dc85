"""The whole administration daemon, in a process of its own, for a browser."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from psycopg2.extensions import parse_dsn

from qvd.demo.installation import AdminProcess, write_conf
from qvd.demo.tls import make_certificates


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Serving:
    """C{twistd qvd-admin} over a database.

    @param dsn: of the database.
    @param folder: gets its files.
    @ivar origin: what the browser dials.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        self.folder, address = folder, parse_dsn(dsn)
        make_certificates(folder / "tls")
        for name in ("images", "staging"):
            (folder / name).mkdir()
        port = free_port()
        self.origin = f"https://localhost:{port}"
        write_conf(
            folder / "admin.conf",
            {
                "database.host": address["host"],
                "database.port": int(address.get("port", 5432)),
                "database.name": address["dbname"],
                "admin.address": "127.0.0.1",
                "admin.port": port,
                "admin.tls.cert": str(folder / "tls" / "cert.pem"),
                "admin.tls.key": str(folder / "tls" / "key.pem"),
                "path.storage.images": str(folder / "images"),
                "path.storage.staging": str(folder / "staging"),
            },
        )
        self._process = AdminProcess(folder)

    def await_ready(self) -> None:
        self._process.await_ready()

    def stop(self) -> None:
        self._process.stop()

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "admin.log").read_text()


def spoken(value: object) -> str:
    """A value as a script's literal."""
    return json.dumps(value)
