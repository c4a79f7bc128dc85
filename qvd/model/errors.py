# -*- test-case-name: tests.unit.test_model_errors -*-
"""
Errors with a stable code and a sentence for people.

Each edge (L7R, guest RPC, command line) has one table from L{QVDError.code} to its own status; the text goes
through as it is, so it must neither hold a secret nor a place in the source.
"""

from __future__ import annotations

from typing import ClassVar


class QVDError(Exception):
    """Base of all errors that are meant for a person.

    @ivar code: stable, machine-readable name of the kind of error.
    @ivar text: one sentence: what happened and, where there is something, what to do.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class AuthenticationFailed(QVDError):
    """The credentials are missing, wrong, or belong to someone who is blocked. Never says which."""

    code = "authentication_failed"


class Forbidden(QVDError):
    """The caller is known and may not do this."""

    code = "forbidden"


class NotFound(QVDError):
    """The thing asked for does not exist."""

    code = "not_found"


class Conflict(QVDError):
    """The thing is in a state that does not allow this; the text says which one would."""

    code = "conflict"


class InvalidRequest(QVDError):
    """The request lacks something or holds something that cannot be understood."""

    code = "invalid_request"


class Refused(QVDError):
    """The database refused a write: a constraint.

    @ivar kind: C{unique}, C{reference}, C{dependents}, C{check} or C{limit}.
    @ivar constraint: its name, which tells what it is about.
    """

    code = "refused"

    def __init__(self, text: str, kind: str = "check", constraint: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.constraint = constraint


class DeadlineExceeded(QVDError):
    """Something did not come about in the time it was given."""

    code = "deadline_exceeded"


class Unavailable(QVDError):
    """It cannot be done now.

    @ivar retry_after: seconds after which trying again makes sense, or L{None}.
    """

    code = "unavailable"

    def __init__(self, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database_unavailable"


class SessionLost(QVDError):
    """The session is no longer the VM's current one: a newer client has it, or it was ended."""

    code = "session_lost"


class OwnershipLost(QVDError):
    """A guarded write changed no row: the VM, or the host's lease, is not this node's any more."""

    code = "ownership_lost"


class DriverError(QVDError):
    """A hypervisor driver could not do what it was asked."""

    code = "driver"


class TransientError(DriverError):
    """Trying again may help."""

    code = "driver_transient"


class PermanentError(DriverError):
    """Trying again without a change will not help."""

    code = "driver_permanent"


class GuestError(QVDError):
    """The guest's agent answered with an error, or not at all."""

    code = "guest"


class SettingsError(QVDError):
    """A configuration file or key is wrong; the text names its path."""

    code = "settings"
