"""The private world itself."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

pytestmark = pytest.mark.private


def test_it_has_no_network_but_its_own() -> None:
    """What other tests made is there; none of the machine's devices is."""
    assert "lo" in [name for _, name in socket.if_nameindex()]
    assert list(Path("/sys/class/net").glob("*/device")) == []


def test_the_machines_files_are_there_and_safe() -> None:
    """What lies on the disk is the lower layer of an overlay whose upper one is in memory."""
    assert Path("/proc/mounts").read_text().startswith("world / overlay rw,relatime,lowerdir=/,upperdir=")
    assert Path(__file__).exists()


def test_process_one_is_ours() -> None:
    assert "tests/rig/init.py" in Path("/proc/1/cmdline").read_text()


def test_a_database_can_run_there(database: str) -> None:
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM vms")
        assert cursor.fetchone() == (0,)
