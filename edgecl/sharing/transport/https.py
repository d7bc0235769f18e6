"""A channel to a device on the network: HTTP/1.1 over TLS, both ends proven by their keys.

POST /v1/ask    a message             -> a message
POST /v1/send   a stream of parts     -> a message
POST /v1/fetch  a message             -> a stream of parts
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from edgecl.errors import MissingDependency, PeerRefused, ProtocolError, TransferError
from edgecl.sharing import protocol
from edgecl.sharing.chunks import in_blocks
from edgecl.sharing.peer import Channel
from edgecl.sharing.protocol import MAX_MESSAGE, Refusal
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.transport.tls import SOCKET_BUFFER, client_context, peer_key
from edgecl.text import printable

try:
    import httpx
except ImportError as error:
    raise MissingDependency("devices on the network need httpx; add the extra: pip install 'edgecl[serve]'") from error

_PATIENCE = 60.0  # seconds without a byte
_SLOWEST = 1024  # bytes a second, on the average; slower is an attack, or a network that will not get there


class NewKey(TransferError):
    """A key that is believed vouches for the one that was shown, which is not known itself."""


class Https(Channel):
    """A connection to one device, opened on first use; a context manager.

    key: that it has shown; known when something was said.
    """

    def __init__(
        self,
        address: str,
        signer: Signer,
        keys: Iterable[str],
        vouched: bytes = b"",
        patience: float = _PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """address: HOST:PORT.   keys: those that are believed there.   vouched: this device's `crossings`."""
        self.where, self.key, self._strict, self._answered = address, "", True, False
        self._keys, self._own, self._clock, self._patience = frozenset(keys), signer.key, clock, patience
        transport = httpx.HTTPTransport(
            verify=client_context(signer, self._keys, vouched),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._client = httpx.Client(
            base_url=f"https://{address}",
            transport=transport,
            trust_env=False,  # a proxy would be a man in the middle
            timeout=httpx.Timeout(patience, connect=min(patience, 10.0)),
        )
        # What httpx adds by itself says nothing to a device and costs a hundred bytes a message.
        self._client.headers = httpx.Headers({"host": "edgecl"})

    @contextlib.contextmanager
    def hailing(self) -> Iterator[None]:
        """Meanwhile a key that one of those believed only vouches for will do: to say hello to it, and nothing else."""
        self._strict = False
        try:
            yield
        finally:
            self._strict = True

    def ask(self, message: bytes) -> bytes:
        with self._post("/v1/ask", message) as pieces:
            return _bounded(pieces, self.where)

    def send(self, stream: Iterable[bytes]) -> bytes:
        with self._post("/v1/send", in_blocks(stream)) as pieces:
            return _bounded(pieces, self.where)

    def fetch(self, message: bytes) -> Generator[bytes, None, None]:
        with self._post("/v1/fetch", message) as pieces:
            yield from pieces

    @contextlib.contextmanager
    def _post(self, path: str, content: bytes | Iterable[bytes]) -> Iterator[Iterator[bytes]]:
        """The bytes of the answer, as they come."""
        try:
            with self._client.stream("POST", path, content=content, extensions={"trace": self._met}) as response:
                self._answered = True
                pieces = self._paced(response.iter_raw())
                if response.status_code != 200:
                    self._refused(response.status_code, _bounded(pieces, self.where))
                yield pieces
        except httpx.TimeoutException as error:
            raise TransferError(f"{self.where} did not answer within {self._patience:g} s; what came whole is kept") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError, OSError) as error:
            raise TransferError(self._why(error)) from error

    def _met(self, event: str, facts: Mapping[str, Any]) -> None:
        """Called by httpx at every step: between the handshake and the first byte of HTTP, see whose key it is."""
        if event != "connection.start_tls.complete":
            return
        self.key = peer_key(facts["return_value"].get_extra_info("ssl_object"))
        if self._strict and self.key not in self._keys:
            raise NewKey(f"{self.where} shows the key {fingerprint(self.key)}, which is not trusted here")

    def _refused(self, status: int, data: bytes) -> None:
        try:
            said = protocol.decode(data)
        except ProtocolError:
            said = Refusal("TransferError", printable(data.decode("utf-8", "replace"), 200))
        message = said.message if isinstance(said, Refusal) else "it gave no reason"
        raise PeerRefused(f"{self.where} says no ({status}): {message}", said.reason if isinstance(said, Refusal) else "")

    def _paced(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        started, seen = self._clock(), 0
        for piece in pieces:
            seen += len(piece)
            if self._clock() - started > self._patience + seen / _SLOWEST:
                raise TransferError(f"{self.where} sends slower than {_SLOWEST} bytes a second; given up")
            yield piece

    def _why(self, error: Exception) -> str:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            expected = " or ".join(sorted(map(fingerprint, self._keys))[:3]) or "any trusted one"
            return (
                f"{self.where} shows another key than {expected}: it is another device, or somebody stands between. Nothing "
                f"was sent. `edgecl peers id` there says its key"
            )
        if self._answered:
            return (
                f"{self.where} broke off in the middle of the conversation. What was acknowledged is kept, and the rest goes "
                f"on where it stopped: share or pull again ({printable(text, 100) or type(error).__name__})"
            )
        if "alert" in text.lower() or "EOF occurred" in text or "disconnected without" in text:
            return (
                f"{self.where} closed the connection; most often it does not trust this device yet. There: edgecl peers trust "
                f"NAME {self._own}, with the fingerprint {fingerprint(self._own)} ({printable(text, 100)})"
            )
        return f"{self.where} cannot be reached, or broke off: {printable(text, 200) or type(error).__name__}"

    def __enter__(self) -> Https:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()


def _bounded(pieces: Iterator[bytes], where: str) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > MAX_MESSAGE:
            raise ProtocolError(f"{where} answers with more than {MAX_MESSAGE:,} bytes")
    return bytes(data)
