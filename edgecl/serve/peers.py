"""What other devices speak to: the conversation of `sharing/peer.py` over HTTPS, for peers whose keys are trusted.

A stranger does not get through the handshake. Each connection has its own conversation; what a peer says is judged again at
every step, so that trust that is taken back ends a transfer in the middle.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from edgecl.device import EdgeDevice
from edgecl.errors import EdgeclError, PeerRefused, ProtocolError, RequestRefused, TransferError
from edgecl.serve.guard import Guard, Limits, protocol
from edgecl.serve.replies import Receive, Scope, Send
from edgecl.serve.service import Listener, listen
from edgecl.sharing import protocol as words
from edgecl.sharing.chunks import in_blocks
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Dealt, Host, Receiver, Responder, refusal
from edgecl.sharing.protocol import MAX_MESSAGE, Done
from edgecl.sharing.transport.tls import SOCKET_BUFFER, peer_key, server_context

T = TypeVar("T")
_RESPONDER, _HANG_UP = "edgecl.responder", "edgecl.hang_up"  # what a request is told of its connection
_BLOCK = 64 << 10  # bytes that are handed to the inbox at once; what is not there yet is sent again after a power cut
_AHEAD = 32 << 10  # bytes that a connection may have read and not handed on
_PER_PEER = 4  # connections of one key: it must not take the places of others, nor memory without bound
_TURNS = 4  # peers that are worked for at one time: they share threads with all else, and a message takes memory to read
LIMITS = Limits(body=1 << 50, held=1 << 60, connections=64)  # what comes is bounded by what was offered and wanted


class PeerApp:
    """The three ways of `sharing/transport/https.py`, as an ASGI application."""

    def __init__(self, host: Host, inbox: Inbox, ended: Callable[[str, int], None] = lambda way, status: None) -> None:
        """ended: told which way was asked and how that ended, for the metrics."""
        self._host, self._inbox, self._ended = host, inbox, ended
        self._dealt: dict[str, Dealt] = {}
        self._turns = asyncio.Semaphore(_TURNS)
        self.connections: Counter[str] = Counter()  # that are open, by key

    def responder(self, sender: str) -> Responder:
        """For a new connection from that key."""
        return Responder(self._host, self._inbox, sender, self._dealt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, status = scope["path"], 200
        way = {"/v1/ask": self._ask, "/v1/send": self._send, "/v1/fetch": self._fetch}.get(path)
        try:
            if way is None or scope["method"] != "POST":
                raise ProtocolError(f"peers POST to /v1/ask, /v1/send and /v1/fetch, not {scope['method']} {path}")
            await way(scope, receive, send)
        except EdgeclError as error:
            status = 403 if isinstance(error, PeerRefused) else 400 if isinstance(error, ProtocolError) else 500
            status = error.status if isinstance(error, RequestRefused) else status
            await _reply(send, status, words.encode(refusal(error)))
        self._ended(path if way else "other", status)

    async def _turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(*arguments)` on a thread. A request that is cancelled meanwhile ends behind it, not beside it: what the work
        writes to must not be closed under its hands."""
        async with self._turns:
            running = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope[_RESPONDER]
        await _reply(send, 200, await self._turn(responder.answer, await _message(receive)))

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope[_RESPONDER]
        receiver = await self._turn(responder.receive)
        outcome: Sequence[Done] | EdgeclError
        try:
            outcome = await self._received(receiver, receive)
        except EdgeclError as error:
            outcome = error
        await _reply(send, 200, await self._turn(responder.received, outcome))

    async def _received(self, receiver: Receiver, receive: Receive) -> Sequence[Done]:
        with receiver:
            more, block = True, bytearray()
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ProtocolError("the connection broke off; what came is kept")
                block += message.get("body", b"")
                more = message.get("more_body", False)
                if len(block) >= _BLOCK or not more:
                    await self._turn(receiver.feed, bytes(block))
                    block.clear()
            return await self._turn(receiver.end)

    async def _fetch(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope[_RESPONDER]
        stream = await self._turn(responder.stream, await _message(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        blocks = in_blocks(stream)
        try:
            while block := await self._turn(next, blocks, b""):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        except EdgeclError:  # in the middle of an answer there is no other word for it
            scope[_HANG_UP]()
            await receive()  # until that is done
            return
        await send({"type": "http.response.body", "body": b""})


async def _message(receive: Receive) -> bytes:
    data, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProtocolError("the connection broke off")
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > MAX_MESSAGE:
            raise ProtocolError(f"a message may have {MAX_MESSAGE:,} bytes, this has more")
    return bytes(data)


async def _reply(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _OnConnection(Guard):
    """Gives the application, with each request, the responder of its connection."""

    peers: PeerApp
    _key = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Else TLS takes 256 kB ahead, which would be sent again after a power cut. Not in its types.
        transport.set_read_buffer_limits(_AHEAD)  # type: ignore[attr-defined]
        try:
            key = peer_key(transport.get_extra_info("ssl_object"))
        except TransferError:  # of another kind, for which a peer has vouched
            key = ""
        if not key or self.peers.connections[key] >= _PER_PEER:
            self.transport.abort()
            return
        self._key = key
        self.peers.connections[key] += 1
        responder = self.peers.responder(key)
        behind = self.app

        async def with_responder(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_RESPONDER], scope[_HANG_UP] = responder, self.transport.abort
            await behind(scope, receive, send)

        self.app = with_responder

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.peers.connections[self._key] -= 1
        self.peers.connections += Counter()  # without those that are gone


def listener(app: PeerApp, device: EdgeDevice, sock: socket.socket, limits: Limits = LIMITS) -> Listener:
    """What serves the peers of a device. sock: from `peers_socket`. Raises IdentityError."""
    http = type("PeerProtocol", (_OnConnection, protocol(limits, None)), {"peers": app})
    return Listener("peers", app, sock, tls=server_context(device.home, device.trust.believed), limits=limits, http=http)


def peers_socket(host: str, port: int) -> socket.socket:
    """A bound socket with a small buffer: what lies in it when the power goes is sent again. Raises ConfigError."""
    return listen(host, port, SOCKET_BUFFER)
