# -*- test-case-name: tests.admin.test_users,tests.admin.test_hostile -*-
"""One call of an operation, from its request to its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from attrs import define, field, frozen

from qvd.admin.endpoint import Endpoint
from qvd.admin.problems import Problem
from qvd.interfaces import ITransaction
from qvd.interfaces.administration import AuditEntry, IAudit, IChanges
from qvd.model.declared import Principal, Scope

T = TypeVar("T")
SECRET_WORDS = ("password", "secret", "token", "otp", "code", "private_key", "current", "new")
HIDDEN, OMITTED = "***", "..."
TOLD_LEVELS, TOLD_BYTES = 32, 64 * 1024
"""Of what was sent, in the audit trail: a page of that has 500 rows, and all that is deeper than Python's stack was
refused without a row."""
LONGEST_ID, LARGEST_ID = 10, (1 << 31) - 1


@frozen
class Answer:
    """
    @ivar body: what msgspec encodes as JSON; L{None}: none. Bytes go out as they are, with C{media}.
    @ivar stream: writes the body to the request, as long as it takes; cancelled when the client is gone.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(factory=dict)
    media: str = "application/json"
    stream: Callable[[Any], Awaitable[bytes]] | None = field(default=None, eq=False)


@frozen
class Subject:
    """What a change is about, for the audit trail.

    @ivar before: as it was; L{None}: it is new. C{after} likewise: it is gone.
    """

    kind: str
    object_id: int | None = None
    name: str = ""
    tenant_id: int | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@define(kw_only=True)
class Call:
    """What a handler gets.

    @ivar services: what the installation offers (L{qvd.admin.services.Services}).
    @ivar path: parameters of the path, as they are in it.
    @ivar query: parameters of the query string, each a list.
    @ivar body: checked against the operation's type; for one that streams, the open request.
    @ivar headers: by name in lower case.
    @ivar subject: set by the handler, within the transaction.
    @ivar recorded: the audit row is written.
    """

    endpoint: Endpoint
    services: Any
    request_id: str
    client_address: str
    method: str = "GET"
    uri: str = ""
    caller: Principal | None = None
    path: Mapping[str, str] = field(factory=dict)
    query: Mapping[str, Sequence[str]] = field(factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(factory=dict)
    request: Any = None
    subject: Subject | None = None
    recorded: bool = False
    keep: Callable[[Any, ITransaction], Awaitable[None]] | None = None

    @property
    def principal(self) -> Principal:
        """Who calls; there is one wherever the operation is not public."""
        assert self.caller is not None
        return self.caller

    @property
    def scope(self) -> Scope:
        """Whose objects the call is about."""
        return self.principal.scope

    def number(self, name: str = "id") -> int:
        """A whole number of the path."""
        return int(self.path[name])

    def one(self, name: str, default: str = "") -> str:
        """A parameter of the query string that may be given once."""
        values = self.query.get(name, ())
        if len(values) > 1:
            raise Problem("malformed-request", f"The parameter {name} is given {len(values)} times")
        return values[0] if values else default

    async def change(self, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        """Run C{work} in one transaction with the audit row about L{subject}, which it sets."""
        changes: IChanges = self.services.changes
        audit: IAudit = self.services.audit

        async def whole(tx: ITransaction) -> T:
            self.subject = None
            result = await work(tx)
            await audit.append(self.entry("done"), tx)
            if self.keep is not None:
                await self.keep(result, tx)
            return result

        result = await changes.transact(self.endpoint.action, self.cause, whole)
        self.recorded = True
        return result

    @property
    def cause(self) -> str:
        """For the history."""
        who = self.caller.name if self.caller else "somebody"
        return f"{self.endpoint.action} by {who}, request {self.request_id}"

    def entry(self, outcome: str, problem: Problem | None = None) -> AuditEntry:
        """The row of the audit trail about this call."""
        caller, subject = self.caller, self.subject or Subject(self.endpoint.action.partition(".")[0])
        object_id = subject.object_id
        if object_id is None:
            object_id = as_id(self.path.get("id", ""))
        return AuditEntry(
            action=self.endpoint.action,
            outcome=outcome,
            request_id=self.request_id,
            client_address=self.client_address,
            administrator_id=caller.administrator_id if caller else None,
            administrator_name=caller.name if caller else "",
            administrator_tenant_id=caller.tenant_id if caller else None,
            kind=subject.kind,
            object_id=object_id,
            object_name=subject.name,
            object_tenant_id=subject.tenant_id,
            arguments=self.arguments(),
            before=subject.before,
            after=subject.after,
            problem=problem.kind if problem else "",
            status=problem.status if problem else 200,
        )

    def arguments(self) -> Mapping[str, Any]:
        """What was sent, without secrets."""
        # Clients of QVD 4.2 send passwords in the query string: they are refused, and not written down either.
        told = {**self.path, **without_secrets({name: list(values) for name, values in self.query.items()})}
        if self.endpoint.body is not None and not self.endpoint.streamed:
            told["body"] = bounded(without_secrets(plain(self.body)))
        return told


def as_id(text: str) -> int | None:
    """What a path has for an id; L{None}: nothing can have it. Ids are the database's integers."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_ID):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


def is_secret(name: str) -> bool:
    return any(word in name for word in SECRET_WORDS)


def plain(value: Any) -> Any:
    """What msgspec made, as JSON values."""
    return msgspec.to_builtins(value) if value is not None else None


def bounded(value: Any) -> Any:
    """What is not too much to be told."""
    size = len(msgspec.json.encode(value, enc_hook=str))
    return value if size <= TOLD_BYTES else f"{OMITTED} ({size} bytes)"


def holds_text(value: Any) -> bool:
    """Whether it is a text, or a list with one."""
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(each, str) for each in value))


def without_secrets(value: Any, levels: int = TOLD_LEVELS) -> Any:
    """A copy in which what may be a secret is hidden, and what nobody needs so deep is left out."""
    if isinstance(value, Mapping | list) and not levels:
        return OMITTED
    if isinstance(value, Mapping):
        return {
            key: dict.fromkeys(each, HIDDEN)
            # Which of them is a secret, its definition says: what was done with them stands in before and after.
            if key == "properties" and isinstance(each, Mapping)
            else HIDDEN
            if is_secret(key) and holds_text(each)
            else without_secrets(each, levels - 1)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(each, levels - 1) for each in value]
    return value
