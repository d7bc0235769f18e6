"""A channel to a responder in the same process, byte for byte what goes over a network: for tests and the simulator."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from edgecl.errors import EdgeclError, PeerRefused
from edgecl.sharing.peer import Channel, Responder
from edgecl.text import printable


class Wired(Channel):
    """far: the other end, which knows this side by its `sender`.   key: that the far device would prove.

    through: sees every run of bytes on its way, "out" or "in", and what it returns goes on: faults are put in here.
    """

    def __init__(self, far: Responder, key: str, through: Callable[[str, bytes], bytes] = lambda way, data: data) -> None:
        self._far, self.key, self._through = far, key, through
        self.where = f"the device {key[:8]}"

    def ask(self, message: bytes) -> bytes:
        return self._through("in", self._far.answer(self._through("out", message)))

    def send(self, stream: Iterable[bytes]) -> bytes:
        try:
            receiver = self._far.receive()
        except EdgeclError as error:
            raise PeerRefused(f"{self.where} says no: {error}", printable(str(getattr(error, "reason", "")))) from error
        try:
            with receiver:
                for piece in stream:
                    receiver.feed(self._through("out", piece))
                answer = self._far.received(receiver.end())
        except EdgeclError as error:
            answer = self._far.received(error)
        return self._through("in", answer)

    def fetch(self, message: bytes) -> Generator[bytes, None, None]:
        try:
            stream = self._far.stream(self._through("out", message))
        except EdgeclError as error:
            raise PeerRefused(f"{self.where} says no: {error}", printable(str(getattr(error, "reason", "")))) from error
        for piece in stream:
            yield self._through("in", piece)
