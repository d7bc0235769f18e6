"""A channel between two simulated devices: the real conversation, byte for byte, over a `Line` in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TypeVar

from edgecl.errors import EdgeclError, PeerRefused, TransferError
from edgecl.sharing.peer import Channel, Responder
from edgecl.sharing.protocol import Done
from edgecl.text import printable
from firmware_sim.line import Broken, Line

Made = TypeVar("Made")


class PowerLost(BaseException):
    """The power of the device at work has gone: no code of it runs any more. No Exception, so that nothing catches it."""


class Link(Channel):
    """From the agent `near` to the `far` responder.

    key: that the far device proves.   log: gets (way, bytes) of all that is carried.   back: it leads from the end that did not
    open the line, so that ways are told the other way round.   Raises TransferError where the line
    breaks or the far end loses power, PowerLost where the near end does.
    """

    def __init__(
        self, line: Line, near: str, far: Responder, key: str, where: str, log: list[tuple[str, int]], back: bool = False
    ) -> None:
        self._ways = {"out": "in", "in": "out"} if back else {"out": "out", "in": "in"}
        self._line, self._near, self._far, self.key, self.where, self._log = line, near, far, key, where, log
        self.broken: Broken | None = None

    def connect(self) -> None:
        """The handshake."""
        self._log.append(("connect", 0))
        self._through(self._line.connect)

    def ask(self, message: bytes) -> bytes:
        self._carry("out", len(message))
        answer = self._through(lambda: self._far.answer(message))
        self._carry("in", len(answer))
        return answer

    def send(self, stream: Iterable[bytes]) -> bytes:
        try:
            receiver = self._far.receive()
        except EdgeclError as error:
            raise self._refused(error) from error
        with receiver:
            pieces = iter(stream)
            while (piece := next(pieces, None)) is not None:
                self._carry("out", len(piece))
                try:
                    self._through(partial(receiver.feed, piece))
                except TransferError as error:
                    if self.broken:
                        raise
                    answer = self._far.received(error)
                    break
                except EdgeclError as error:
                    answer = self._far.received(error)
                    break
            else:
                answer = self._ended(receiver.end)
        self._carry("in", len(answer))
        return answer

    def _ended(self, end: Callable[[], list[Done]]) -> bytes:
        try:
            return self._far.received(self._through(end))
        except EdgeclError as error:
            if self.broken:
                raise
            return self._far.received(error)

    def fetch(self, message: bytes) -> Generator[bytes, None, None]:
        self._carry("out", len(message))
        try:
            stream = self._far.stream(message)
        except EdgeclError as error:
            raise self._refused(error) from error
        for piece in stream:
            self._carry("in", len(piece))
            yield piece

    def _refused(self, error: EdgeclError) -> PeerRefused:
        return PeerRefused(f"{self.where} says no: {error}", printable(str(getattr(error, "reason", ""))))

    def _carry(self, way: str, size: int) -> None:
        way = self._ways[way]
        self._log.append((way, size))
        self._through(lambda: self._line.carry(way, size))

    def _through(self, step: Callable[[], Made]) -> Made:
        """What `step` returns, unless the line breaks meanwhile."""
        try:
            return step()
        except Broken as broken:
            self.broken = broken
            if broken.who == self._near:
                raise PowerLost from broken
            raise TransferError(f"the line to {self.where} broke") from broken
