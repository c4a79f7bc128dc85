# -*- test-case-name: tests.panel.test_skeleton -*-
"""Problems of the API as pages: what happened, and what to do."""

from __future__ import annotations

from qvd.admin.call import Answer
from qvd.panel.calls import Reply
from qvd.panel.texts import N_
from qvd.panel.visit import Visit

ADVICE = {
    "not-found": N_("It may have been deleted, or the address is mistyped. Go back to the list, or search for it."),
    "forbidden": N_("Ask whoever gave you your account for the permission that is named above."),
    "superadmin-only": N_("Ask an administrator over all tenants."),
    "csrf": N_("The form is older than your session. Go back, load the page again, and send it once more."),
    "too-many-requests": N_("Wait for the time that is named above, then load the page again."),
    "database-unavailable": N_("This passes in most cases. Wait a moment, then load the page again."),
    "unavailable": N_("This passes in most cases. Wait a moment, then load the page again."),
    "unknown-filter": N_("The address names a filter that this list does not have. Open the list from the menu."),
    "malformed-request": N_("The address is not one that this page understands. Open the page from the menu."),
    "internal": N_("Tell whoever runs the service the number of the request below: its log has the details."),
}


def advice(kind: str) -> str:
    """What to do, in English; empty: the problem says it all."""
    return ADVICE.get(kind, "")


def problem_page(visit: Visit, reply: Reply) -> Answer:
    """Tell it."""
    return visit.page("problem.html", reply.status, problem=reply, advice=advice(reply.kind))
