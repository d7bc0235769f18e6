"""Bundles as streams of parts: what arrives is the bundle, whatever its receiver had of it."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from edgecl.errors import ProtocolError
from edgecl.sharing.chunks import CHUNK, Begin, Copy, Literal, PartsReader, Want, chunks, cut, name, parts, resolved


def bundle(seed: int = 0, anchor: int = 0, card: str = "a card") -> bytes:
    """Like one: a header, a head of 400 kB that differs by `seed`, an anchor of 60 kB that differs by `anchor`."""
    head, other = np.random.default_rng(seed), np.random.default_rng(1000 + anchor)
    return save(
        {
            "head/a": head.integers(0, 255, 400_000).astype(np.uint8),
            "anchor/m/b": other.integers(0, 255, 60_000).astype(np.uint8),
            "anchor/m/c": other.integers(0, 255, 50).astype(np.uint8),
        },
        metadata={"edgecl": card},
    )


def arrived(stream: bytes, had: bytes = b"", have: dict[str, bytes] | None = None, step: int = 1 << 20) -> bytes:
    """What a receiver makes of a stream that comes in runs of `step` bytes."""
    reader, data = PartsReader(), bytearray()
    for at in range(0, len(stream), step):
        for part in reader.feed(stream[at : at + step]):
            if isinstance(part, Begin):
                data += had[: part.offset]
            else:
                data += resolved(part, have or {})
    reader.end()
    return bytes(data)


def test_chunks_cover_the_bundle_and_end_where_tensors_do() -> None:
    data = bundle()
    spans = cut(data)
    assert spans[0][0] == 0 and spans[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert all(0 < end - start <= CHUNK for start, end in spans)
    body = 8 + int.from_bytes(data[:8], "little")
    assert {body + 60_000, body + 60_050} & {end for _, end in spans}


@given(st.binary(max_size=300))
def test_anything_can_be_cut(data: bytes) -> None:
    assert b"".join(data[start:end] for start, end in cut(data)) == data


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
def test_what_is_sent_arrives_however_it_is_broken_into_runs(step: int) -> None:
    data = bundle()[: 5000 if step == 1 else None]
    assert arrived(b"".join(parts(data, Want())), step=step) == data


@pytest.mark.parametrize("prefix", [1, 5000, CHUNK, 400_001, -1])
def test_a_break_costs_nothing_that_had_arrived(prefix: int) -> None:
    data = bundle()
    had = data[:prefix] if prefix > 0 else data
    stream = b"".join(parts(data, Want(len(had), name(had))))
    assert arrived(stream, had) == data and len(stream) < len(data) - len(had) + 100


def test_a_prefix_that_is_not_this_bundles_is_sent_again() -> None:
    data = bundle()
    for want in (Want(100, name(b"x" * 100)), Want(len(data) + 1, name(data + b"x"))):
        assert arrived(b"".join(parts(data, want)), b"x" * 100) == data


def test_a_new_generation_sends_what_changed() -> None:
    old, new = bundle(0), bundle(1, card="another, and longer, card")
    have = chunks([old])
    stream = b"".join(parts(new, Want(have=frozenset(have))))
    assert arrived(stream, have=have) == new
    assert 400_000 < len(stream) < 402_000  # the head and the card; not the anchor


def test_the_bundle_is_named_in_its_stream() -> None:
    data = bundle()
    first = next(PartsReader().feed(next(parts(data, Want()))))
    assert first == Begin(hashlib.sha256(data).hexdigest(), 0)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"\x09", "kind 9"),
        (b"\x02" + bytes(4), "1 to"),
        (b"\x02" + (CHUNK + 1).to_bytes(4, "big"), "1 to"),
        (b"\x02" + (1 << 31).to_bytes(4, "big"), "1 to"),
        (b"\x00" * 40, "kind 0"),
    ],
)
def test_what_is_no_stream_is_refused(stream: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        list(PartsReader().feed(stream))


@pytest.mark.parametrize("cut_at", [1, 20, 41, 43, 46, 47])
def test_a_stream_that_stops_in_a_part_says_so(cut_at: int) -> None:
    reader = PartsReader()
    list(reader.feed(b"".join(parts(b"x" * 30, Want()))[:cut_at]))
    if cut_at == 41:
        reader.end()
    else:
        with pytest.raises(ProtocolError, match="middle"):
            reader.end()


def test_a_chunk_that_was_never_named_cannot_be_asked_for() -> None:
    with pytest.raises(ProtocolError, match="not said to be here"):
        resolved(Copy("0" * 32), {"1" * 32: b""})


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_reader_never_fails_in_another_way(stream: bytes, step: int) -> None:
    """And what it lets through is at most what came."""
    reader, seen = PartsReader(), 0
    try:
        for at in range(0, len(stream), step):
            for part in reader.feed(stream[at : at + step]):
                seen += len(part.data) if isinstance(part, Literal) else 0
        reader.end()
    except ProtocolError:
        pass
    assert seen <= len(stream)
