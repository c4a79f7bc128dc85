# -*- test-case-name: tests.admin.test_login,tests.admin.test_tokens -*-
"""
Who calls: by the cookie of a session, or by a token in C{Authorization}.

Nothing is remembered between calls: whoever is blocked, or loses a session or a role, is refused from then on.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from attrs import evolve, frozen

from qvd.admin.call import Call
from qvd.admin.login.proofs import csrf_of, digest, read_cookie
from qvd.admin.problems import Problem
from qvd.interfaces.administration import IAuthority
from qvd.interfaces.logins import DANGEROUS, ILoginPolicy, ILogins, Known
from qvd.model.declared import SUPERTENANT, Principal
from qvd.model.secret import Secret

CHALLENGE = {"WWW-Authenticate": "Bearer"}
LONGEST_TOKEN = 200


@frozen
class SessionGate:
    """L{qvd.admin.services.Gate} by sessions and tokens.

    @ivar origins: of pages, besides the server's own, that may call: C{https://panel.example}.
    """

    logins: ILogins
    authority: IAuthority
    policy: ILoginPolicy
    origins: frozenset[str] = frozenset()

    async def identify(self, call: Call) -> Principal | None:
        return await self._identify(call, used=True)

    async def recheck(self, call: Call) -> Principal | None:
        """The same again, for a connection that stays open: that is no use, which would keep the session alive."""
        return await self._identify(call, used=False)

    async def _identify(self, call: Call, used: bool) -> Principal | None:
        # Whoever logs in may do it with an old cookie, too.
        if call.endpoint.need.public:
            return None
        header = call.headers.get("authorization", "")
        if header:
            return await self._by_token(header, used)
        session = read_cookie(call.headers.get("cookie", ""))
        return None if session is None else await self._by_session(session, used)

    def check_origin(self, call: Call) -> None:
        if call.principal.by_token:
            return
        self.check_site(call)
        session = read_cookie(call.headers.get("cookie", ""))
        given = call.headers.get("x-csrf-token", "")
        if session is None or not hmac.compare_digest(given.encode("utf-8", "replace"), csrf_of(session).encode()):
            raise Problem("csrf", "Send the session's csrf_token as X-CSRF-Token")

    def check_site(self, call: Call) -> None:
        """@raise Problem: a browser says that a page of another site sends this."""
        origin = call.headers.get("origin")
        if origin in self.origins:
            return
        if origin is not None and not is_own(origin, call.headers.get("host", "")):
            raise Problem("csrf", "Pages of other sites may not call this")
        if call.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Problem("csrf", "Pages of other sites may not call this")

    async def _by_token(self, header: str, used: bool) -> Principal:
        scheme, _, text = header.partition(" ")
        token = Secret(text.strip())
        if scheme.lower() != "bearer" or not 0 < len(token.reveal()) <= LONGEST_TOKEN:
            raise Problem("invalid-credentials", "Authorization must be Bearer, with a token", headers=CHALLENGE)
        found = digest(token)
        known = await self.logins.token(found)
        if known is None:
            raise Problem("invalid-credentials", "There is no such token", headers=CHALLENGE)
        if DANGEROUS in (known.scopes or ()):
            known = evolve(known, fresh=await self.policy.dangerous_seconds() > 0)
        return await self._principal(known, found, used)

    async def _by_session(self, session: Secret, used: bool) -> Principal:
        found = digest(session)
        known = await self.logins.session(found, await self.policy.lifetime())
        if known is None:
            raise Problem("session-expired", "The session is over: log in again", headers=CHALLENGE)
        return await self._principal(known, found, used)

    async def _principal(self, known: Known, found: bytes, used: bool) -> Principal:
        """What it may do now."""
        multitenant = await self.policy.multitenant()
        if known.expired:
            what = "session" if known.scopes is None else "token"
            raise Problem("session-expired", f"The {what} is over: log in again", headers=CHALLENGE)
        if not known.usable or (known.tenant_id == SUPERTENANT and not multitenant):
            raise Problem("invalid-credentials", "The account is not in use", headers=CHALLENGE)
        if known.tenant_blocked:
            raise Problem("tenant-blocked", "The tenant is blocked")
        if used and known.stale:
            await self.logins.touch(found)
        acls = await self.authority.acls(known.administrator_id)
        by_token = known.scopes is not None
        return Principal(
            administrator_id=known.administrator_id,
            name=known.name,
            tenant_id=known.tenant_id,
            tenant_name=known.tenant_name,
            superadmin=multitenant and known.tenant_id == SUPERTENANT,
            multitenant=multitenant,
            acls=acls if known.scopes is None else frozenset(acl for acl in acls if covers(known.scopes, acl)),
            session=f"token:{found.hex()}" if by_token else found.hex(),
            by_token=by_token,
            fresh=known.fresh,
            must_change_password=known.must_change_password,
            language=known.language,
            page_size=known.page_size,
        )


def covers(scopes: Sequence[str], acl: str) -> bool:
    """Whether a token's scopes hold an ACL: by its name, or by how it begins, with a star."""
    return any(acl.startswith(scope[:-1]) if scope.endswith("*") else acl == scope for scope in scopes)


def is_own(origin: str, host: str) -> bool:
    """Whether a page of that origin came from here."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or not host:
        return False
    return parts.netloc.lower() == host.lower() or (port in (None, 443) and host.lower() in names_of(parts.hostname))


def names_of(hostname: str | None) -> tuple[str, ...]:
    """How C{Host} may spell a host at the usual port."""
    name = hostname or ""
    name = f"[{name}]" if ":" in name else name
    return name, f"{name}:443"
