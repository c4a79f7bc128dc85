"""What is said of an image that cannot be started from."""

from __future__ import annotations

import pytest
from attrs import evolve

from qvd.model.ids import DIId
from qvd.model.images import DIState, Image, Resolution, wrong_type

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


def test_an_image_of_another_type_than_the_osf_runs_is_refused() -> None:
    resolution = Resolution("desk", "default", evolve(IMAGE, type="kvm"), "lxc")
    assert resolution.refusal == (
        "The disk image '2026-01' of 'desk', to which the tag 'default' leads, is made for kvm,"
        " but the virtual machines of 'desk' run under lxc"
    )
    assert resolution.needs == "lxc"


@pytest.mark.parametrize(("kind", "hypervisor"), [(None, "lxc"), ("lxc", None), ("lxc", "lxc"), (None, None)])
def test_what_is_not_known_is_no_contradiction(kind: str | None, hypervisor: str | None) -> None:
    assert wrong_type("It", kind, "desk", hypervisor) is None
    assert Resolution("desk", "default", evolve(IMAGE, type=kind), hypervisor).refusal is None


def test_the_images_type_is_the_driver_that_is_needed_where_the_osf_names_none() -> None:
    assert Resolution("desk", "default", evolve(IMAGE, type="kvm")).needs == "kvm"
    assert Resolution("desk", "default", IMAGE).needs is None
    assert Resolution("desk", "default", None).needs is None


def test_a_node_of_another_driver_refuses_it() -> None:
    resolution = Resolution("desk", "default", evolve(IMAGE, type="kvm"))
    refusal = resolution.refusal_on("lxc")
    assert refusal is not None
    assert refusal.endswith("is made for kvm, but this node runs lxc")
    assert resolution.refusal_on("kvm") is None
    assert resolution.refusal_on(None) is None
    assert Resolution("desk", "default", IMAGE).refusal_on("lxc") is None
