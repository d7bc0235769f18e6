"""A cable between two devices on one machine: it counts what goes over, cannot read it, and can be cut in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

_HOST = "127.0.0.1"
_BLOCK = 4 << 10
_PATIENCE = 120.0  # seconds without a byte


class Cable:
    """A relay of TCP; a context manager.

    address: HOST:PORT of its near end.   out, back: bytes that came in at the near end, and at the far one.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((_HOST, 0))
        self.address = f"{_HOST}:{self._listener.getsockname()[1]}"
        self.out = self.back = 0
        self._port = 0
        self._left = -1  # bytes that still go out before it is cut; -1: it is not
        self._then: Callable[[], None] = lambda: None
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def plug(self, port: int) -> None:
        """Put the far end into that port."""
        self._port = port

    def clear(self) -> None:
        """Count from 0 again."""
        self.out = self.back = 0

    def cut_after(self, count: int, then: Callable[[], None]) -> None:
        """Let `count` more bytes out, call `then` while both ends still hang on it, and cut. Later connections are whole."""
        self._left, self._then = count, then

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                try:
                    far = socket.create_connection((_HOST, self._port), 10)
                except OSError:
                    near.close()
                    continue
                self._ends.append(far)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    end.settimeout(_PATIENCE)
                threading.Thread(target=self._carry_out, args=(near, far), daemon=True).start()
                threading.Thread(target=self._carry_back, args=(near, far), daemon=True).start()

    def _carry_out(self, near: socket.socket, far: socket.socket) -> None:
        with _both_end(near, far):
            while data := near.recv(_BLOCK):
                if self._left >= 0:
                    data = data[: self._left]
                    self._left -= len(data)
                self.out += len(data)
                far.sendall(data)
                if self._left == 0:
                    self._left = -1
                    self._then()
                    return

    def _carry_back(self, near: socket.socket, far: socket.socket) -> None:
        with _both_end(near, far):
            while data := far.recv(_BLOCK):
                self.back += len(data)
                near.sendall(data)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _both_end(self._listener, *self._ends):
            pass
        for end in (self._listener, *self._ends):
            end.close()


@contextlib.contextmanager
def _both_end(*ends: socket.socket) -> Iterator[None]:
    try:
        with contextlib.suppress(OSError):
            yield
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
