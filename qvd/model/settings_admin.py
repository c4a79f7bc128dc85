# -*- test-case-name: tests.unit.test_settings_admin -*-
"""The keys of C{/etc/qvd/admin.conf}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qvd.model.errors import SettingsError
from qvd.model.secret import Secret
from qvd.model.settings import REQUIRED, Key, Settings, parse

ADMIN_KEYS: tuple[Key, ...] = (
    Key("database.host", str, "", "host name, address, or folder of a UNIX socket"),
    Key("database.port", int, 5432, "port", minimum=1),
    Key("database.name", str, "qvd", "name of the database"),
    Key("database.user", str, "qvd_api", "database role of the administration"),
    Key("database.password", Secret, Secret(""), "its password; empty where the server asks none"),
    Key("database.pool.size", int, 8, "connections for queries", minimum=1),
    Key("database.timeout", float, 10.0, "deadline of a transaction, seconds", minimum=0.1),
    Key("admin.address", str, "*", "address that administrators dial; * is all"),
    Key("admin.port", int, 9443, "port that administrators dial; 0 lets the system choose", minimum=0),
    Key("admin.tls.cert", str, REQUIRED, "PEM file: certificate and chain"),
    Key("admin.tls.key", str, REQUIRED, "PEM file: private key, readable by its owner only"),
    Key("admin.metrics.networks", str, "127.0.0.0/8, ::1", "who may read /metrics: networks, with commas"),
    Key("admin.limit.connections", int, 1000, "connections at once", minimum=1),
    Key("admin.limit.connections_per_address", int, 200, "of these, from one address", minimum=1),
    Key("admin.limit.body", int, 1 << 20, "bytes of a request's body, uploads apart", minimum=1024),
    Key("admin.timeout.handshake", float, 10.0, "TLS handshake, seconds", minimum=0.1),
    Key("admin.timeout.idle", float, 60.0, "of a connection on which nothing is said, seconds", minimum=1),
    Key(
        "admin.timeout.request",
        float,
        30.0,
        "from a request's first byte to its last, uploads apart, seconds",
        minimum=1,
    ),
    Key("admin.stop.timeout", float, 15.0, "for an orderly stop of the daemon, seconds", minimum=1),
    Key(
        "admin.import.networks",
        str,
        "",
        "private networks that images may be fetched from by their URL: with commas",
    ),
    Key("path.storage.images", str, "/var/lib/qvd/storage/images", "disk images, shared with the nodes"),
    Key("path.storage.staging", str, "/var/lib/qvd/storage/staging", "files that images are made of; uploads"),
    Key("log.format", str, "text", "of the log: text, or json: one object a line"),
)
FORMATS = ("text", "json")


def parse_admin(table: Mapping[str, Any], source: str) -> Settings:
    """Check C{admin.conf}.

    @raise SettingsError: the sentence names the file and the key.
    """
    settings = parse(table, ADMIN_KEYS, source)
    if settings.text("log.format") not in FORMATS:
        raise SettingsError(f"{source}: log.format: it is {' or '.join(FORMATS)}")
    return settings
