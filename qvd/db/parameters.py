# -*- test-case-name: tests.unit.test_hkd_configured -*-
"""What a daemon's settings say about the database."""

from __future__ import annotations

from qvd.model.settings import Settings


def database_parameters(settings: Settings) -> dict[str, object]:
    """What libpq needs to know."""
    parameters: dict[str, object] = {
        "host": settings.text("database.host"),
        "port": settings.number("database.port"),
        "dbname": settings.text("database.name"),
        "user": settings.text("database.user"),
    }
    password = settings.secret("database.password").reveal()
    if password:
        parameters["password"] = password
    return parameters
