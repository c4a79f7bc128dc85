# -*- test-case-name: tests.panel.test_doctor_screen -*-
"""What the doctor says of the installation: what is wrong, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.admin.call import Answer
from qvd.panel.segments import segment
from qvd.panel.site import Panel, Route
from qvd.panel.texts import N_
from qvd.panel.visit import Visit

DOCTOR = "/panel/doctor"
RESULTS = (N_("failure"), N_("warning"), N_("note"), N_("ok"), N_("not-applicable"))
"""The worst first."""
BAD = frozenset({"failure", "warning"})


def doctor(panel: Panel) -> Sequence[Route]:
    """The page. The first page shows of it what is bad, as soon as it is there: a look takes a while."""
    return [Route("GET", DOCTOR, show)]


async def show(visit: Visit) -> Answer:
    if not visit.may("GET", "/doctor"):
        segment("")
    report = await visit.get("/doctor")
    findings = sorted(report["findings"], key=lambda each: RESULTS.index(each["result"]))
    return visit.page(
        "doctor.html",
        report=report,
        bad=[each for each in findings if each["result"] in BAD],
        others=[each for each in findings if each["result"] not in BAD],
        done="",
    )
