# -*- test-case-name: tests.panel.test_images_screen -*-
"""Parts of the API's paths that people write, or that forms hold."""

from __future__ import annotations

from qvd.panel.calls import Reply
from qvd.panel.texts import N_
from qvd.panel.visit import Refused

TITLE = N_("There is no such object")


def segment(text: str) -> str:
    """One part of a path.

    @raise Refused: nothing is called so, since it would be several.
    """
    if not text or "/" in text:
        raise Refused(Reply(404, {"type": "/problems/not-found", "title": TITLE, "detail": ""}))
    return text
