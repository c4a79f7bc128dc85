# -*- test-case-name: tests.unit.test_client_session -*-
"""What a user asks of the L7R, over one connection that stays logged in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from qvd.client.errors import ClientError, Exit, plain, refusal
from qvd.client.wire import Progress, ServerConnection
from qvd.model.secret import Secret
from qvd.protocols import l7r
from qvd.protocols.http1 import Response, encode_request
from qvd.protocols.l7r import BasicCredentials, BearerCredentials

USER_AGENT = ("User-Agent", "qvd-client")
SWITCH = (("Connection", "Upgrade"), ("Upgrade", l7r.UPGRADE))
FIELDS = ("id", "name", "state", "blocked", "is_application")
"""Of a VM in the server's list: what is shown."""

Pairs = Sequence[tuple[str, str]]


@frozen
class VM:
    """A line of the server's list.

    @ivar fields: as the server sent them.
    """

    vm_id: int
    name: str
    fields: Mapping[str, Any] = field(repr=False)


def parse_list(body: bytes) -> tuple[VM, ...]:
    """@raise ClientError: this is no list of VMs."""
    try:
        lines = json.loads(body)
    except ValueError:
        lines = None
    if not isinstance(lines, list) or not all(_is_vm(line) for line in lines):
        raise ClientError(Exit.REFUSED, "The server's list of virtual machines cannot be understood")
    return tuple(VM(line["id"], line["name"], {name: line.get(name) for name in FIELDS}) for line in lines)


def _is_vm(line: object) -> bool:
    return isinstance(line, dict) and type(line.get("id")) is int and isinstance(line.get("name"), str)


def describe(vms: Sequence[VM]) -> str:
    """Ids and names for an error."""
    return ", ".join(f"{vm.vm_id} {plain(vm.name)}" for vm in vms) or "there is none"


def choose(vms: Sequence[VM], wanted: str | None) -> VM:
    """The VM that is meant: by id, by name, or the only one.

    @raise ClientError: none or several.
    """
    if wanted is None:
        if len(vms) == 1:
            return vms[0]
        if not vms:
            raise ClientError(Exit.NO_SUCH_VM, "You have no virtual machine on this server")
        raise ClientError(Exit.USAGE, f"You have several virtual machines, choose one with --vm: {describe(vms)}")
    found = [vm for vm in vms if wanted == str(vm.vm_id)] or [vm for vm in vms if wanted == vm.name]
    if len(found) > 1:
        raise ClientError(Exit.USAGE, f"Several virtual machines have that name, choose by id: {describe(found)}")
    if found:
        return found[0]
    if wanted.isascii() and wanted.isdigit():
        # Perhaps somebody else's: the server knows best what to say to that.
        return VM(int(wanted), wanted, {"id": int(wanted)})
    raise ClientError(Exit.NO_SUCH_VM, f"You have no virtual machine {plain(wanted)}; there are: {describe(vms)}")


def authorization(credentials: BasicCredentials | BearerCredentials) -> tuple[str, str]:
    """The header. Bytes that were not UTF-8 where the user typed them go out as they came in."""
    match credentials:
        case BasicCredentials(login, Secret() as password):
            scheme, text = "Basic", f"{login}:{password.reveal()}"
        case BearerCredentials(token):
            scheme, text = "Bearer", token.reveal()
    encoded = base64.b64encode(text.encode("utf-8", "surrogateescape"))
    return "Authorization", f"{scheme} {encoded.decode('ascii')}"


class Session:
    """The requests.

    @param seconds: for each part of an answer.
    @param progress: told what the server reports while one waits.
    """

    def __init__(
        self,
        server: ServerConnection,
        credentials: BasicCredentials | BearerCredentials | None,
        seconds: float,
        progress: Progress,
    ) -> None:
        self._server = server
        self._headers = [] if credentials is None else [authorization(credentials)]
        self._seconds = seconds
        self._progress = progress

    async def ping(self) -> str:
        """@raise ClientError: the node does not serve now."""
        return _text(await self._get(l7r.PING))

    async def list_vms(self) -> tuple[VM, ...]:
        """@raise ClientError: refused."""
        headers = [("Accept", "application/json")]
        try:
            return parse_list((await self._get(l7r.LIST_OF_VM, headers=headers)).body)
        except ClientError as error:
            if error.exit is not Exit.NO_SUCH_VM:
                raise
            # Nothing was asked about a VM yet.
            raise ClientError(Exit.REFUSED, f"This is no QVD server: {error.text}", error.status) from None

    async def stop(self, vm_id: int) -> str:
        """Returns when the VM has stopped.

        @raise ClientError: refused, or it did not stop.
        """
        return _text(await self._get(l7r.STOP_VM, [("id", str(vm_id))]))

    async def connect(self, vm_id: int, parameters: Mapping[str, str]) -> None:
        """Returns when the connection has become the desktop's.

        @raise ClientError: refused, or the desktop did not come up.
        """
        query = [("id", str(vm_id)), *parameters.items()]
        response = await self._exchange(l7r.CONNECT_TO_VM, query, SWITCH)
        if response.head.status != 101:
            raise refusal(response)

    async def _get(self, path: str, query: Pairs = (), headers: Pairs = ()) -> Response:
        response = await self._exchange(path, query, headers)
        if response.head.status != 200:
            raise refusal(response)
        return response

    async def _exchange(self, path: str, query: Pairs, headers: Pairs) -> Response:
        request = encode_request("GET", path, query, [*self._headers, *headers, USER_AGENT])
        return await self._server.exchange(request, self._seconds, self._progress)


def _text(response: Response) -> str:
    return plain(response.body.decode("utf-8", "replace"))
