"""What is said of an image that cannot be started from."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.model.ids import DIId
from qvd.model.images import DIState, Image, Resolution

IMAGE = Image(DIId(4), "2026-01", "desk", DIState.PUBLISHED, blocked=False)


def refusal(image: Image | None) -> str | None:
    return Resolution("desk", "default", image).refusal


def test_a_published_image_is_started_from() -> None:
    assert refusal(IMAGE) is None


def test_a_tag_that_leads_nowhere() -> None:
    assert refusal(None) == "No disk image of 'desk' carries the tag 'default'"


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("state", [state for state in DIState if state is not DIState.PUBLISHED])
def test_no_other_state_is_startable(state: DIState, blocked: bool) -> None:
    assert refusal(evolve(IMAGE, state=state, blocked=blocked)) not in (None, "")


@pytest.mark.parametrize(
    ("image", "end"),
    [
        (evolve(IMAGE, blocked=True), "is blocked by an administrator"),
        (evolve(IMAGE, state=DIState.UPLOADING), "is not published yet"),
        (evolve(IMAGE, state=DIState.RETIRED), "is not in use any more"),
        (evolve(IMAGE, state=DIState.FAIL), "could not be made"),
    ],
)
def test_the_sentence_names_image_and_tag(image: Image, end: str) -> None:
    assert refusal(image) == f"The disk image '2026-01' of 'desk', to which the tag 'default' leads, {end}"
