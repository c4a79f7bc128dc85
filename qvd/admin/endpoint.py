# -*- test-case-name: tests.admin.test_matrix -*-
"""One operation of the API, declared: what it is called with, who may call it, what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from qvd.model.declared import Principal, Resource

if TYPE_CHECKING:
    from qvd.admin.call import Answer, Call

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@frozen
class Need:
    """Who may call an operation. Whether the object is in reach is another question.

    @ivar any_of: ACLs, any of which is enough; empty: whoever is logged in.
    @ivar public: nobody has to be logged in.
    @ivar superadmin: only administrators over all tenants, where there are several.
    """

    any_of: tuple[str, ...] = ()
    public: bool = False
    superadmin: bool = False

    def is_met(self, principal: Principal | None) -> bool:
        if self.public:
            return True
        if principal is None:
            return False
        if self.superadmin and principal.multitenant and not principal.superadmin:
            return False
        return not self.any_of or principal.holds(*self.any_of)


PUBLIC, LOGGED_IN = Need(public=True), Need()


def acl(*names: str, superadmin: bool = False) -> Need:
    """Whoever holds any of them."""
    return Need(names, superadmin=superadmin)


@frozen
class Parameter:
    """One of the query string.

    @ivar schema: JSON schema.
    @ivar repeats: it may be given several times.
    """

    name: str
    schema: Mapping[str, Any]
    text: str
    repeats: bool = False


@frozen(kw_only=True)
class Endpoint:
    """An operation.

    @ivar path: below C{/api/v1}, with parameters in braces: C{/vms/{id}/start}. One that is called C{id} or ends in
        C{_id} is a whole number.
    @ivar action: its stable name: C{vm.start}. In the audit trail and in C{x-qvd-action}.
    @ivar body: a msgspec type that the JSON body is checked against; L{None}: there is none.
    @ivar answers: by status, the msgspec type (or a JSON schema, as a mapping) of the answer's body; L{None}: empty.
    @ivar parameters: of the query string; others are refused, unless C{open_query}.
    @ivar open_query: the query string holds filters too, which the handler checks.
    @ivar filtered: the resource whose fields these filters are about; for the description alone.
    @ivar produces: media type of what is answered.
    @ivar audited: it changes something: one row in the audit trail for each call, whatever becomes of it.
    @ivar dangerous: the password must have been given lately.
    @ivar if_match: C{If-Match} is needed.
    @ivar told_once: the answer holds a secret, so it is not kept for a request that is sent again.
    @ivar early: may be called before a one-time secret is replaced.
    @ivar streamed: the handler reads the body itself.
    """

    method: str
    path: str
    action: str
    need: Need
    handler: Callable[[Call], Awaitable[Answer]]
    summary: str
    body: Any = None
    media: str = "application/json"
    answers: Mapping[int, Any] = field(factory=lambda: {204: None})
    parameters: tuple[Parameter, ...] = ()
    open_query: bool = False
    filtered: Resource | None = None
    produces: str = "application/json"
    audited: bool = field()
    dangerous: bool = False
    if_match: bool = False
    streamed: bool = False
    told_once: bool = False
    early: bool = False
    tag: str = ""

    @audited.default
    def _audited(self) -> bool:
        return self.method in UNSAFE

    @property
    def route(self) -> str:
        """What the authorisation matrix calls it."""
        return f"{self.method} {self.path}"


class Operations(Protocol):
    """Operations of something that is no collection of objects."""

    def __init__(self, peers: Any) -> None:
        """@param peers: all collections by name."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
