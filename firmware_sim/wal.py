"""The log of an SQLite file as bytes: which pages the last commit has put there. Format: sqlite.org/fileformat2.html#walformat.

For logs that SQLite has just written itself, in this process: what a frame says of itself is believed, its checksum is not
computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_HEADER, _FRAME = 32, 24  # bytes of the log's header, and of each frame's before its page


class Log:
    """data: of a file NAME-wal, with its header."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._page = int.from_bytes(data[8:12], "big")
        self._salt = data[16:24]

    @classmethod
    def read(cls, path: Path) -> Log | None:
        """None where there is no log."""
        data = path.read_bytes() if path.exists() else b""
        return cls(data) if len(data) >= _HEADER else None

    def last(self) -> tuple[int, int]:
        """From which byte to which the last commit reaches; from 0 where it began the log anew, and wrote the header too."""
        start = end = 0
        for at, _, pages in self._frames():
            if pages:  # a commit's last frame says how many pages the file has then
                start, end = end, at + _FRAME + self._page
        return start, end

    def written_last(self) -> int:
        """Bytes that the last commit writes: its frames, and every page of them once more into the file.

        Without the log's header, which it writes or not depending on what this process had open before.
        """
        start, end = self.last()
        pages = {page for at, page, _ in self._frames() if start <= at < end}
        return end - max(start, _HEADER) + len(pages) * self._page

    def applied(self, file: bytes) -> bytes:
        """The file with all commits of the log copied into it."""
        whole = bytearray(file)
        _, end = self.last()
        pages = 0
        for at, page, size in self._frames():
            if at >= end:
                break
            begin = (page - 1) * self._page
            whole.extend(bytes(max(0, begin + self._page - len(whole))))
            whole[begin : begin + self._page] = self._data[at + _FRAME : at + _FRAME + self._page]
            pages = size or pages
        return bytes(whole[: pages * self._page])

    def _frames(self) -> Iterator[tuple[int, int, int]]:
        """(offset, page from 1, pages of the file or 0) of each frame; what follows the last is of an earlier log."""
        step = _FRAME + self._page
        for at in range(_HEADER, len(self._data) - step + 1, step):
            if self._data[at + 8 : at + 16] != self._salt:
                return
            head = self._data[at : at + 8]
            yield at, int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
