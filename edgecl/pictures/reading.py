"""Many pictures -> ROM features, with decoding and the network at work at the same time.

While the runtime computes one batch, threads decode the next: both leave Python's lock, so on two cores reading hides
behind the network. At most two batches of pixels are held, whatever the number of pictures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import PictureError
from edgecl.pictures.decode import decode
from edgecl.pictures.folders import digest
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.feature_cache import FeatureCache
from edgecl.types import Floats, Ints, Pixels

Progress = Callable[[str, int, int], None]  # stage, done, total
WORKERS = min(4, os.cpu_count() or 1)


def silent(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Reading:
    """Features of the pictures that could be read, in order.

    features: (n, d) float32.   kept: (n,) int64, index of each among the sources.   digests: (n,) of their bytes.
    failures: index -> why not.
    """

    features: Floats
    kept: Ints
    digests: tuple[str, ...]
    failures: dict[int, PictureError]

    def without_repetitions(self, labels: Ints) -> tuple[Reading, int]:
        """The same without pictures whose bytes occurred before under the same label, and how many went.

        A picture that is there twice is never really left out, so that held-out scores would flatter.
        labels: (n,) of all sources.
        """
        seen: set[tuple[str, int]] = set()
        fresh = []
        for row, (digest_, label) in enumerate(zip(self.digests, labels[self.kept].tolist(), strict=True)):
            if not digest_ or (digest_, label) not in seen:
                fresh.append(row)
            seen.add((digest_, label))
        digests = tuple(self.digests[row] for row in fresh)
        rest = replace(self, features=self.features[fresh], kept=self.kept[fresh], digests=digests)
        return rest, len(self.digests) - len(fresh)


def batches(rom: Rom, sources: Iterable[Any], live: bool = False) -> Iterator[list[tuple[Any, Pixels | PictureError]]]:
    """Sources with their pixels (s, s, 3) uint8, or the error, in order, in lists of up to BATCH; one list is decoded ahead.

    live: one at a time and none ahead, for sources that arrive slowly: an answer never waits for the next picture.
    """
    iterator = iter(sources)

    def attempt(source: Any) -> Pixels | PictureError:
        if isinstance(source, PictureError):
            return source
        try:
            return decode(source, rom.preprocess)
        except PictureError as error:
            return error

    if live:
        yield from ([(source, attempt(source))] for source in iterator)
        return
    first = list(islice(iterator, BATCH))
    if len(first) == 1:  # nothing to overlap with, and starting threads costs a millisecond
        yield [(first[0], attempt(first[0]))]
        return
    with ThreadPoolExecutor(WORKERS) as pool:

        def start(chunk: Iterable[Any]) -> list[tuple[Any, Future[Pixels | PictureError]]]:
            return [(source, pool.submit(attempt, source)) for source in chunk]

        ahead = start(first)
        while ahead:
            now, ahead = ahead, start(islice(iterator, BATCH))
            yield [(source, future.result()) for source, future in now]


def read_features(rom: Rom, sources: Sequence[Any], cache: FeatureCache | None = None, progress: Progress = silent) -> Reading:
    """Features of `sources` (paths, or whatever `decode` takes) by `rom`; pictures known to `cache` are not read again.

    A picture that cannot be read is reported in `failures` and left out.
    """
    digests, failures = _digests(sources)
    features: dict[int, Floats] = {}
    if cache:
        known = cache.get(list(digests.values()))
        features = {i: known[d] for i, d in digests.items() if d in known}
    reused = len(features)
    missing = [i for i in range(len(sources)) if i not in features and i not in failures]
    at = 0
    for batch in batches(rom, (sources[i] for i in missing)):
        indices = missing[at : at + len(batch)]
        at += len(batch)
        good = [(i, pixels) for i, (_, pixels) in zip(indices, batch, strict=True) if not isinstance(pixels, PictureError)]
        failures |= {i: error for i, (_, error) in zip(indices, batch, strict=True) if isinstance(error, PictureError)}
        if good:
            fresh = dict(zip((i for i, _ in good), rom.features([pixels for _, pixels in good]), strict=True))
            features |= fresh
            if cache:
                cache.put({digests[i]: x for i, x in fresh.items() if i in digests})
        progress("reading features", reused + at, len(sources))
    kept = np.array(sorted(features), np.int64)
    stacked = np.stack([features[i] for i in kept]) if len(kept) else np.zeros((0, rom.width), np.float32)
    return Reading(stacked, kept, tuple(digests.get(int(i), "") for i in kept), failures)


def _digests(sources: Sequence[Any]) -> tuple[dict[int, str], dict[int, PictureError]]:
    """Digests of the sources that have bytes of their own, and the errors of those that cannot be read."""
    found: dict[int, str] = {}
    failures: dict[int, PictureError] = {}
    for i, source in enumerate(sources):
        if isinstance(source, Path):
            try:
                found[i] = digest(source)
            except PictureError as error:
                failures[i] = error
        elif isinstance(source, (bytes, np.ndarray)):
            found[i] = digest_of(source)
    return found, failures


def digest_of(picture: bytes | NDArray[Any]) -> str:
    """SHA-256 of a picture at hand, hexadecimal: of its encoded bytes, or of its pixels with their shape."""
    if isinstance(picture, np.ndarray):
        return hashlib.sha256(f"{picture.dtype.str}{picture.shape}".encode() + picture.tobytes()).hexdigest()
    return hashlib.sha256(picture).hexdigest()
