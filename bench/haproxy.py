"""HAProxy with one thread, as the yardstick: it terminates TLS and relays, or holds idle connections."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.children import Child, free_port

CONFIG = """\
global
    nbthread 1
    maxconn 4000
defaults
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-request 300s
frontend clients
    mode {mode}
    bind 127.0.0.1:{port} ssl crt {pem} ssl-min-ver TLSv1.2
    default_backend guests
backend guests
    mode {mode}
    server guest 127.0.0.1:{backend}
"""


def installed() -> str | None:
    """Where it is, if it is."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def start(program: str, folder: Path, backend: int, idle: bool = False) -> Child:
    """Run it.

    @param folder: holds C{cert.pem} and C{key.pem}; the configuration is written there.
    @param idle: wait for an HTTP request, without a connection to the backend, instead of relaying.
    """
    pem, config, port = folder / "haproxy.pem", folder / "haproxy.cfg", free_port()
    pem.touch(mode=0o600)
    pem.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    config.write_text(CONFIG.format(mode="http" if idle else "tcp", port=port, pem=pem, backend=backend))
    return Child([program, "-db", "-f", str(config)], port)
