"""All operations of logins and of the own account."""

from __future__ import annotations

from collections.abc import Sequence

from qvd.admin.endpoint import Endpoint
from qvd.admin.login import auth, info, me, mfa, tokens


def login_endpoints() -> Sequence[Endpoint]:
    """In one list."""
    return [*info.endpoints(), *auth.endpoints(), *me.endpoints(), *tokens.endpoints(), *mfa.endpoints()]
