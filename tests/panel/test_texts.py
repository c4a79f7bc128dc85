"""Every text that people read is there in every language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir

from qvd.admin.api import all_endpoints
from qvd.admin.problems import KINDS
from qvd.panel.texts import LANGUAGES, catalogue, viewer_of
from qvd.panel.words import declared_texts

PANEL = Path(__file__).resolve().parents[2] / "qvd" / "panel"
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2")]
OPTIONS = {"**/templates/**.html": {"trimmed": "true", "silent": "false"}}
KEYWORDS = {"N_": None, "_": None, "gettext": None, "ngettext": (1, 2), "text": None}
PLACES = re.compile(r"%\((\w+)\)s|%\(\w+\)d|\{\w+\}")


def written() -> Iterator[str]:
    """The texts of templates and code, in English."""
    for _, _, message, _, _ in extract_from_dir(PANEL, METHODS, OPTIONS, KEYWORDS):
        yield message if isinstance(message, str) else message[0]


def needed() -> set[str]:
    """All texts that may be looked up."""
    return {*written(), *(kind.title for kind in KINDS.values()), *declared_texts(all_endpoints())}


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_every_text_is_there(language: str) -> None:
    missing = sorted(text for text in needed() if not catalogue(language).get(text))
    assert missing == []


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_translations_have_the_same_places(language: str) -> None:
    for english, translated in catalogue(language).items():
        for each in [translated] if isinstance(translated, str) else translated:
            assert sorted(PLACES.findall(each)) == sorted(PLACES.findall(english)), english


@pytest.mark.parametrize(
    "chosen, accepted, language, locale",
    [
        ("auto", "", "en", "en_GB"),
        ("auto", "es-MX,en;q=0.5", "es", "es_MX"),
        ("auto", "fr,es;q=0.8,en-US;q=0.9", "en", "en_US"),
        ("es", "en-US", "es", "es_ES"),
        ("default", "de", "en", "en_GB"),
        ("auto", "es-notacountry;q=x, ;;;,*", "en", "en_GB"),
        ("auto", "es-zzzzzzzzzzzzzzzzz", "es", "es"),
    ],
)
def test_who_reads(chosen: str, accepted: str, language: str, locale: str) -> None:
    viewer = viewer_of(chosen, accepted, "")
    assert (viewer.language, str(viewer.locale)) == (language, locale)


def test_dates_and_numbers() -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert viewer_of("en", "", "Europe/Madrid").when(moment) == "1 Mar 2026, 13:30:00"
    assert viewer_of("es", "", "").when(moment.isoformat()) == "1 mar 2026, 12:30:00"
    assert viewer_of("es", "", "nowhere/at/all").when(None) == ""
    assert viewer_of("es", "", "").number(1234567.5) == "1.234.567,5"
    assert viewer_of("en", "", "").size(8 << 30) == "8 GiB"
