"""What other devices speak to: the conversation of `sharing/peer.py` over HTTPS, for peers whose keys are trusted.

A stranger does not get through the handshake. Each connection has its own conversation; what a peer says is judged again at
every step, so that trust that is taken back ends a transfer in the middle.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from edgecl.errors import ConfigError, EdgeclError, PeerRefused, ProtocolError
from edgecl.serve.guard import Limits, protocol
from edgecl.serve.replies import App, Receive, Scope, Send
from edgecl.sharing import protocol as words
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Host, Receiver, Responder, refusal
from edgecl.sharing.protocol import MAX_MESSAGE
from edgecl.sharing.transport.tls import SOCKET_BUFFER, peer_key

_CONNECTION = "edgecl.responder"
_BLOCK = 16 << 10  # bytes that are handed to the inbox at once; what is not there yet is sent again after a power cut
_SEND_BLOCK = 256 << 10
_LIMITS = Limits(body=1 << 50, held=1 << 60, connections=64)  # what comes is bounded by what was offered and wanted
Answer = tuple[int, bytes]


class PeerApp:
    """The three ways of `sharing/transport/https.py`, as an ASGI application."""

    def __init__(self, host: Host, inbox: Inbox, ended: Callable[[str, str], None] = lambda sender, what: None) -> None:
        """ended: told who asked what, for the metrics."""
        self._host, self._inbox, self._ended = host, inbox, ended
        self._dealt: dict[str, tuple[str, object]] = {}

    def responder(self, sender: str) -> Responder:
        """For a new connection from that key."""
        return Responder(self._host, self._inbox, sender, self._dealt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder: Responder = scope[_CONNECTION]
        way = {"/v1/ask": self._ask, "/v1/send": self._send, "/v1/fetch": self._fetch}.get(scope["path"])
        try:
            if way is None or scope["method"] != "POST":
                raise ProtocolError(f"peers POST to /v1/ask, /v1/send and /v1/fetch, not {scope['method']} {scope['path']}")
            await way(responder, receive, send)
        except EdgeclError as error:
            status = 403 if isinstance(error, PeerRefused) else 400 if isinstance(error, ProtocolError) else 500
            await _reply(send, status, words.encode(refusal(error)))
        self._ended(responder.sender, scope["path"])

    async def _ask(self, responder: Responder, receive: Receive, send: Send) -> None:
        await _reply(send, 200, await run_in_threadpool(responder.answer, await _message(receive)))

    async def _send(self, responder: Responder, receive: Receive, send: Send) -> None:
        receiver = await run_in_threadpool(responder.receive)
        try:
            outcome = await self._received(receiver, receive)
        except EdgeclError as error:
            await _reply(send, 200, responder.received(error))
            return
        await _reply(send, 200, responder.received(outcome))

    async def _received(self, receiver: Receiver, receive: Receive) -> Any:
        with receiver:
            more, block = True, bytearray()
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    await run_in_threadpool(receiver.feed, bytes(block))  # for the next time
                    raise ProtocolError("the connection broke off; what came is kept")
                block += message.get("body", b"")
                more = message.get("more_body", False)
                if len(block) >= _BLOCK or not more:
                    await run_in_threadpool(receiver.feed, bytes(block))
                    block.clear()
            return await run_in_threadpool(receiver.end)

    async def _fetch(self, responder: Responder, receive: Receive, send: Send) -> None:
        stream = await run_in_threadpool(responder.stream, await _message(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for block in iterate_in_threadpool(_blocks(stream)):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _blocks(stream: Any) -> Any:
    block = bytearray()
    for part in stream:
        block += part
        if len(block) >= _SEND_BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


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


class _OnConnection(asyncio.Protocol):
    """Gives the application, with each request, the responder of its connection."""

    peers: PeerApp
    app: App

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        responder = self.peers.responder(peer_key(transport.get_extra_info("ssl_object")))
        behind = self.app

        async def with_responder(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_CONNECTION] = responder
            await behind(scope, receive, send)

        self.app = with_responder


def listening(host: str, port: int) -> socket.socket:
    """A socket for a `PeerConfig` server: with a small buffer, since what lies in it when the power goes is sent again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"peers cannot be served at {host}:{port}: {error.strerror}; give another --listen") from error
    listener.setblocking(False)
    return listener


class PeerConfig(uvicorn.Config):
    """A uvicorn server for `app` behind `context`."""

    def __init__(self, app: PeerApp, context: ssl.SSLContext, host: str, port: int, limits: Limits = _LIMITS) -> None:
        http = type("PeerProtocol", (_OnConnection, protocol(limits, None)), {"peers": app})
        super().__init__(
            app,  # type: ignore[arg-type]
            host=host,
            port=port,
            http=http,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(limits.idle_seconds),
        )
        self._context = context

    def load(self) -> None:
        super().load()
        self.ssl = self._context
