# -*- test-case-name: tests.unit.test_protocols_l7r -*-
"""
What clients ask of the L7R, and what it answers: C{docs/wire/l7r.md}.

Requests go through L{route} first, and through L{connect_request} and its likes only when their sender is known
to be somebody: a stranger learns nothing but that.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from qvd.model.errors import DeadlineExceeded, Forbidden, InvalidRequest, QVDError
from qvd.model.ids import VMId
from qvd.model.records import TokenTerms, VMSummary
from qvd.model.secret import Secret
from qvd.protocols.http1 import RequestHead, encode_interim, encode_response, header_text

UPGRADE = "QVD/1.0"
PING = "/qvd/ping"
LIST_OF_VM = "/qvd/list_of_vm"
LIST_OF_APPLICATIONS = "/qvd/list_of_applications"
AUTHENTICATE_USER = "/qvd/authenticate_user"
CREATE_AUTH_TOKEN = "/qvd/create_auth_token"
STOP_VM = "/qvd/stop_vm"
CONNECT_TO_VM = "/qvd/connect_to_vm"
VM_INFO = "X-QVD-VM-Info"
SLAVE_KEY = "X-QVD-Slave-Key"

CLIENT_PREFIXES = ("qvd.client.", "custom.")
MANDATORY = tuple(f"qvd.client.{name}" for name in ("keyboard", "os", "link", "geometry", "fullscreen"))
"""Without these keys, empty or not, the original agent does not start a session."""

TOKEN_SECONDS = 86400
"""Life of a token, where its request does not ask for less."""

_INTEGER = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_INT4 = range(-(2**31), 2**31)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TEXT = [("Content-Type", "text/plain")]
_JSON = [("Content-Type", "application/json")]
_MAX_NAMED = 5


class Route(Enum):
    """What a request is about."""

    PING = "ping"
    LIST = "list_of_vm"
    LIST_APPLICATIONS = "list_of_applications"
    AUTHENTICATE = "authenticate_user"
    CREATE_TOKEN = "create_auth_token"
    STOP = "stop_vm"
    CONNECT = "connect_to_vm"
    UNKNOWN = "unknown"


_ROUTES = {
    PING: Route.PING,
    LIST_OF_VM: Route.LIST,
    LIST_OF_APPLICATIONS: Route.LIST_APPLICATIONS,
    AUTHENTICATE_USER: Route.AUTHENTICATE,
    CREATE_AUTH_TOKEN: Route.CREATE_TOKEN,
    STOP_VM: Route.STOP,
    CONNECT_TO_VM: Route.CONNECT,
}


class UpgradeRequired(QVDError):
    """C{connect_to_vm} without the headers that announce the switch."""

    code = "upgrade_required"


@frozen
class StopVM:
    """The VM is to be stopped."""

    vm_id: VMId


@frozen
class ConnectToVM:
    """The desktop is wanted.

    @ivar parameters: what the client tells the guest: C{qvd.client.*} and C{custom.*} only.
    """

    vm_id: VMId
    parameters: Mapping[str, str] = field(repr=False)


@frozen
class BasicCredentials:
    """Login and password, the latter perhaps with a one-time code at its end."""

    login: str
    password: Secret


@frozen
class BearerCredentials:
    """A token that was issued to the user."""

    token: Secret


def route(head: RequestHead) -> Route:
    """Look at method and path alone."""
    return _ROUTES.get(head.path, Route.UNKNOWN) if head.method == "GET" else Route.UNKNOWN


def stop_request(head: RequestHead) -> StopVM:
    """@raise InvalidRequest: the id is missing or is none."""
    return StopVM(_vm_id(head))


def connect_request(head: RequestHead) -> ConnectToVM:
    """
    @raise UpgradeRequired: the headers are missing.
    @raise InvalidRequest: the id is missing or is none.
    @raise Forbidden: a parameter that a client cannot set.
    """
    if "upgrade" not in head.tokens("Connection") or UPGRADE.lower() not in head.tokens("Upgrade"):
        raise UpgradeRequired(f"Connecting takes the headers Connection: Upgrade and Upgrade: {UPGRADE}")
    vm_id = _vm_id(head)
    parameters = {key: value for key, value in head.query if key != "id"}
    refused = [key for key in parameters if not key.startswith(CLIENT_PREFIXES)]
    if refused:
        names = ", ".join(header_text(key, 40) for key in refused[:_MAX_NAMED])
        raise Forbidden(f"Invalid parameters {names}{', ...' if len(refused) > _MAX_NAMED else ''}")
    return ConnectToVM(vm_id, parameters)


def token_request(head: RequestHead) -> TokenTerms:
    """@raise InvalidRequest: a parameter is none."""
    multi_use = head.parameters.get("multi_use") or "1"
    seconds = head.parameters.get("seconds") or str(TOKEN_SECONDS)
    if multi_use not in ("0", "1"):
        raise InvalidRequest("parameter multi_use is neither 0 nor 1")
    if not _INTEGER.fullmatch(seconds) or not 1 <= int(seconds) <= TOKEN_SECONDS:
        raise InvalidRequest(f"parameter seconds is not a number from 1 to {TOKEN_SECONDS}")
    return TokenTerms(_vm_id(head) if "id" in head.parameters else None, multi_use == "1", int(seconds))


def _vm_id(head: RequestHead) -> VMId:
    value = head.parameters.get("id")
    if not value:
        raise InvalidRequest("parameter id is missing")
    if not _INTEGER.fullmatch(value) or int(value) not in _INT4:
        raise InvalidRequest("parameter id is not the number of a virtual machine")
    return VMId(int(value))


def fill_mandatory(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """Add those of the keys in L{MANDATORY} that are missing, with empty values."""
    return {**dict.fromkeys(MANDATORY, ""), **parameters}


def credentials(head: RequestHead) -> BasicCredentials | BearerCredentials | None:
    """What the request offers; L{None} when there is nothing, or nothing that can be understood."""
    scheme, _, encoded = (head.header("Authorization") or "").partition(" ")
    text = _decoded(encoded)
    match scheme.lower():
        case "basic":
            login, colon, password = text.partition(":")
            # Control characters are in nobody's login, and a NUL would upset the database.
            if not colon or not login or _CONTROL.search(login):
                return None
            return BasicCredentials(login, Secret(password))
        case "bearer":
            return BearerCredentials(Secret(text)) if text else None
        case _:
            return None


def _decoded(encoded: str) -> str:
    """Text out of base64, which may be broken into lines; empty when it is not base64."""
    try:
        data = b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        return ""
    # The Qt client on Windows sends its own code page, which has bytes without a meaning.
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def split_login(login: str, separators: str, default_tenant: str) -> tuple[str, str]:
    """User and tenant, parted at the first of the separators."""
    at = next((index for index, char in enumerate(login) if char in separators), None)
    if at is None:
        return login.strip(), default_tenant
    return login[:at].strip(), login[at + 1 :].strip()


def progress(text: str) -> bytes:
    """What is going on, while the client waits."""
    return encode_interim(102, [(VM_INFO, header_text(text))])


def switch(slave_key: str) -> bytes:
    """The last of HTTP: what follows is NX."""
    return encode_interim(101, [(SLAVE_KEY, slave_key)])


def pong() -> bytes:
    """The node is well."""
    return encode_response(200, _TEXT, b"I am alive!\r\n")


def stopped() -> bytes:
    """The VM has stopped."""
    return encode_response(200, _TEXT, b"Machine stopped\r\n")


def vm_list(vms: Iterable[VMSummary]) -> bytes:
    """The user's VMs. Ids must be numbers, flags 0 or 1: one client takes anything else for 0."""
    lines = [
        {
            "id": vm.vm_id,
            "state": vm.state.value,
            "name": vm.name,
            "blocked": int(vm.blocked),
            "is_application": int(vm.is_application),
        }
        for vm in vms
    ]
    return _json(lines)


def authenticated() -> bytes:
    """The login is good. No authenticator of ours has parameters to keep for later."""
    return _json({})


def token_issued(token: Secret) -> bytes:
    """The token in the form in which C{Authorization: Bearer} takes it."""
    return _json({"auth_token": b64encode(token.reveal().encode()).decode("ascii")})


def _json(document: object) -> bytes:
    return encode_response(200, _JSON, json.dumps(document).encode("ascii") + b"\n")


_STATUS = {
    "authentication_failed": 401,
    "forbidden": 403,
    "not_found": 404,
    "invalid_request": 422,
    "upgrade_required": 426,
    "internal": 500,
    "settings": 500,
}


def status_of(error: QVDError, asked: Route = Route.CONNECT) -> int:
    """The status for an error. What is in no other class is 503: the VM cannot be had now."""
    if isinstance(error, DeadlineExceeded) and asked is Route.STOP:
        return 408
    return _STATUS.get(error.code, 503)


_EXPLAINED = {
    401: [("WWW-Authenticate", 'Basic realm="QVD"')],
    426: [("Connection", "Upgrade"), ("Upgrade", UPGRADE)],
}


def error_reply(status: int, text: str, retry_after: int | None = None) -> bytes:
    """An error, with its sentence as the body.

    @param retry_after: seconds.
    """
    headers = [*_TEXT, *_EXPLAINED.get(status, [])]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    return encode_response(status, headers, (text.strip() or "No reason is known").encode("utf-8", "replace") + b"\n")
