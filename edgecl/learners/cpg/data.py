"""A task's samples as a network takes them: normalised, moved and turned while it learns, and split for decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, EmptyTask
from edgecl.learners.cpg.settings import Base
from edgecl.learners.cpg.statistics import CIFAR100
from edgecl.learners.parts.nets import is_pictures
from edgecl.learners.parts.networks.base import Tensor, torch
from edgecl.streams.base import Experience
from edgecl.types import Floats, Ints

_LEAST = 2  # samples that batch norm needs to have a deviation
_PAD = 4  # pixels
_ROWS = 2048  # of which the statistics are taken at once


@dataclass(frozen=True)
class TaskData:
    """One task. x, by: samples to learn from and to decide by, as they came.   y, by_y: labels 0..k-1 into `classes`.

    classes: (k,) numbers in the stream.   mean, scale: (3,) of pictures in 0..1, (d,) of vectors; inputs are
    (x - mean) / scale.
    """

    x: NDArray[Any]
    y: Ints
    by: NDArray[Any]
    by_y: Ints
    classes: Ints
    mean: Floats
    scale: Floats

    def __len__(self) -> int:
        return len(self.y)

    @property
    def digest(self) -> str:
        """Of all that a learning takes from here."""
        found = hashlib.sha256()
        for value in (self.x, self.y, self.by, self.by_y, self.classes, self.mean, self.scale):
            found.update(f"{value.shape}{value.dtype}".encode() + value.tobytes())
        return found.hexdigest()

    def steps(self, batch: int) -> int:
        """In an epoch."""
        return sum(1 for _ in _cuts(len(self.y), batch))


def prepare(experience: Experience, config: Base, seed: int) -> TaskData:
    """The experience's samples. Decisions are by its validation samples; where it has none, by a part of the training samples
    drawn by seed and not learned from; with `ref_select_on_test` by its test samples.

    Raises EmptyTask for fewer samples than batch norm needs.
    """
    train, by = experience.train, experience.test if config.ref_select_on_test else experience.val
    rows, classes = np.arange(len(train)), np.unique(train.y)
    by = by[np.flatnonzero(np.isin(by.y, classes))]  # of a class that it has never seen it cannot be right
    if not len(by):
        held = _held_out(train.y, config.val_share, np.random.default_rng([seed, 5]))
        by, rows = (train[rows[held]], rows[~held]) if held.any() else (train, rows)
    if len(rows) < _LEAST:
        raise EmptyTask(f"the task '{experience.name}' has {len(rows)} samples to learn from; {_LEAST} are the least")
    x = np.ascontiguousarray(np.asarray(train.x[rows]))
    mean, scale = _statistics(x, experience.name, config)
    return TaskData(
        x=x,
        y=np.searchsorted(classes, train.y[rows]),
        by=np.asarray(by.x[:]),
        by_y=np.searchsorted(classes, by.y),
        classes=classes,
        mean=mean,
        scale=scale,
    )


def _held_out(y: Ints, share: float, draw: np.random.Generator) -> NDArray[np.bool_]:
    """`share` of each class; of every class at least one sample is left."""
    held = np.zeros(len(y), np.bool_)
    for c in np.unique(y):
        rows = draw.permutation(np.flatnonzero(y == c))
        held[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    return held


def _statistics(x: NDArray[Any], name: str, config: Base) -> tuple[Floats, Floats]:
    if config.normalise == "published":
        if name not in CIFAR100:
            raise ConfigError(f"normalise=published knows the superclasses of CIFAR-100; '{name[:60]}' is none: use task")
        found = np.array(CIFAR100[name], np.float32)
        return found[0], found[1]
    flat = x.reshape(-1, x.shape[-1]) if is_pictures(x.shape[1:]) else x.reshape(len(x), -1)
    unit = 255.0 if is_pictures(x.shape[1:]) else 1.0
    total, squares = np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
    for start in range(0, len(flat), _ROWS):
        part = flat[start : start + _ROWS].astype(np.float64) / unit
        total, squares = total + part.sum(0), squares + np.square(part).sum(0)
    mean = total / len(flat)
    deviation = np.sqrt(np.maximum(squares / len(flat) - mean**2, 0))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def tensor(x: Any, mean: Floats, scale: Floats) -> Tensor:
    """What a network takes: (n, 3, h, w) of pictures (n, h, w, 3) uint8, (n, d) of vectors; float32."""
    x = np.asarray(x)
    if is_pictures(x.shape[1:]):
        found = torch.from_numpy(x.astype(np.float32) / 255)
        return ((found - torch.from_numpy(mean)) / torch.from_numpy(scale)).permute(0, 3, 1, 2).contiguous()
    flat = torch.from_numpy(x.reshape(len(x), -1).astype(np.float32))
    return (flat - torch.from_numpy(mean)) / torch.from_numpy(scale)


def epoch(data: TaskData, batch: int, augment: bool, draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples once in an order drawn anew, in batches; the last may be smaller, but has no single sample."""
    order = draw.permutation(len(data))
    for start, end in _cuts(len(data), batch):
        rows = order[start:end]
        x = data.x[rows]
        if augment and is_pictures(x.shape[1:]):
            x = _moved(x, draw)
        yield tensor(x, data.mean, data.scale), torch.from_numpy(data.y[rows])


def _cuts(n: int, batch: int) -> Iterator[tuple[int, int]]:
    starts = list(range(0, n, batch))
    if len(starts) > 1 and n - starts[-1] < _LEAST:
        del starts[-1]
    return zip(starts, [*starts[1:], n], strict=True)


def _moved(x: NDArray[Any], draw: np.random.Generator) -> NDArray[Any]:
    """Each picture cut out of itself inside a frame of black, at a random place; every other turned left to right."""
    n, h, w, _ = x.shape
    room = np.zeros((n, h + 2 * _PAD, w + 2 * _PAD, 3), np.uint8)
    room[:, _PAD : _PAD + h, _PAD : _PAD + w] = x
    places = draw.integers(0, 2 * _PAD + 1, (2, n))
    down, right = places[0], places[1]
    columns = np.where(np.asarray(draw.integers(0, 2, n))[:, None] == 1, np.arange(w)[::-1], np.arange(w)) + right[:, None]
    rows = np.arange(h) + down[:, None]
    moved: NDArray[Any] = room[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved
