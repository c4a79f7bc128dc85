# -*- test-case-name: tests.panel.test_skeleton -*-
"""Templates to pages. Whatever is put into one is escaped, and what it lacks is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qvd.panel.files import StaticFiles
from qvd.panel.navigation import menus
from qvd.panel.texts import LANGUAGES, Viewer, languages_named

if TYPE_CHECKING:
    from qvd.panel.visit import Visit


class Renderer:
    """One environment for each language, so that a template's texts are looked up in it."""

    def __init__(self, static: StaticFiles) -> None:
        self.environments = {language: environment(language, static) for language in LANGUAGES}

    def render(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        """A page for somebody."""
        viewer = visit.viewer
        made = self.environments[viewer.language].get_template(template)
        common = {
            "visit": visit,
            "viewer": viewer,
            "session": visit.session,
            "csrf": visit.session.get("csrf_token") or "",
            "theme": visit.me.get("theme") or "auto",
            "menus": menus(visit),
            "here": visit.request.path.decode("ascii", "replace"),
            "when": viewer.when,
            "number": viewer.number,
            "size": viewer.size,
            # Of a text that is no constant of the template: it is marked where it is written.
            "text": viewer.text,
        }
        return made.render({**common, **values})


def environment(language: str, static: StaticFiles) -> Environment:
    made = Environment(
        loader=PackageLoader("qvd.panel"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    viewer = Viewer(language)
    install: Any = made.install_gettext_callables  # type: ignore[attr-defined]
    install(viewer.text, viewer.plural, newstyle=True)
    made.globals["static"] = static.url
    made.globals["languages"] = languages_named()
    return made
