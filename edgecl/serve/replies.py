"""What every server of a device answers with: JSON, and for whatever was refused the same three fields.

    {"error": a sentence, "kind": the error's class, "reason": a word for programs, or ""}

No name or value of a request ever becomes a header.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from edgecl import errors
from edgecl.errors import EdgeclError, Overloaded, RequestRefused
from edgecl.text import printable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
_LONGEST = 1000  # characters of a sentence
_log = logging.getLogger("edgecl.serve")

# The first that fits. What is missing here is this device's own trouble: 500.
_STATUS: tuple[tuple[type[EdgeclError], int], ...] = (
    (errors.UnknownTask, 404),
    (errors.BankBusy, 503),
    (errors.BankFull, 507),
    (errors.PictureError, 422),  # the request is sound, its picture is not
    (errors.RomMismatch, 409),
    (errors.DataError, 409),  # nothing learned yet, or nothing to learn from: what the device holds stands against it
    (errors.BundleError, 422),
    (errors.ConfigError, 400),
)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    body: bytes
    status: int = 200
    media: str = JSON
    headers: Iterable[tuple[str, str]] = field(default=())

    async def send(self, send: Send) -> None:
        """Give it to an ASGI server."""
        head = [("content-type", self.media), ("content-length", str(len(self.body))), *self.headers]
        headers = [(name.encode(), value.encode()) for name, value in head]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def raw(self) -> bytes:
        """The last answer on a connection, for where no ASGI server is at hand."""
        head = [("content-type", self.media), ("content-length", str(len(self.body))), ("connection", "close"), *self.headers]
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        return f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n".encode() + self.body


def reply(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """`value` as JSON."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Reply(body.encode(errors="backslashreplace"), status, JSON, headers)


def refusal(error: BaseException) -> Reply:
    """What is answered for an error. One that edgecl did not raise on purpose is logged here, and not shown to the client."""
    if not isinstance(error, EdgeclError):
        _log.error("a request failed unexpectedly; this is a bug", exc_info=error)
        body = {"error": "this device failed unexpectedly; its log says more", "kind": "InternalError", "reason": "bug"}
        return reply(body, 500)
    headers: list[tuple[str, str]] = []
    if isinstance(error, RequestRefused):
        status = error.status
    else:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 503:
        headers.append(("retry-after", str(error.retry_after if isinstance(error, Overloaded) else 1)))
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))
    body = {
        "error": printable(str(error), _LONGEST),
        "kind": type(error).__name__,
        "reason": str(getattr(error, "reason", "")),
    }
    return reply(body, status, headers)
