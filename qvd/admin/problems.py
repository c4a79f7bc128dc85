# -*- test-case-name: tests.admin.test_users -*-
"""What goes wrong, as C{application/problem+json} (RFC 9457), with QVD's stable numbers beside the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from qvd.model import errors


@frozen
class Kind:
    """@ivar code: number of QVD 4.2, or one of ours from 9000 on."""

    status: int
    code: int
    title: str


KINDS: Mapping[str, Kind] = {
    "internal": Kind(500, 1100, "Unexpected failure of the service"),
    "partial-failure": Kind(200, 1200, "Done for some objects, failed for others"),
    "nothing-matched": Kind(404, 1300, "Nothing matches"),
    "database-unavailable": Kind(503, 2100, "The database cannot be reached"),
    "unavailable": Kind(503, 9030, "It cannot be done now"),
    "insufficient-storage": Kind(507, 9031, "There is no room left in the storage"),
    "staging-file-not-found": Kind(404, 2240, "There is no such file in the staging folder"),
    "upload-failed": Kind(400, 2250, "The upload failed"),
    "credentials-required": Kind(401, 3100, "Credentials are needed"),
    "invalid-credentials": Kind(401, 3200, "The credentials are not valid"),
    "session-expired": Kind(401, 3300, "The session has expired"),
    "otp-required": Kind(401, 9001, "A one-time code is needed"),
    "reauthentication-required": Kind(403, 9002, "The password must be given again"),
    "tenant-blocked": Kind(403, 3500, "The tenant is blocked"),
    "csrf": Kind(403, 9003, "The request does not come from a page of this site"),
    "account-locked": Kind(423, 9004, "Too many failures; the account waits"),
    "unknown-operation": Kind(404, 4100, "There is no such operation"),
    "method-not-allowed": Kind(405, 9005, "The resource does not know that method"),
    "not-acceptable": Kind(406, 9006, "There is no such representation"),
    "not-found": Kind(404, 9007, "There is no such object"),
    "forbidden": Kind(403, 4210, "The operation is not permitted"),
    "forbidden-filter": Kind(403, 4220, "The filter is not permitted"),
    "forbidden-attribute": Kind(403, 4230, "The attribute is not permitted"),
    "forbidden-field": Kind(403, 4250, "The field is not permitted"),
    "forbidden-sort": Kind(403, 4260, "The order is not permitted"),
    "superadmin-only": Kind(403, 7212, "Only administrators over all tenants may do that"),
    "invalid-user-state": Kind(409, 5110, "The user's state does not allow it"),
    "invalid-vm-state": Kind(409, 5130, "The VM's state does not allow it"),
    "no-host-available": Kind(503, 5140, "No node can take the VM"),
    "own-account": Kind(409, 5200, "The own account cannot be deleted"),
    "malformed-request": Kind(400, 6100, "The request cannot be understood"),
    "unknown-filter": Kind(400, 6210, "There is no such filter"),
    "unknown-attribute": Kind(422, 6230, "There is no such attribute"),
    "missing-attribute": Kind(422, 6240, "An attribute is missing"),
    "unknown-field": Kind(400, 6250, "There is no such field"),
    "invalid-value": Kind(422, 6310, "A value is not valid"),
    "invalid-filter": Kind(400, 6320, "A filter is not valid"),
    "invalid-sort": Kind(400, 6610, "The order is not valid"),
    "reference-not-found": Kind(422, 7110, "A referred object does not exist"),
    "has-dependents": Kind(409, 7120, "Other objects depend on it"),
    "already-exists": Kind(409, 7200, "An equal object exists"),
    "already-assigned": Kind(409, 7220, "It is assigned already"),
    "tenant-mismatch": Kind(422, 7300, "The objects belong to different tenants"),
    "vm-running": Kind(409, 7310, "The VM is running"),
    "image-in-use": Kind(409, 7320, "VMs run from this image"),
    "host-running": Kind(409, 7321, "The node is running"),
    "tag-fixed": Kind(409, 7330, "The tag is fixed on another image"),
    "tag-protected": Kind(409, 7340, "The tag cannot be removed"),
    "role-cycle": Kind(409, 7350, "Roles would inherit each other in a circle"),
    "fixed-role": Kind(409, 9008, "The role comes with the product and stays as it is"),
    "grants-more": Kind(403, 9009, "Nobody grants what they do not hold"),
    "invalid-expiration": Kind(422, 7360, "The soft date comes after the hard one"),
    "several-tenants": Kind(409, 7373, "There are several tenants"),
    "not-overridable": Kind(422, 7382, "The key cannot be set there"),
    "conflict": Kind(409, 9010, "The object's state does not allow it"),
    "precondition-failed": Kind(412, 9011, "The object has changed meanwhile"),
    "precondition-required": Kind(428, 9012, "The version that is meant must be named"),
    "payload-too-large": Kind(413, 9013, "The request is too large"),
    "unsupported-media-type": Kind(415, 9014, "The body is of a kind that is not understood"),
    "idempotency-mismatch": Kind(422, 9015, "The key was used for another request"),
    "too-many-requests": Kind(429, 9016, "Too many requests"),
    "offset-mismatch": Kind(409, 9017, "The upload goes on elsewhere"),
    "password-change-required": Kind(403, 9019, "The password must be changed first"),
    "forbidden-address": Kind(422, 9018, "The address is not allowed"),
}


@frozen
class Fault:
    """What is wrong at one place of the request.

    @ivar pointer: JSON pointer into the body, or the name of a parameter.
    """

    pointer: str
    detail: str
    code: str = "invalid-value"

    def document(self) -> dict[str, Any]:
        return {"pointer": self.pointer, "code": self.code, "detail": self.detail}


class Problem(Exception):
    """Ends a call with a problem.

    @param kind: a name of L{KINDS}.
    @param detail: one sentence for the person who called.
    @param more: further members of the document; none of them may tell what the caller may not know.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = faults
        self.headers = dict(headers or {})
        self.more = more

    @property
    def status(self) -> int:
        return KINDS[self.kind].status

    def document(self, request_id: str, instance: str) -> dict[str, Any]:
        """@param instance: path of the call."""
        known = KINDS[self.kind]
        document: dict[str, Any] = {
            "type": f"/problems/{self.kind}",
            "title": known.title,
            "status": known.status,
            "code": known.code,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        }
        if self.faults:
            document["errors"] = [fault.document() for fault in self.faults]
        return document | self.more


def not_found(what: str = "object") -> Problem:
    """Absent, or none of the caller's business: the answer is the same."""
    return Problem("not-found", f"There is no such {what}")


def problem_of(error: errors.QVDError) -> Problem:
    """What a service of ours said, as a problem."""
    match error:
        case errors.DatabaseUnavailable():
            return Problem("database-unavailable", error.text, headers={"Retry-After": str(error.retry_after or 2)})
        case errors.Unavailable():
            return Problem("unavailable", error.text, headers={"Retry-After": str(error.retry_after or 5)})
        case errors.NotFound():
            return Problem("not-found", error.text)
        case errors.Conflict():
            return Problem("conflict", error.text)
        case errors.Forbidden():
            return Problem("forbidden", error.text)
        case errors.AuthenticationFailed():
            return Problem("invalid-credentials", error.text)
        case errors.InvalidRequest():
            return Problem("invalid-value", error.text)
        case errors.DeadlineExceeded():
            return Problem("unavailable", error.text, headers={"Retry-After": "5"})
        case _:
            return Problem("internal", "The service failed; its log has the details under the request's id")
