# -*- test-case-name: tests.panel.test_texts -*-
"""
What people read, in their language; dates and numbers as they write them.

English is in the code, and is the key of the others, which are in C{locale} as gettext's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.resources import files
from io import BytesIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import field, frozen
from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LANGUAGES = ("en", "es")
REGIONS = {"en": "en_GB", "es": "es_ES"}
"""Where nobody says which."""
MOST_ACCEPTED = 20
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def N_(text: str) -> str:
    """Marks a text for translators that is translated elsewhere."""
    return text


@cache
def catalogue(language: str) -> Mapping[str, str | tuple[str, ...]]:
    """All texts of a language, by the English ones."""
    found: dict[str, str | tuple[str, ...]] = {}
    folder = files("qvd.panel") / "locale" / language
    if not folder.is_dir():
        return found
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".po"):
            found |= messages(file.read_bytes())
    return found


def messages(content: bytes) -> Mapping[str, str | tuple[str, ...]]:
    """Those of one file."""
    found: dict[str, str | tuple[str, ...]] = {}
    for message in read_po(BytesIO(content)):
        if message.id and not message.fuzzy:
            key = message.id if isinstance(message.id, str) else message.id[0]
            found[key] = message.string if isinstance(message.string, str) else tuple(message.string or ())
    return found


@frozen
class Viewer:
    """Who reads.

    @ivar language: of the texts. C{locale}: of dates and numbers.
    """

    language: str = "en"
    locale: Locale = field(factory=lambda: Locale.parse(REGIONS["en"]))
    zone: tzinfo = UTC

    def text(self, english: str) -> str:
        """In the language."""
        found = catalogue(self.language).get(english) or english
        return found if isinstance(found, str) else found[0]

    def plural(self, one: str, many: str, number: int) -> str:
        """English and Spanish both have two forms, and the same rule."""
        found = catalogue(self.language).get(one)
        if isinstance(found, tuple) and len(found) == 2:
            return found[0] if number == 1 else found[1]
        return one if number == 1 else many

    def when(self, moment: str | datetime | None) -> str:
        """A moment in the viewer's zone; what is none, such as a condition that somebody typed, as it is."""
        if moment is None or moment == "":
            return ""
        try:
            read = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
            return str(format_datetime(read, "medium", tzinfo=self.zone, locale=self.locale))
        except (ValueError, OverflowError):
            return str(moment)

    def number(self, value: float) -> str:
        """With the separators of the locale."""
        return str(format_decimal(value, locale=self.locale))

    def size(self, value: float) -> str:
        """Bytes, in a unit that is read easily."""
        size, unit = float(value), UNITS[0]
        for unit in UNITS:
            if abs(size) < 1024 or unit == UNITS[-1]:
                break
            size /= 1024
        return f"{format_decimal(round(size, 1), locale=self.locale)} {unit}"


def viewer_of(language: str, accepted: str, zone: str) -> Viewer:
    """@param language: that the account chose: C{auto}, or one of ours.
    @param accepted: the browser's C{Accept-Language}.
    @param zone: as in the tz database; empty: UTC.
    """
    tags = list(accepted_tags(accepted))
    chosen = language if language in LANGUAGES else next((tag[:2] for tag in tags if tag[:2] in LANGUAGES), "en")
    region = next((tag for tag in tags if tag[:2] == chosen and len(tag) > 2), REGIONS[chosen])
    return Viewer(chosen, locale_of(region, REGIONS[chosen]), zone_of(zone))


def accepted_tags(header: str) -> Iterable[str]:
    """Languages of the header, those that are wanted most first (RFC 9110, section 12.5.4)."""
    found: list[tuple[float, str]] = []
    for part in header[:1000].split(",")[:MOST_ACCEPTED]:
        tag, _, weight = part.partition(";")
        text = weight.strip().removeprefix("q=")
        try:
            found.append((-float(text) if text else -1.0, tag.strip().lower()))
        except ValueError:
            continue
    return [tag for _, tag in sorted(found, key=lambda each: each[0]) if tag]


def locale_of(tag: str, otherwise: str) -> Locale:
    """That of a tag such as C{es-mx}."""
    try:
        return Locale.parse(tag.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale.parse(otherwise)


def zone_of(name: str) -> tzinfo:
    """The zone of that name, or UTC."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def languages_named() -> Sequence[tuple[str, str]]:
    """For choices: code, and the name that its speakers give it."""
    return [(code, str(Locale(code).get_display_name(code)).capitalize()) for code in LANGUAGES]
