# -*- test-case-name: tests.admin.test_users,tests.admin.test_replies -*-
"""
Each call of the API takes this way, and no other: who is it, may they, is it well formed, was it answered before; then
the operation; then the audit trail, whatever became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from qvd.admin.call import Answer, Call, as_id
from qvd.admin.endpoint import UNSAFE, Endpoint
from qvd.admin.problems import Problem, not_found, problem_of
from qvd.admin.schema import decoder
from qvd.admin.services import Services
from qvd.interfaces import ITransaction
from qvd.model.errors import QVDError

Keep = Callable[[Any, ITransaction], Awaitable[None]]
LONGEST_KEY = 200


@frozen
class Dispatcher:
    """@ivar services: what handlers, and the gate before them, work with."""

    services: Services
    log = Logger()

    async def dispatch(self, call: Call, raw: bytes) -> Answer:
        """Answer a call. Every failure is an answer as well.

        @param raw: the body.
        """
        return await self._answer(call, self._permitted(call, raw))

    async def repeat(self, call: Call, raw: bytes) -> Answer:
        """Answer one of the calls that a call over many objects, or a job, is made of: who calls is known, and has
        shown that the call comes from them. All else is checked as ever."""
        return await self._answer(call, self._checked(call, raw))

    async def _answer(self, call: Call, answering: Awaitable[Answer]) -> Answer:
        problem: Problem | None = None
        try:
            return await answering
        except CancelledError:
            # Whoever waited for the answer has gone: a job that is given up. What was begun is undone.
            raise
        except Problem as error:
            problem = error
        except QVDError as error:
            problem = problem_of(error)
            if problem.kind == "internal":
                self.log.failure("request {request} failed", request=call.request_id)
        except Exception:  # noqa: BLE001  whatever it is, the caller gets an answer
            self.log.failure("request {request} failed", request=call.request_id)
            problem = Problem("internal", "The service failed; its log has the details under the request's id")
        await self._record(call, problem)
        return answer_of(call, problem)

    async def _permitted(self, call: Call, raw: bytes) -> Answer:
        endpoint = call.endpoint
        await self._identify(call)
        if call.caller is not None and endpoint.method in UNSAFE and not endpoint.need.public:
            self.services.gate.check_origin(call)
        if call.caller is not None and call.caller.must_change_password and not endpoint.early:
            raise Problem("password-change-required", "Replace your one-time secret: PUT /api/v1/me/password")
        return await self._checked(call, raw)

    async def _checked(self, call: Call, raw: bytes) -> Answer:
        endpoint = call.endpoint
        if not endpoint.need.is_met(call.caller):
            raise refusal(endpoint, call)
        if endpoint.dangerous and not call.principal.fresh:
            raise Problem("reauthentication-required", "Give your password again (POST /api/v1/auth/reauthenticate)")
        check_path(call)
        check_query(call)
        if not endpoint.streamed:
            call.body = read_body(call, raw)
        if endpoint.if_match and "if-match" not in call.headers:
            raise Problem("precondition-required", "Name the version that you mean: If-Match, or If-Match: *")
        return await self._once(call, raw)

    async def _identify(self, call: Call) -> None:
        """Who calls. Whoever shows nothing, or nothing that is valid, may not do that as often as they like either.

        Where everybody may, a session that is over makes nobody worse off than having none: without that, a browser
        that kept the cookie could not log in again.
        """
        refused: Problem | None = None
        try:
            call.caller = await self.services.gate.identify(call)
        except Problem as problem:
            refused = None if call.endpoint.need.public and problem.status == 401 else problem
        await self.services.throttle.admit(call)
        if refused is not None:
            raise refused
        if call.caller is None and not call.endpoint.need.public:
            raise Problem("credentials-required", "Log in first", headers={"WWW-Authenticate": "Bearer"})

    async def _once(self, call: Call, raw: bytes) -> Answer:
        """Where the caller gave the request a key: not a second time."""
        key = call.headers.get("idempotency-key", "")
        if not key or call.method != "POST" or call.caller is None or call.endpoint.streamed:
            return await self._answered(call)
        if len(key) > LONGEST_KEY:
            raise Problem("malformed-request", f"Idempotency-Key has more than {LONGEST_KEY} characters")
        if not key.isprintable():
            raise Problem("malformed-request", "Idempotency-Key holds what cannot be printed")
        # A token may see less than its owner: what was answered to one of the two is not told to the other.
        of = call.caller.session if call.caller.by_token else ""
        digest = hashlib.sha256(f"{of} {call.method} {call.uri}\n".encode() + raw).digest()
        kept = await self._kept(call, key, digest)
        if kept is not None:
            return kept
        keep = self.services.replies.keeper(call.caller, key, digest)
        call.keep = told_already(call, keep) if call.endpoint.told_once else keep
        try:
            return await self._answered(call)
        except (Problem, QVDError):
            # The same request, sent twice at a time, was answered meanwhile: that may be why this one fails.
            kept = await self._kept(call, key, digest)
            if kept is None:
                raise
            return kept

    async def _kept(self, call: Call, key: str, digest: bytes) -> Answer | None:
        kept: Answer | None = await self.services.replies.find(call.principal, key, digest)
        # What was done has its row in the audit trail.
        call.recorded = call.recorded or kept is not None
        return kept

    async def _answered(self, call: Call) -> Answer:
        answer = await call.endpoint.handler(call)
        if call.endpoint.audited and not call.recorded:
            await self.services.changes.record(call.entry("done"))
        return answer

    async def _record(self, call: Call, problem: Problem) -> None:
        """What was refused or failed is in the trail as well. Reading is not, whatever becomes of it."""
        if not call.endpoint.audited or call.recorded:
            return
        outcome = "denied" if problem.status in (401, 403, 404, 423, 429) else "failed"
        try:
            await self.services.changes.record(call.entry(outcome, problem))
        except QVDError as error:
            self.log.error(
                "request {request}: no row in the audit trail: {error}", request=call.request_id, error=error.text
            )
        except Exception:  # noqa: BLE001  the refusal is to be told all the same
            self.log.failure("request {request}: no row in the audit trail", request=call.request_id)


def told_already(call: Call, keep: Keep) -> Keep:
    """In the place of an answer with a secret in it, keeps that it was given."""

    async def kept(result: Any, tx: ITransaction) -> None:
        await keep(answer_of(call, Problem("conflict", "It is done; the answer held a secret, which is told once")), tx)

    return kept


def refusal(endpoint: Endpoint, call: Call) -> Problem:
    """Why somebody who is logged in may not call it."""
    need = endpoint.need
    if need.superadmin and call.principal.multitenant and not call.principal.superadmin:
        return (
            not_found("operation")
            if hides(endpoint)
            else Problem("superadmin-only", "Only administrators over all tenants may do that")
        )
    names = ", ".join(need.any_of)
    return Problem("forbidden", f"You need the permission {' or '.join(need.any_of)}", acl=names)


def hides(endpoint: Endpoint) -> bool:
    """Whoever belongs to a tenant does not learn that there are tenants."""
    return endpoint.path.startswith("/tenants")


def check_path(call: Call) -> None:
    """@raise Problem: what should be an id is none, so nothing has it."""
    for name, value in call.path.items():
        is_id = name == "id" or name.endswith("_id")
        if is_id and as_id(value) is None:
            raise not_found()
        if "\0" in value:
            raise not_found()


def check_query(call: Call) -> None:
    """@raise Problem: a parameter that there is not, or a text that the database cannot hold."""
    known = {each.name: each for each in call.endpoint.parameters}
    for name, values in call.query.items():
        if any("\0" in value for value in values):
            raise Problem("malformed-request", f"The parameter {name} holds the character NUL")
        if name not in known and not call.endpoint.open_query:
            raise Problem("unknown-filter", f"There is no parameter {name!r} here")


def read_body(call: Call, raw: bytes) -> Any:
    """The body, checked against its type."""
    endpoint = call.endpoint
    if endpoint.body is None:
        if raw.strip() not in (b"", b"{}"):
            raise Problem("malformed-request", "This operation takes no body")
        return None
    media = call.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media not in ("application/json", endpoint.media):
        raise Problem("unsupported-media-type", f"The body must be {endpoint.media}, not {media}")
    return decoder(endpoint.body)(raw or b"{}")


def answer_of(call: Call, problem: Problem) -> Answer:
    """A problem as an answer."""
    document = problem.document(call.request_id, call.uri.partition("?")[0])
    return Answer(problem.status, document, problem.headers, "application/problem+json")
