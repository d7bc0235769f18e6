"""Pictures that stay on the disk until they are asked for: data sets that no memory holds.

What `Samples.x` may be: it has a shape, slices and index arrays give a part of it that is not read either, and `np.asarray`
reads. Learners that learn from pictures moved about read them by `ahead`, from the whole picture.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecl.errors import DataError
from edgecl.pictures.decode import decode_whole
from edgecl.text import printable
from edgecl.types import Ints, Pixels

WORKERS = min(16, os.cpu_count() or 1)
_AHEAD = 2  # batches that are read while one is used
_SMALLEST, _RATIO, _ATTEMPTS = 0.08, 4 / 3, 10  # of a random crop: least share of the picture, most uneven sides


class PictureFiles:
    """(n, side, side, 3) uint8, read when they are asked for.

    files: paths.   squeezed: (n,) bool: the picture is brought to the square as it is; otherwise its shorter side becomes
    `shorter` and the middle is taken, or, where it is moved about, a part of random size, place and proportion.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, files: Sequence[Path], squeezed: NDArray[np.bool_], side: int, shorter: int) -> None:
        self._files, self._squeezed, self._side, self._shorter = files, squeezed, side, shorter
        self._rows: Ints = np.arange(len(files))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self._side, self._side, 3)

    def __getitem__(self, rows: slice | Ints) -> PictureFiles:
        part = PictureFiles.__new__(PictureFiles)
        part.__dict__.update({name: value for name, value in vars(self).items() if name != "_digest"})
        part._rows = self._rows[rows]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        with ThreadPoolExecutor(WORKERS) as pool:
            found = self._stacked([pool.submit(self._square, int(row), None) for row in self._rows])
        return found if dtype is None else found.astype(dtype)

    def tobytes(self) -> bytes:
        """What stands for them in a digest: names and sizes of the files, which is quick where the pictures are millions."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        found = hashlib.sha256()
        for row in self._rows:
            path = self._files[int(row)]
            try:
                found.update(f"{path.parent.name}/{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
            except OSError as error:
                raise DataError(f"{printable(path)}: cannot be read ({error.strerror}); it was there a moment ago") from error
        return found.digest()

    def ahead(self, cuts: Sequence[Ints], draw: np.random.Generator | None) -> Iterator[Pixels]:
        """Batch after batch, the next ones being read while one is used. draw: moves them about; None: as `np.asarray`.

        How a picture moves does not depend on the threads. Raises PictureError that names the file.
        """
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting = deque[list[Future[Pixels]]]()
            try:
                for rows in cuts:
                    seeds = [None] * len(rows) if draw is None else draw.integers(2**63, size=len(rows)).tolist()
                    waiting.append([pool.submit(self._square, int(self._rows[r]), s) for r, s in zip(rows, seeds, strict=True)])
                    if len(waiting) > _AHEAD:
                        yield self._stacked(waiting.popleft())
                while waiting:
                    yield self._stacked(waiting.popleft())
            finally:
                for batch in waiting:
                    for one in batch:
                        one.cancel()

    def _stacked(self, waiting: list[Future[Pixels]]) -> Pixels:
        if not waiting:
            return np.zeros((0, self._side, self._side, 3), np.uint8)
        return np.stack([one.result() for one in waiting])

    def _square(self, row: int, seed: int | None) -> Pixels:
        squeezed = bool(self._squeezed[row])
        picture = Image.fromarray(decode_whole(self._files[row], self._side if squeezed else self._shorter))
        width, height = picture.size
        box = (0.0, 0.0, float(width), float(height))
        turned = False
        if seed is not None:
            draw = np.random.default_rng(seed)
            turned = bool(draw.integers(2))
            if not squeezed:
                box = random_part(width, height, draw)
        elif not squeezed:
            seen = min(width, height) * self._side / self._shorter
            box = ((width - seen) / 2, (height - seen) / 2, (width + seen) / 2, (height + seen) / 2)
        square = np.asarray(picture.resize((self._side, self._side), Image.Resampling.BILINEAR, box=box))
        return np.ascontiguousarray(square[:, ::-1]) if turned else square


def random_part(width: int, height: int, draw: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a part of 8 to 100 % of the picture with sides up to 4:3 uneven; the middle where ten
    attempts do not fit.

    Szegedy et al., Going deeper with convolutions, CVPR 2015.
    """
    for _ in range(_ATTEMPTS):
        area = width * height * draw.uniform(_SMALLEST, 1)
        ratio = np.exp(draw.uniform(-np.log(_RATIO), np.log(_RATIO)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw.integers(width - w + 1)), int(draw.integers(height - h + 1))
            return float(left), float(top), float(left + w), float(top + h)
    across, along = min(width, height * _RATIO), min(height, width * _RATIO)
    return (width - across) / 2, (height - along) / 2, (width + across) / 2, (height + along) / 2
