"""Where connections wait until TLS has let them in: for a while, and not with many.

A server knows nothing of a connection before its handshake is done, and asyncio gives that a minute. Strangers who open a
thousand and say nothing would take every file handle of the process, from the bank and the local API too. Here, who is not
through in `handshake_seconds` is sent away; and where more than `connections` wait, the one that came first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from edgecl.serve.guard import Limits

_BREATH = 0.5  # seconds, when the system has no handle left for one more


class Door:
    """In place of asyncio's server, with what uvicorn asks of one. sock: bound.   made: a protocol for each that is let in."""

    def __init__(self, sock: socket.socket, made: Callable[[], asyncio.Protocol], tls: ssl.SSLContext, limits: Limits) -> None:
        sock.listen(limits.connections)
        self._sock, self._made, self._tls, self._limits = sock, made, tls, limits
        self._waiting: dict[asyncio.Task[None], None] = {}  # in the order in which they came
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._sock)
            except OSError:
                await asyncio.sleep(_BREATH)
                continue
            task = loop.create_task(self._let_in(connection))
            self._waiting[task] = None
            task.add_done_callback(lambda task: self._waiting.pop(task, None))
            if len(self._waiting) > self._limits.connections:
                first = next(iter(self._waiting))
                del self._waiting[first]  # now: before it has ended, more may come
                first.cancel()

    async def _let_in(self, connection: socket.socket) -> None:
        loop, patience = asyncio.get_running_loop(), self._limits.handshake_seconds
        with contextlib.suppress(OSError):  # what TLS has against a stranger, or the time is up: it is closed
            await loop.connect_accepted_socket(self._made, connection, ssl=self._tls, ssl_handshake_timeout=patience)

    def close(self) -> None:
        """Let nobody in any more."""
        for task in (self._opening, *self._waiting):
            task.cancel()

    async def wait_closed(self) -> None:
        """Until those who waited are gone."""
        await asyncio.gather(self._opening, *self._waiting, return_exceptions=True)
