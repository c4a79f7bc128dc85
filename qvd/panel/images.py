# -*- test-case-name: tests.panel.test_images_screen -*-
"""Images: making one of a file (sent, staged, or fetched), and its life: tags, publication, affected VMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit, together

IMAGES = "/panel/images"
MOST = {"limit": "500", "sort": "name", "fields": "id,name"}
UNMOVED = "head"
"""A tag that follows the newest image by itself."""
WORDS = {
    "publish": N_("Publish"),
    "unpublish": N_("Unpublish"),
    "retire": N_("Retire"),
    "rollback": N_("Roll back"),
    "block": N_("Block"),
    "unblock": N_("Unblock"),
}
HARMS = frozenset({"unpublish", "retire", "rollback"})
DONE = {
    "made": N_("The image is being made: this page follows it."),
    "tag": N_("The tag leads here now."),
    "untag": N_("The tag is taken away."),
    "dates": N_("The VMs have got their dates."),
    **dict.fromkeys(WORDS, N_("It is done.")),
}
UNFINISHED = frozenset({N_("new"), N_("generating"), N_("uploading"), N_("verifying")})
ENDED = (N_("ready"), N_("published"), N_("retired"), N_("fail"))
"""The other states, for their words."""


def images(panel: Panel) -> Sequence[Route]:
    """The pages."""
    life = f"{IMAGES}/<id>/life"
    return [
        Route("GET", f"{IMAGES}/new", show_new),
        Route("POST", f"{IMAGES}/new", make),
        Route("GET", life, show),
        Route("POST", f"{life}/tag", put_tag),
        Route("POST", f"{life}/untag", drop_tag),
        Route("POST", f"{life}/<verb>", act),
    ]


async def show_new(visit: Visit) -> Answer:
    return await new_page(visit, None)


async def new_page(visit: Visit, problem: Reply | None) -> Answer:
    """One form for each place that a file can come from."""
    osfs, staged = await together(visit.api("GET", "/osfs", MOST), staging(visit))
    return visit.page(
        "image_new.html",
        200 if problem is None else problem.status,
        osfs=osfs.body["items"] if osfs.ok else [],
        osf=visit.form.one("osf_id") or visit.query.one("osf_id"),
        staged=staged.body["items"] if staged.ok else [],
        holds=visit.acls,
        form=visit.form,
        problem=problem,
        done="",
    )


async def staging(visit: Visit) -> Reply:
    """Files that are there to be made images of."""
    return await visit.api("GET", "/staging") if visit.may("GET", "/staging") else Reply(403, None)


async def make(visit: Visit) -> Answer:
    """Of a staged file, or of one that the service fetches. Files are sent by a script (C{upload.js})."""
    form = visit.form
    source: dict[str, Any] = {"type": form.one("source")}
    for name in {"staging": ("file",), "url": ("url", "checksum")}.get(form.one("source"), ()):
        if form.one(name).strip():
            source[name] = form.one(name).strip()
    body: dict[str, Any] = {"osf_id": int(form.one("osf_id") or 0), "source": source}
    for name in ("version", "description"):
        if form.one(name).strip():
            body[name] = form.one(name).strip()
    if tags := form.one("tags").replace(",", " ").split():
        body["tags"] = tags
    for name in ("default", "auto_publish"):
        if form.one(name):
            body[name] = True
    reply = await visit.api("POST", "/images", None, body)
    if not reply.ok:
        return await new_page(visit, reply)
    return visit.go(f"{IMAGES}/{reply.body['image']['id']}/life", {"done": "made"})


async def show(visit: Visit) -> Answer:
    return await life_page(visit, None)


async def life_page(visit: Visit, problem: Reply | None) -> Answer:
    """Where the image is in its life, its tags, and what would come of a change."""
    path = f"/images/{segment(visit.path['id'])}"
    image: Mapping[str, Any] = await visit.get(path, {"include": "actions"})
    asked = visit.query.one("operation")
    affected = None
    if asked and visit.may("GET", "/images/{id}/affected-vms"):
        affected = await visit.api("GET", f"{path}/affected-vms", {"operation": asked})
    tags = await visit.api("GET", f"/osfs/{image['osf_id']}/tags") if "osf_id" in image else None
    unfinished = image["state"] in UNFINISHED
    return visit.page(
        "image_life.html",
        200 if problem is None else problem.status,
        image=image,
        actions=[verb for verb in WORDS if verb in image["_actions"]],
        words=WORDS,
        harms=HARMS,
        others=other_tags(image, tags),
        unmoved=UNMOVED,
        asked=asked,
        affected=affected.body if affected is not None and affected.ok else None,
        refused=affected if affected is not None and not affected.ok else None,
        may_tag=visit.may("PUT", "/images/{id}/tags/{tag}"),
        unfinished=unfinished,
        topics=f"di:{image['id']}" if unfinished else "",
        problem=problem,
        done=DONE.get(visit.query.one("done"), ""),
    )


def other_tags(image: Mapping[str, Any], tags: Reply | None) -> Sequence[Mapping[str, Any]]:
    """Tags of the OSF that lead elsewhere and can be moved."""
    if tags is None or not tags.ok:
        return []
    return [tag for tag in tags.body["items"] if tag["image_id"] != image["id"] and not tag["fixed"]]


async def put_tag(visit: Visit) -> Answer:
    """Have a tag lead to it. Who has not seen which VMs that touches is shown it first."""
    image, tag = segment(visit.path["id"]), segment(visit.form.one("tag").strip())
    if visit.form.one("sure") != "yes" and visit.may("GET", "/images/{id}/affected-vms"):
        return visit.go(f"{IMAGES}/{image}/life", {"operation": f"tag:{tag}"})
    reply = await visit.api("PUT", f"/images/{image}/tags/{tag}")
    return await after(visit, reply, "tag")


async def drop_tag(visit: Visit) -> Answer:
    path = f"/images/{segment(visit.path['id'])}/tags/{segment(visit.form.one('tag'))}"
    return await after(visit, await visit.api("DELETE", path), "untag")


async def act(visit: Visit) -> Answer:
    """Publish, block and so on."""
    image, verb = segment(visit.path["id"]), visit.path["verb"]
    if verb not in WORDS:
        segment("")
    if verb == "publish" and visit.form.one("sure") != "yes" and visit.may("GET", "/images/{id}/affected-vms"):
        return visit.go(f"{IMAGES}/{image}/life", {"operation": "publish"})
    body: dict[str, Any] | None = {} if verb == "publish" else None
    return await after(visit, await visit.api("POST", f"/images/{image}/{verb}", None, body), verb)


async def after(visit: Visit, reply: Reply, done: str) -> Answer:
    if not reply.ok:
        return await life_page(visit, reply)
    return visit.go(f"{IMAGES}/{visit.path['id']}/life", {"done": done})
