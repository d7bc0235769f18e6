"""A bundle as a stream of parts, so that what its receiver has of it already does not travel again. No I/O.

A bundle is cut at the end of its header and of its tensors: a new generation whose anchors are the same shares their chunks
with the one before, wherever they lie in it. What a broken connection has left is a prefix, and the stream goes on behind it.

    stream  = { bundle }
    bundle  = 01, digest (32 bytes), offset (8): that many bytes its receiver holds already;   then parts until it is whole
    part    = 02, length (4), so many bytes    |    03, name (16): the chunk of that name, which its receiver said it has

Numbers are unsigned and big-endian. A chunk's name is the first half of its SHA-256; the whole bundle is proven by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgecl.errors import ProtocolError

CHUNK = 256 << 10  # bytes of the largest; the most that one part carries, and that a break costs
MOST_NAMED = 4096  # chunks that a receiver may say it has
_SMALL = 4 << 10  # tensors smaller than this share a chunk: a name for each would cost more than it saves
_BEGIN, _BYTES, _COPY = b"\1", b"\2", b"\3"


@dataclass(frozen=True)
class Want:
    """What a receiver has of a bundle that it wants.

    prefix: bytes of its beginning.   mark: their `name`, hexadecimal; "" for none.   have: chunks of other bundles, by name.
    """

    prefix: int = 0
    mark: str = ""
    have: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Begin:
    """A bundle starts; `offset` bytes of it are not sent."""

    digest: str
    offset: int


@dataclass(frozen=True)
class Literal:
    """The next bytes of the bundle."""

    data: bytes


@dataclass(frozen=True)
class Copy:
    """The next bytes of the bundle are those of a chunk that the receiver has."""

    name: str


Part = Begin | Literal | Copy


def name(chunk: bytes | memoryview) -> str:
    """What a chunk is called: the first 128 bits of its SHA-256, hexadecimal."""
    return hashlib.sha256(chunk).hexdigest()[:32]


def cut(data: bytes) -> list[tuple[int, int]]:
    """Where the chunks of a bundle begin and end, in order and without gaps.

    The header is for itself, since it always changes; small neighbours share a chunk; what is larger than one is divided.
    """
    found: list[tuple[int, int]] = []
    start = last = 0  # of what is not in a chunk yet, and of the piece that comes next
    for at, end in enumerate(_borders(data)):
        if end - last >= _SMALL and start < last:
            found.append((start, last))
            start = last
        while end - start > CHUNK:
            found.append((start, start + CHUNK))
            start += CHUNK
        if end - start >= _SMALL or end == len(data) or not at:
            found.append((start, end))
            start = end
        last = end
    return found


def _borders(data: bytes) -> list[int]:
    """The end of the header, of each tensor, and of the bundle."""
    body = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:body])
        ends = {body + entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):  # no bundle; it is cut all the same
        return [len(data)]
    return sorted({end for end in {body, *ends} if isinstance(end, int) and 0 < end < len(data)} | {len(data)})


def chunks(bundles: Iterable[bytes]) -> dict[str, bytes]:
    """The chunks of these bundles by name, as many as may be named; those too small to be worth a name left out."""
    found: dict[str, bytes] = {}
    for data in bundles:
        for start, end in cut(data):
            if end - start >= _SMALL and len(found) < MOST_NAMED:
                found[name(data[start:end])] = data[start:end]
    return found


def parts(data: bytes, want: Want) -> Iterator[bytes]:
    """The stream of one bundle for a receiver that has `want` of it. What it says it has, and has not, is sent."""
    start_at = want.prefix if 0 < want.prefix <= len(data) and name(memoryview(data)[: want.prefix]) == want.mark else 0
    yield _BEGIN + hashlib.sha256(data).digest() + start_at.to_bytes(8, "big")
    for start, end in cut(data):
        if end <= start_at:
            continue
        chunk = data[max(start, start_at) : end]
        if start >= start_at and want.have and (called := name(chunk)) in want.have:
            yield _COPY + bytes.fromhex(called)
        else:
            yield _BYTES + len(chunk).to_bytes(4, "big") + chunk


def in_blocks(stream: Iterable[bytes], size: int = 64 << 10) -> Iterator[bytes]:
    """The same bytes in runs of about `size`: a small part is not worth a packet of its own."""
    block = bytearray()
    for part in stream:
        block += part
        if len(block) >= size:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


class PartsReader:
    """Bytes in, parts out. Bytes of a bundle come out as they arrive, so that a break loses none of them."""

    def __init__(self) -> None:
        self._rest = b""
        self._open = 0  # bytes of the current part that are still to come

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that `data` completes or goes on with. Raises ProtocolError for what is no stream of parts."""
        rest = self._rest + data
        at = 0
        while at < len(rest):
            if self._open:
                piece = rest[at : at + self._open]
                at += len(piece)
                self._open -= len(piece)
                yield Literal(piece)
                continue
            kind, size = rest[at : at + 1], {_BEGIN: 41, _BYTES: 5, _COPY: 17}.get(rest[at : at + 1])
            if size is None:
                raise ProtocolError(f"a stream of parts holds a part of the kind {kind[0]}, which is not known")
            if len(rest) - at < size:
                break
            head, at = rest[at + 1 : at + size], at + size
            if kind == _BEGIN:
                yield Begin(head[:32].hex(), int.from_bytes(head[32:], "big"))
            elif kind == _COPY:
                yield Copy(head.hex())
            else:
                self._open = int.from_bytes(head, "big")
                if not 0 < self._open <= CHUNK:
                    raise ProtocolError(f"a part has {self._open:,} bytes; it must have 1 to {CHUNK:,}")
        self._rest = rest[at:]

    def end(self) -> None:
        """Raise ProtocolError when the stream stops in the middle of a part."""
        if self._rest or self._open:
            raise ProtocolError("a stream of parts stops in the middle of one; what came whole is kept, send again")


def resolved(part: Literal | Copy, have: Mapping[str, bytes]) -> bytes:
    """The bytes that a part stands for. Raises ProtocolError for a chunk that its receiver never named."""
    if isinstance(part, Literal):
        return part.data
    if part.name not in have:
        raise ProtocolError(f"a part stands for chunk {part.name}, which was not said to be here")
    return have[part.name]
