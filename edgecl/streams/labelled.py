"""Labelled pictures of one data set before they are read, and their reading: as pixels, or as features of a ROM."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError, EmptyTask, PictureError
from edgecl.pictures.decode import decode
from edgecl.pictures.reading import WORKERS, Progress, read_features, silent
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.feature_cache import FeatureCache
from edgecl.rom.preprocess import Preprocess
from edgecl.streams.base import Dataset, Samples
from edgecl.types import Ints

TRAIN, VAL, TEST = range(3)
_NAMED = 5  # unreadable pictures that are named before they are only counted


@dataclass(frozen=True)
class LabelledPictures:
    """n pictures of a data set.

    sources: what `decode` takes, or the PictureError that says why there is nothing.   y, group: (n,) into `classes` and
    `groups`.   part: (n,) TRAIN, VAL or TEST.   side: of pixels when nobody asks for another.   notes: sentences on what was
    passed over, safe to print.
    """

    name: str
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    sources: Sequence[Any]
    y: Ints
    group: Ints
    part: Ints
    side: int
    notes: tuple[str, ...] = ()


def read(
    pictures: LabelledPictures,
    rom: Rom | None = None,
    cache: FeatureCache | None = None,
    size: int | None = None,
    progress: Progress = silent,
) -> Dataset:
    """The pictures as a data set: x is (n, d) float32 features of `rom`, or (n, s, s, 3) uint8 pixels where there is none.

    A picture that cannot be read is left out and named in the notes. Raises EmptyTask where no picture is left to train or to
    test with, DataError where a class has none to train with.
    """
    if rom:
        reading = read_features(rom, pictures.sources, cache, progress)
        x: Any = reading.features
        kept, failures = reading.kept, reading.failures
    else:
        x, kept, failures = _pixels(pictures.sources, size or pictures.side, progress)
    y, group, part = pictures.y[kept], pictures.group[kept], pictures.part[kept]
    for which, word in ((TRAIN, "train"), (TEST, "test")):
        if not (part == which).any():
            raise EmptyTask(f"{pictures.name} has no readable picture to {word} with. {'; '.join(pictures.notes)}".strip())
    if len(lost := np.setdiff1d(y, y[part == TRAIN])):
        raise DataError(f"{pictures.name}: the class '{pictures.classes[lost[0]]}' has no readable picture to train with")
    notes = pictures.notes
    if failures:
        named = [str(error) for _, error in sorted(failures.items())][:_NAMED]
        more = f" and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        notes += (f"left out, cannot be read: {len(failures)} ({'; '.join(named)}{more})",)
    every = Samples(x, y, group)
    train, val, test = (every[np.flatnonzero(part == which)] for which in (TRAIN, VAL, TEST))
    return Dataset(pictures.name, pictures.classes, pictures.groups, train, val, test, notes)


def _pixels(sources: Sequence[Any], side: int, progress: Progress) -> tuple[NDArray[Any], Ints, dict[int, PictureError]]:
    """The whole centre square of each picture, which of them could be read, and why not the others."""
    p = Preprocess(size=side, crop=1.0)
    x = np.empty((len(sources), side, side, 3), np.uint8)
    failures: dict[int, PictureError] = {}

    def attempt(i: int) -> None:
        source = sources[i]
        try:
            if isinstance(source, PictureError):
                raise source
            x[i] = decode(source, p)
        except PictureError as error:
            failures[i] = error

    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(sources), BATCH):
            rows = range(start, min(start + BATCH, len(sources)))
            list(pool.map(attempt, rows))
            progress("reading pictures", rows.stop, len(sources))
    kept = np.array([i for i in range(len(sources)) if i not in failures], np.int64)
    return x[kept] if failures else x, kept, failures


def hold_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with `share` of the training samples of each class and group, drawn by seed, as its validation part.

    A data set that has one is left as it is. Of every class and group at least one sample stays to train with.
    """
    if not share or len(dataset.val):
        return dataset
    train, rng = dataset.train, np.random.default_rng([seed, 4])
    held = np.zeros(len(train), np.bool_)
    cells = train.group * len(dataset.classes) + train.y
    for cell in np.unique(cells):
        rows = rng.permutation(np.flatnonzero(cells == cell))
        held[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    note = f"{int(held.sum())} of {len(train)} training samples are held out for validation, drawn by seed {seed}"
    return Dataset(
        dataset.name,
        dataset.classes,
        dataset.groups,
        train[np.flatnonzero(~held)],
        train[np.flatnonzero(held)],
        dataset.test,
        (*dataset.notes, note),
    )
