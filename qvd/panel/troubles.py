# -*- test-case-name: tests.panel.test_home -*-
"""What is wrong in the farm now: lists of the API, each with a filter that only finds what needs somebody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from attrs import field, frozen

from qvd.panel.texts import N_, Viewer
from qvd.panel.visit import Visit, together

SHOWN = 5
DOCTOR = "/doctor"


@frozen
class Look:
    """Where something may be wrong.

    @ivar one: what is said of one object; C{many}: of several.
    @ivar advice: what to do.
    @ivar detail: field that says more about an object.
    @ivar bad: something does not work; else something may soon not work.
    """

    collection: str
    filters: Mapping[str, str]
    one: str
    many: str
    advice: str
    known_by: str = "name"
    detail: str = ""
    bad: bool = True


@frozen
class Trouble:
    """Something that is wrong.

    @ivar objects: the first ones: text, detail and path.
    @ivar path: of the list with all of them.
    """

    look: Look
    total: int
    path: str
    objects: Sequence[tuple[str, str, str]] = field(factory=tuple)

    def title(self, viewer: Viewer) -> str:
        """In the viewer's language."""
        words = viewer.text(self.look.one if self.total == 1 else self.look.many)
        return words % {"number": viewer.number(self.total)}


LOOKS = (
    Look(
        "hosts",
        {"state": "lost"},
        N_("%(number)s node is lost"),
        N_("%(number)s nodes are lost"),
        N_("It gives no sign of life: look at the machine, or declare it dead so that its VMs start elsewhere."),
    ),
    Look(
        "vms",
        {"failures[gt]": "0"},
        N_("%(number)s VM could not start"),
        N_("%(number)s VMs could not start"),
        N_("Open it to read why, and what each node said."),
        detail="last_error",
    ),
    Look(
        "vms",
        {"state": "zombie"},
        N_("%(number)s VM neither runs nor ends"),
        N_("%(number)s VMs neither run nor end"),
        N_("Stop it by force; if that does not help, its node needs a look."),
        detail="detail",
    ),
    Look(
        "images",
        {"state": "fail"},
        N_("%(number)s disk image failed"),
        N_("%(number)s disk images failed"),
        N_("Read why, delete it, and make it anew."),
        known_by="version",
        detail="message",
    ),
    Look(
        "jobs",
        {"state[in]": "failed,partial"},
        N_("%(number)s job failed"),
        N_("%(number)s jobs failed"),
        N_("Read its log; what is left over can be tried again."),
        known_by="kind",
        bad=False,
    ),
    Look(
        "hosts",
        {"memory_pressure[gt]": "40"},
        N_("%(number)s node is short of memory"),
        N_("%(number)s nodes are short of memory"),
        N_("Block it for new VMs, or add memory or nodes."),
        bad=False,
    ),
)


async def troubles(visit: Visit) -> Sequence[Trouble]:
    """Those that the caller may see, what does not work first."""
    looks = [look for look in LOOKS if visit.may("GET", f"/{look.collection}")]
    replies = await together(*(look_at(visit, look) for look in looks))
    found = []
    for look, reply in zip(looks, replies, strict=True):
        # Who may not filter by that field gets a problem, and is not told of troubles of that kind.
        if reply.ok and reply.body["items"]:
            path = f"/panel/{look.collection}"
            objects = [told(look, item) for item in reply.body["items"]]
            total = int(reply.body["page"]["total"])
            found.append(Trouble(look, total, f"{path}?{urlencode(look.filters)}", objects))
    return sorted(found, key=lambda each: not each.look.bad)


async def look_at(visit: Visit, look: Look) -> Any:
    return await visit.api("GET", f"/{look.collection}", {**look.filters, "limit": str(SHOWN), "sort": "-id"})


def told(look: Look, item: Mapping[str, Any]) -> tuple[str, str, str]:
    name = str(item.get(look.known_by) or item["id"])
    return name, str(item.get(look.detail) or ""), f"/panel/{look.collection}/{item['id']}"
