# -*- test-case-name: tests.unit.test_adapters_rpc -*-
"""SimpleRPC over TCP: the node's side, one connection a call, and the agent's side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from attrs import frozen
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IAddress, IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from qvd.interfaces import IGuest, IGuestDialer
from qvd.model.errors import GuestError, QVDError
from qvd.model.records import Guest
from qvd.model.secret import Secret
from qvd.protocols.adapters.heads import ConnectionClosed, HeadLimits, HeadServer, ResponseClient
from qvd.protocols.http1 import LocalProtocolError, RemoteProtocolError, RequestHead, encode_response
from qvd.protocols.simplerpc import (
    Call,
    Result,
    RPCError,
    decode_reply,
    encode_call,
    encode_error,
    encode_result,
    is_authorized,
    parse_call,
)

REPLY_HEAD = 8 * 1024
REPLY_BODY = 64 * 1024
MAX_CONNECTIONS = 64
LIMITS = HeadLimits(head_bytes=64 * 1024, head_seconds=10.0, first_seconds=10.0, idle_seconds=60.0)
"""Of the agent. The parameters of a session, escaped, may fill a long head."""

Method = Callable[[Mapping[str, str]], Awaitable[object]]


class AgentSilent(GuestError):
    """No answer in time."""


class _ReplyFactory(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> ResponseClient:
        return ResponseClient(self._clock, REPLY_HEAD, REPLY_BODY)


@implementer(IGuest)
class RemoteGuest:
    """The agent of one guest. Whatever it answers is bounded in size and time."""

    def __init__(self, reactor: IReactorTCP, guest: Guest, timeout: float) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._guest = guest
        self._timeout = timeout

    async def ping(self) -> None:
        await self._call(Call("ping"))

    async def x_start(self, parameters: Mapping[str, str]) -> str:
        return await self._state(Call("x_start", parameters))

    async def x_state(self) -> str:
        return await self._state(Call("x_state"))

    async def x_suspend(self) -> str:
        return await self._state(Call("x_suspend"))

    async def poweroff(self) -> None:
        await self._call(Call("poweroff"))

    async def expire(self, parameters: Mapping[str, str]) -> None:
        try:
            await self._call(Call("expire", parameters))
        except AgentSilent:
            # It goes on all the same: a hook may wait until the user has read what it shows.
            pass

    async def message(self, text: str) -> None:
        await self._call(Call("message", {"text": text}))

    async def _state(self, call: Call) -> str:
        state = await self._call(call)
        if not isinstance(state, str) or not state.isascii() or not state.isidentifier():
            raise GuestError(f"The virtual machine's agent answered {call.method} with something that is no state")
        return state

    async def _call(self, call: Call) -> object:
        """@raise GuestError: no, nonsense or nothing."""
        try:
            reply = await Deferred.fromCoroutine(self._exchange(call)).addTimeout(self._timeout, self._clock)
        except Overdue:
            raise AgentSilent(f"The virtual machine's agent has not answered in {self._timeout:g} s") from None
        except (ConnectError, DNSLookupError) as error:
            raise GuestError(f"The virtual machine's agent cannot be reached: {error}") from None
        except ConnectionClosed:
            raise GuestError("The virtual machine's agent hung up without an answer") from None
        except RemoteProtocolError as error:
            raise GuestError(f"The virtual machine's agent gave no valid answer: {error}") from None
        except LocalProtocolError as error:
            raise GuestError(f"The virtual machine's agent cannot be told: {error}") from None
        match reply:
            case RPCError(text):
                raise GuestError(text)
            case Result(value):
                return value

    async def _exchange(self, call: Call) -> Result | RPCError:
        request = encode_call(call, self._guest.secret)
        try:
            wire = cast(ResponseClient, await self._endpoint().connect(_ReplyFactory(self._clock)))
        except ConnectingCancelledError:
            # To an endpoint this is a failure of its own; to a coroutine, being cancelled is one thing only.
            raise CancelledError from None
        try:
            wire.send(request)
            response = await wire.receive()
            while response.head.status < 200:
                response = await wire.receive()
            reply = decode_reply(response)
        except BaseException:
            wire.abort()
            raise
        wire.close()
        return reply

    def _endpoint(self) -> IStreamClientEndpoint:
        endpoint = TCP6ClientEndpoint if isIPv6Address(self._guest.address) else TCP4ClientEndpoint
        # A little longer than the call may take, whose end is the one that counts.
        return endpoint(self._reactor, self._guest.address, self._guest.vma_port, timeout=self._timeout + 1)


@implementer(IGuestDialer)
@frozen
class GuestDialer:
    """Dials agents over TCP.

    @ivar timeout: seconds for a whole call, from the first packet to the last byte.
    """

    reactor: IReactorTCP
    timeout: float = 4.0

    def dial(self, guest: Guest) -> IGuest:
        return RemoteGuest(self.reactor, guest, self.timeout)


class RPCServerFactory(Factory):
    """Serves methods to whoever knows the secret. A caller who goes away cancels the call."""

    noisy = False
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        secret: Secret | None,
        methods: Mapping[str, Method],
        timeout: float,
    ) -> None:
        """
        @param secret: what callers must show; L{None}: whoever reaches the port may call.
        @param methods: by name; they get the arguments. The text of a L{QVDError} goes to the caller.
        @param timeout: seconds for one call, after which it is cancelled.
        """
        self._clock = clock
        self._secret = secret
        self._methods = methods
        self._timeout = timeout
        self._wires: set[HeadServer] = set()

    def buildProtocol(self, addr: IAddress | None) -> HeadServer | None:
        if len(self._wires) >= MAX_CONNECTIONS:
            return None
        wire = HeadServer(self._clock, LIMITS, self._converse, lambda: self._wires.discard(wire))
        self._wires.add(wire)
        return wire

    def stopFactory(self) -> None:
        """The port is closed: so are the connections."""
        for wire in list(self._wires):
            wire.close()

    async def _converse(self, wire: HeadServer) -> None:
        while True:
            try:
                head = await wire.receive()
            except RemoteProtocolError as error:
                wire.send(_plain(error.status_hint, str(error)))
                return
            if self._secret is not None and not is_authorized(head, self._secret):
                self.log.warn("{peer}: a call without the right secret", peer=wire.peer)
                wire.send(_plain(401, "The secret of this virtual machine is needed"))
                return
            wire.authenticated()
            wire.send(await self._answer(head))

    async def _answer(self, head: RequestHead) -> bytes:
        call = parse_call(head)
        method = self._methods.get(call.method) if call is not None else None
        if call is None or method is None:
            return _plain(404, "There is no such method")
        try:
            return encode_result(await self._run(method, call))
        except CancelledError:
            raise
        except QVDError as error:
            return encode_error(error.text)
        except Overdue:
            self.log.error("{method} took longer than {seconds} s", method=call.method, seconds=self._timeout)
            return encode_error(f"{call.method} took longer than {self._timeout:g} s")
        except Exception:  # noqa: BLE001 - the edge, where whatever a method raises becomes an answer
            self.log.failure("{method} failed", method=call.method)
            return encode_error("internal error")

    async def _run(self, method: Method, call: Call) -> object:
        async def run() -> object:
            return await method(call.arguments)

        return await Deferred.fromCoroutine(run()).addTimeout(self._timeout, self._clock)


def _plain(status: int, text: str) -> bytes:
    return encode_response(status, [("Content-Type", "text/plain")], f"{text}\n".encode())
