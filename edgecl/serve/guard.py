"""Limits of a server: how large, how slow, how many, and for whom. It knows nothing of what is served behind it.

uvicorn parses HTTP strictly, but waits for ever for a head or a body, takes heads and bodies of any size, and lets a reader
stand still. A `Guard` lies around its protocol class and closes each of these doors. A connection is always in one stage, and
each stage has an end:

    head     from its first byte, or from the connection, until the request's head is complete: `head_seconds`
    body     as long as the app waits for it: `body_seconds`, and a second more for every `body_rate` bytes that have come
    answer   the app's own time. Its bytes must move: `write_seconds` for a reader that stands still
    linger   answered before the body was whole (too large, not allowed): what still comes is thrown away, `linger_seconds`
    idle     kept alive: `idle_seconds`

A request whose client has gone is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgecl.errors import Overloaded, RequestRefused
from edgecl.serve.replies import App, Message, Receive, Scope, Send, refusal

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_HEADERS = 100  # lines
_MAX_PIPELINED = 16  # requests sent ahead of an answer
_SPARE_SECONDS = 2.0  # in which the bytes of a connection that was closed may still leave


@dataclass(frozen=True)
class Limits:
    """What one server takes. Sizes in bytes."""

    body: int = 32 << 20
    held: int = 128 << 20  # of all bodies at once
    head: int = 16 << 10
    connections: int = 256
    handshake_seconds: float = 10.0  # where there is TLS; see `door`
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_rate: int = 16_000  # bytes a second; slower ones are cut off
    write_seconds: float = 20.0
    linger_seconds: float = 2.0
    idle_seconds: float = 60.0


class Guard(asyncio.Protocol):
    """Goes in front of one of uvicorn's HTTP protocol classes, by `protocol`.

    Of uvicorn it uses, besides asyncio's own contract, `app`, `loop`, `transport`, `connections`, `flow`, `cycle` with
    `response_complete`, `response_started` and `more_body`, and `send_400_response`.
    """

    limits: Limits
    hosts: frozenset[str] | None
    held: list[int]  # bytes of bodies, of all connections of one server

    app: App
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    flow: Any
    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._behind, self.app = self.app, self._guarded
        self._end: asyncio.TimerHandle | None = None  # of the stage
        self._stuck: asyncio.TimerHandle | None = None  # of a reader that stands still
        self._running: asyncio.Task[Any] | None = None
        self._gone = False
        self._lingers = False
        self._head = 0  # bytes of a head that is not complete, or of what was sent ahead of an answer

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            self.transport.abort()  # up to twice the limit there is an answer, which costs as much as a request
        else:
            self._ends_in(self.limits.head_seconds, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        for timer in (self._end, self._stuck):
            if timer:
                timer.cancel()
        super().connection_lost(exc)
        if self._running:
            self._running.cancel()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if len(getattr(self, "pipeline", ())) > _MAX_PIPELINED:
            self._refuse(RequestRefused(f"more than {_MAX_PIPELINED} requests were sent ahead of an answer"))
        elif cycle is not before:
            self._head = 0
        elif cycle is None or cycle.response_complete:
            if self._lingers:
                return
            if not self._head:
                self._ends_in(self.limits.head_seconds, self._late)
            self._head += len(data)
            if self._head > self.limits.head:
                self._refuse(_long_head(self.limits))
        elif not cycle.more_body:
            self._head += len(data)
            if self._head > self.limits.head:
                self.flow.pause_reading()  # until this request is answered

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._stuck:
            self._stuck = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, msg: str) -> None:
        """Instead of uvicorn's, which is no JSON."""
        self._refuse(RequestRefused("that is no HTTP/1.1 request; nothing of it was used"))

    def _late(self) -> None:
        if self._head:
            self._refuse(RequestRefused("the request's head did not come in time", 408, "slow"))
        else:
            self.transport.abort()  # nobody asked anything

    def _refuse(self, error: RequestRefused) -> None:
        """The last words on this connection, if an answer is not half sent."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(refusal(error).raw())
        self.transport.close()
        self._ends_in(_SPARE_SECONDS, self.transport.abort)

    def _ends_in(self, seconds: float, then: Callable[[], None]) -> None:
        if self._end:
            self._end.cancel()
        self._end = None if self._gone else self.loop.call_later(seconds, then)

    # -- the request

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._end:
            self._end.cancel()
            self._end = None
        self._lingers = False
        self._running = asyncio.current_task()
        body = _Body(self.limits, self.held, receive, self.loop, scope)
        try:
            if refused := refused_head(scope, self.limits, self.hosts, len(self.connections)):
                await refusal(refused).send(send)
            else:
                await self._behind(scope, body.receive, send)
        except asyncio.CancelledError:
            if not self._gone:
                raise
        finally:
            self._running = None
            body.release()
            self._after(body.unfinished)

    def _after(self, unfinished: bool) -> None:
        if self.transport.is_closing():
            self._ends_in(_SPARE_SECONDS + self.limits.write_seconds, self.transport.abort)
        elif unfinished:
            self._lingers = True
            self._ends_in(self.limits.linger_seconds, self.transport.abort)
        else:  # uvicorn closes what is idle; bytes that nobody fetches would keep it open
            self._ends_in(self.limits.idle_seconds + _SPARE_SECONDS + self.limits.write_seconds, self.transport.abort)


class _Body:
    """A request's body as it comes in: its size, its pace, and what all bodies take together."""

    def __init__(
        self, limits: Limits, held: list[int], receive: Receive, loop: asyncio.AbstractEventLoop, scope: Scope
    ) -> None:
        self._limits, self._held, self._receive, self._loop = limits, held, receive, loop
        self._size = 0
        self._waited = 0.0
        self.unfinished = any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 "))
            for name, value in scope["headers"]
        )

    async def receive(self) -> Message:
        """ASGI's `receive`. Raises RequestRefused (413, 408) and Overloaded."""
        if not self.unfinished:
            return await self._receive()
        limits, began = self._limits, self._loop.time()
        patience = limits.body_seconds + self._size / limits.body_rate - self._waited
        try:
            async with asyncio.timeout(patience):
                message = await self._receive()
        except TimeoutError:
            raise RequestRefused(
                f"the request's body came too slowly: {self._size:,} bytes in {self._waited + patience:.0f} s", 408, "slow"
            ) from None
        self._waited += self._loop.time() - began
        size = len(message.get("body", b""))
        self._size += size
        self._held[0] += size
        self.unfinished = bool(message.get("more_body"))
        if self._size > limits.body:
            raise _large_body(limits)
        if self._held[0] > limits.held:
            raise Overloaded("the bodies of the requests under way fill the memory set aside for them; ask again later")
        return message

    def release(self) -> None:
        """The request is over, and its bytes with it."""
        self._held[0] -= self._size
        self._size = 0


def refused_head(scope: Scope, limits: Limits, hosts: frozenset[str] | None, connections: int) -> RequestRefused | None:
    """Why a request is refused by its head alone, or None. hosts: names it may be meant for; None takes any.

    The parser has refused most of what is ambiguous; here it is refused whatever the parser thinks.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if connections > limits.connections:
        return Overloaded(f"{limits.connections} connections are open, and no more are served; ask again later")
    if len(headers) > _MAX_HEADERS or limits.head < len(scope["raw_path"]) + len(scope["query_string"]) + sum(
        len(name) + len(value) + 4 for name, value in headers
    ):
        return _long_head(limits)
    named = [value for name, value in headers if name == b"host"]
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return RequestRefused("the request says more than once how long it is; nothing of it was used")
    if codings and codings[0].strip().lower() != b"chunked":
        return RequestRefused("of transfer encodings only 'chunked' is known", 501, "transfer-encoding")
    if lengths and (not lengths[0].isdigit() or len(lengths[0]) > 18):
        return RequestRefused("the request's Content-Length is no number")
    if lengths and int(lengths[0]) > limits.body:
        return _large_body(limits)
    if len(named) > 1 or (not named and scope["http_version"] != "1.0"):
        return RequestRefused("a request needs exactly one Host")
    if hosts is not None:
        if named and host_name(named[0]) not in hosts:
            return RequestRefused("this service does not go by the name in the request's Host", 421, "host")
        for name, value in headers:  # a page of another site, in a browser on this machine
            if name == b"origin" and host_name(value.rpartition(b"//")[2]) not in hosts:
                return RequestRefused("a page of another site may not ask this service", 403, "origin")
    return None


def host_name(host: bytes) -> str:
    """ "LocalHost.:7434" -> "localhost": the name in a Host header, without port; "" where there is none."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        name, closed, port = text.partition("]")
        return f"{name}]" if closed and (not port or port.startswith(":")) else ""
    return text.partition(":")[0].rstrip(".")


def protocol(limits: Limits, hosts: frozenset[str] | None) -> type[asyncio.Protocol]:
    """The class for uvicorn's `http`, on httptools where that is installed, else on h11. One for each server."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    return type("GuardedProtocol", (Guard, AutoHTTPProtocol), {"limits": limits, "hosts": hosts, "held": [0]})


def _long_head(limits: Limits) -> RequestRefused:
    return RequestRefused(
        f"the request's head is longer than {limits.head:,} bytes or {_MAX_HEADERS} lines", 431, "head-too-large"
    )


def _large_body(limits: Limits) -> RequestRefused:
    return RequestRefused(f"the request's body is longer than {limits.body:,} bytes", 413, "too-large")
