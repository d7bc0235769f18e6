"""A task's samples as a network takes them: normalised, moved and turned while it learns, and split for decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, EmptyTask
from edgecl.learners.cpg.settings import Base, at
from edgecl.learners.cpg.statistics import CIFAR100
from edgecl.learners.parts.nets import is_pictures
from edgecl.learners.parts.networks.base import Tensor, torch
from edgecl.streams.base import Experience
from edgecl.streams.files import PictureFiles
from edgecl.types import Floats, Ints

_LEAST = 2  # samples that batch norm needs to have a deviation
_PAD = 4  # pixels
_ROWS = 2048  # of which the statistics are taken at once
_CONSTANTS = {  # mean and deviation of red, green and blue in 0..1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class TaskData:
    """One task. x, by: samples to learn from and to decide by, as they came.   y, by_y: labels 0..k-1 into `classes`.

    classes: (k,) numbers in the stream.   mean, scale: (3,) of pictures in 0..1, (d,) of vectors; inputs are
    (x - mean) / scale.   batch: samples a step.   weights: (k,) of the classes in the loss; None: alike.
    pairs: `by` are pairs of pictures, `by_y` says of both 1 where they show the same.
    """

    x: Any
    y: Ints
    by: Any
    by_y: Ints
    classes: Ints
    mean: Floats
    scale: Floats
    batch: int = 32
    weights: Floats | None = None
    pairs: bool = False

    def __len__(self) -> int:
        return len(self.y)

    @property
    def digest(self) -> str:
        """Of all that a learning takes from here."""
        found = hashlib.sha256()
        for value in (self.x, self.y, self.by, self.by_y, self.classes, self.mean, self.scale):
            found.update(f"{value.shape}{value.dtype}".encode() + value.tobytes())
        return found.hexdigest()

    @property
    def steps(self) -> int:
        """In an epoch."""
        return sum(1 for _ in _cuts(len(self.y), self.batch))


def prepare(experience: Experience, config: Base, seed: int, task: int = 1) -> TaskData:
    """The experience's samples. Decisions are by its validation samples; where it has none, by a part of the training samples
    drawn by seed and not learned from; with `ref_select_on_test` by its test samples.

    task: which it is, counted from 1, for settings that are one a task.
    Raises EmptyTask for fewer samples than batch norm needs.
    """
    train, by = experience.train, experience.test if config.ref_select_on_test else experience.val
    rows, classes, pairs = np.arange(len(train)), np.unique(train.y), experience.pairs and bool(len(by))
    if not pairs:
        by = by[np.flatnonzero(np.isin(by.y, classes))]  # of a class that it has never seen it cannot be right
    if not len(by):
        held = _held_out(train.y, config.val_share, np.random.default_rng([seed, 5]))
        by, rows = (train[rows[held]], rows[~held]) if held.any() else (train, rows)
    if len(rows) < _LEAST:
        raise EmptyTask(f"the task '{experience.name}' has {len(rows)} samples to learn from; {_LEAST} are the least")
    x = _whole(train.x[rows])
    mean, scale = _statistics(x, experience.name, config)
    y = np.searchsorted(classes, train.y[rows])
    return TaskData(
        x=x,
        y=y,
        by=_whole(by.x),
        by_y=by.y if pairs else np.searchsorted(classes, by.y),
        classes=classes,
        mean=mean,
        scale=scale,
        batch=at(config.batch, task),
        weights=_rare_first(y, len(classes)) if task in config.weighted else None,
        pairs=pairs,
    )


def _whole(x: Any) -> Any:
    """In memory, unless it is pictures on a disk."""
    return x if isinstance(x, PictureFiles) else np.ascontiguousarray(np.asarray(x))


def _rare_first(y: Ints, k: int) -> Floats:
    """(k,): of each class, how many samples the others have for one of its own."""
    count = np.maximum(np.bincount(y, minlength=k), 1)
    return ((len(y) - count) / count).astype(np.float32)


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
    if config.normalise in _CONSTANTS:
        if not is_pictures(x.shape[1:]):
            raise ConfigError(f"normalise={config.normalise} is for pictures (h, w, 3), the inputs are {x.shape[1:]}: use task")
        found = np.array(_CONSTANTS[config.normalise], np.float32)
        return found[0], found[1]
    pictures = is_pictures(x.shape[1:])
    width = 3 if pictures else int(np.prod(x.shape[1:]))
    total, squares, count = np.zeros(width), np.zeros(width), 0
    for start in range(0, len(x), _ROWS):
        part = np.asarray(x[start : start + _ROWS]).reshape(-1, width).astype(np.float64) / (255.0 if pictures else 1.0)
        total, squares, count = total + part.sum(0), squares + np.square(part).sum(0), count + len(part)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def tensor(x: Any, mean: Floats, scale: Floats) -> Tensor:
    """What a network takes: (n, 3, h, w) of pictures (n, h, w, 3) uint8, (n, d) of vectors; float32."""
    x = np.asarray(x)
    if is_pictures(x.shape[1:]):
        found = torch.from_numpy(x.astype(np.float32) / 255)
        return ((found - torch.from_numpy(mean)) / torch.from_numpy(scale)).permute(0, 3, 1, 2).contiguous()
    flat = torch.from_numpy(x.reshape(len(x), -1).astype(np.float32))
    return (flat - torch.from_numpy(mean)) / torch.from_numpy(scale)


def epoch(
    data: TaskData, batch: int, augment: bool, draw: np.random.Generator, cutout: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples once in an order drawn anew, in batches; the last may be smaller, but has no single sample.

    cutout: side of a square, pixels, that is hidden in each picture.
    """
    order = draw.permutation(len(data))
    cuts = [order[start:end] for start, end in _cuts(len(data), batch)]
    for rows, pixels in zip(cuts, _pixels(data.x, cuts, augment, draw), strict=True):
        x = tensor(pixels, data.mean, data.scale)
        if cutout and is_pictures(pixels.shape[1:]):
            _hide(x, cutout, draw)
        yield x, torch.from_numpy(data.y[rows])


def _pixels(x: Any, cuts: list[Ints], augment: bool, draw: np.random.Generator) -> Iterator[NDArray[Any]]:
    if isinstance(x, PictureFiles):
        yield from x.ahead(cuts, draw if augment else None)
        return
    for rows in cuts:
        found = x[rows]
        yield _moved(found, draw) if augment and is_pictures(found.shape[1:]) else found


def _hide(x: Tensor, side: int, draw: np.random.Generator) -> None:
    """In place: a square of each picture (n, 3, h, w) takes the mean colour; at the edge only what lies inside."""
    n, _, h, w = x.shape
    middles = zip(draw.integers(0, h, n).tolist(), draw.integers(0, w, n).tolist(), strict=True)
    for picture, (down, right) in zip(x, middles, strict=True):
        picture[:, max(down - side // 2, 0) : down + side // 2, max(right - side // 2, 0) : right + side // 2] = 0


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
