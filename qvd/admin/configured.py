# -*- test-case-name: tests.admin.test_server -*-
"""What the settings of the administration mean to its parts."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from qvd.admin.places import ImagePlaces
from qvd.model.errors import SettingsError
from qvd.model.settings import Settings
from qvd.model.settings_admin import parse_admin
from qvd.protocols.adapters.tls import TLSLimits
from qvd.telemetry.numbers import Network, networks_of


def read_settings(path: Path) -> Settings:
    """@raise SettingsError: it cannot be read, or says something wrong."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return parse_admin(document, str(path))


def networks(settings: Settings, key: str) -> Sequence[Network]:
    """Those of a key.

    @raise SettingsError: one of them is none.
    """
    return networks_of(settings.text(key), f"{settings.source}: {key}")


def tls_limits(settings: Settings) -> TLSLimits:
    """What callers may take up."""
    return TLSLimits(
        settings.seconds("admin.timeout.handshake"),
        settings.number("admin.limit.connections"),
        settings.number("admin.limit.connections_per_address"),
    )


def image_places(settings: Settings) -> ImagePlaces:
    """Where image files are.

    @raise SettingsError: a network is none.
    """
    staging = settings.text("path.storage.staging")
    return ImagePlaces(
        images=Path(settings.text("path.storage.images")),
        staging=Path(staging) if staging else None,
        allowed_networks=networks(settings, "admin.import.networks"),
    )
