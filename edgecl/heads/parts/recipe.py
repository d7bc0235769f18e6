"""How long, on what and at which sockets plugs learn; and the pictures they learn from and those held out."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, DataError, PictureError
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.rom.sockets import Socket
from edgecl.types import Ints, Pixels, Task

MOST_PICTURES = 4_000  # that plugs learn from; the maps are fitted to all
VIEW_BYTES = 400 << 20  # of activations kept in memory
PIXEL_BYTES = 400 << 20  # of decoded pictures kept there: 2,780 at 224 pixels
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Recipe:
    """How long and on what the plugs learn.

    sockets: "all", "last:N", or "deep", the deepest seven tenths.   seen: pictures that the main epochs shall pass over in all,
    within the bounds on their number.   variants: of each picture.
    """

    sockets: str = "deep"
    seen: int = 4_000
    epochs: int = 0  # 0: from `seen`
    refresh: int = 3  # short epochs over all pictures at the end
    batch: int = 32
    rate: float = 1e-2
    variants: int = 4
    own: float = 1.0  # share of the ROM's free places that a head may keep weights of its own in
    goal: float = 0.0  # accuracy on held-out pictures that fewer of them must still meet; 0: none

    def __post_init__(self) -> None:
        _count(self.sockets)
        if (
            min(self.seen, self.batch) < 1
            or min(self.epochs, self.refresh, self.variants) < 0
            or not 0 < self.rate < 1
            or not 0 <= self.own <= 1
        ):
            raise ConfigError(f"a setting of the plugs' learning is out of range: {asdict(self)}")

    def main_epochs(self, pictures: int) -> int:
        """Passes over that many pictures."""
        return self.epochs or min(14, max(4, round(self.seen / max(1, pictures))))


def _count(sockets: str) -> int | None:
    """N of "last:N"; None for the two words. Raises ConfigError."""
    word, _, number = sockets.partition(":")
    if sockets in ("all", "deep"):
        return None
    if word != "last" or not number.isdecimal() or not 0 < int(number) < 100_000:
        raise ConfigError(f"sockets must be all, deep or last:N, got '{sockets[:40]}'")
    return int(number)


def choose(sockets: Sequence[Socket], use: str) -> tuple[Socket, ...]:
    """The sockets that `use` names, deepest last. Raises ConfigError where the ROM has none."""
    if not sockets:
        raise ConfigError(
            "this ROM image has no sockets: it is INT8, or was made by an older edgecl. Learn a linear head on it, or export "
            "an fp32 or fp16 image (edgecl export)"
        )
    n = _count(use)
    if n is None:
        n = len(sockets) if use == "all" else max(1, int(0.7 * len(sockets)))
    return tuple(sockets[-n:])


def read_pixels(task: Task, rom: Rom) -> Pixels:
    """The task's pictures as the network's pixels (n, s, s, 3). Raises DataError when the task has none, or one has gone."""
    if len(task.pictures) != len(task):
        raise DataError(f"'{task.name}': a head that acts inside the network learns from the pictures themselves, not features")
    try:
        pixels = _room((len(task), rom.preprocess.size, rom.preprocess.size, 3))
        for picture, into in zip(task.pictures, pixels, strict=True):
            into[...] = decode(picture, rom.preprocess)
        return pixels
    except PictureError as error:
        raise DataError(f"'{task.name}': a picture cannot be read a second time: {error}") from error


def _room(shape: tuple[int, ...]) -> Pixels:
    """Where decoded pictures go: to memory as far as `PIXEL_BYTES`, else to a nameless file that the system pages in and out.

    Raises DataError where there is no room for that file.
    """
    size = math.prod(shape)
    if size <= PIXEL_BYTES:
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile(prefix="edgecl-") as file:
            if hasattr(os, "posix_fallocate"):  # else a disk that fills up later ends the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    except OSError as error:
        raise DataError(
            f"{shape[0]:,} decoded pictures take {size / 1e9:.1f} GB, for which {tempfile.gettempdir()} has no room "
            f"({error.strerror}); set TMPDIR to a disk that has, or give fewer pictures"
        ) from error


def hold_out(labels: Ints, seed: int) -> NDArray[np.bool_]:
    """(n,) True for about a fifth of each class, drawn by `seed`; the same for every method, so that they compare."""
    rng, held = np.random.default_rng([seed, 5]), np.zeros(len(labels), np.bool_)
    for c in range(int(labels.max()) + 1):
        own = rng.permutation(np.flatnonzero(labels == c))
        held[own[: int(_HELD_OUT * len(own) + 0.5)]] = True
    return held
