"""Tasks by the hundred for fleets: pictures drawn when they are asked for, or features in a ROM's space without pictures.

A synthetic task is a pattern in two colours: a motif (stripes, dots, bricks, ...), its period, its angle, a ground and an ink.
The task fixes most of them; its classes differ in one, as real tasks' classes do: the motif, the angle, the period or the ink.
Each picture has its own phase, light and noise, and its angle, period and colours stray a little.

Everything here is a few numbers until an element is taken: a task travels to another process as those numbers, and
`tasks[i].train[j]` is the same array there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgecl.bench.synthetic import CLASSES, World
from edgecl.errors import ConfigError
from edgecl.learning import MIN_PER_CLASS
from edgecl.streams.base import TaskPictures
from edgecl.types import Floats, Pixels, Task

TRAIN, TEST = 0, 1

Heights = NDArray[np.floating[Any]]
Motif = Callable[[Heights, Heights], Heights]  # (u, v), in periods -> heights about 0, of the same shape


def _cells(u: Heights, v: Heights) -> tuple[Heights, Heights]:
    """Coordinates in -0.5..0.5 from the middle of each square cell."""
    return u - np.rint(u), v - np.rint(v)


def _wave(u: Heights) -> Heights:
    out: Heights = np.sin(2 * math.pi * u)
    return out


def _bricks(u: Heights, v: Heights) -> Heights:
    row = np.floor(2 * v)
    x, y = _cells(u + 0.5 * row, 2 * v - 0.5)
    out: Heights = 8 * (np.minimum(0.5 - np.abs(x), 0.5 * (0.5 - np.abs(y))) - 0.06)
    return out


def _crosses(u: Heights, v: Heights) -> Heights:
    x, y = np.abs(_cells(u, v))
    out: Heights = np.where(np.maximum(x, y) < 0.4, 8 * (0.11 - np.minimum(x, y)), np.float32(-1))
    return out


MOTIFS: dict[str, Motif] = {
    "stripes": lambda u, v: _wave(u),
    "checks": lambda u, v: 2 * _wave(u / 2) * _wave(v / 2),
    "dots": lambda u, v: 6 * (0.3 - np.hypot(*_cells(u, v))),
    "rings": lambda u, v: 10 * (0.09 - np.abs(np.hypot(*_cells(u, v)) - 0.33)),
    "lattice": lambda u, v: 6 * (0.12 - np.minimum(*np.abs(_cells(u, v)))),
    "crosses": _crosses,
    "bricks": _bricks,
    "ripples": lambda u, v: _wave(u + 0.3 * _wave(v / 2)),
    "zigzag": lambda u, v: _wave(u + 2 * np.abs(v / 2 - np.rint(v / 2))),
    "target": lambda u, v: _wave(np.hypot(u, v)),
}
_TURNABLE = ("stripes", "bricks", "ripples", "zigzag")  # look like themselves only after half a turn
_DIFFER = ("motif", "angle", "period", "ink")


@dataclass(frozen=True)
class Pattern:
    """What the pictures of one class have in common. angle: radians; period: share of the side; colours: (3,), 0..255."""

    motif: str
    angle: float
    period: float
    ground: tuple[float, ...]
    ink: tuple[float, ...]


def draw(pattern: Pattern, side: int, rng: np.random.Generator) -> Pixels:
    """One picture, (side, side, 3) uint8."""
    y, x = _grid(side)
    angle = pattern.angle + rng.normal(0, 0.09)
    period = pattern.period * math.exp(rng.normal(0, 0.08))
    at = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    across = np.array([math.cos(angle), math.sin(angle)], np.float32) / np.float32(period)
    u = across[0] * (x - at[0]) + across[1] * (y - at[1])
    v = -across[1] * (x - at[0]) + across[0] * (y - at[1])
    ink = np.clip(0.5 + 1.5 * MOTIFS[pattern.motif](u, v), 0, 1)
    ground, pen = (np.array(c) + rng.normal(0, 7, 3) for c in (pattern.ground, pattern.ink))
    slope = rng.normal(0, 0.2, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.8, 1.15)) + slope[0] * x + slope[1] * y
    picture = ground.astype(np.float32) + ink[:, :, None] * (pen - ground).astype(np.float32)
    picture *= light[:, :, None]
    picture += np.float32(rng.normal(0, 10)) * rng.standard_normal((side, side, 1), np.float32)
    pixels: Pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return pixels


@cache
def _grid(side: int) -> tuple[Floats, Floats]:
    """y (side, 1) and x (1, side), in -0.5..0.5."""
    line = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    return line[:, None], line[None, :]


@lru_cache(64)
def patterns(number: int, classes: int, seed: int) -> tuple[Pattern, ...]:
    """The classes of synthetic task `number`."""
    rng = np.random.default_rng([seed, 1, number])
    differ = _DIFFER[int(rng.integers(len(_DIFFER)))]
    motifs = _TURNABLE if differ == "angle" else tuple(MOTIFS)
    base = Pattern(
        motifs[int(rng.integers(len(motifs)))],
        float(rng.uniform(0, math.pi)),
        float(math.exp(rng.uniform(math.log(0.08), math.log(0.3)))),
        _colour(rng),
        _colour(rng),
    )
    if differ == "motif":
        names = rng.permutation(list(MOTIFS))
        return tuple(replace(base, motif=str(names[c % len(names)])) for c in range(classes))
    if differ == "angle":
        return tuple(replace(base, angle=base.angle + math.pi * c / classes) for c in range(classes))
    if differ == "period":
        return tuple(replace(base, period=0.06 * (0.4 / 0.06) ** (c / max(1, classes - 1))) for c in range(classes))
    return tuple(replace(base, ink=_colour(rng)) for _ in range(classes))


def _colour(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(rng.uniform(20, 235, 3).tolist())


@dataclass(frozen=True)
class Drawn(Sequence[Pixels]):
    """The training or test pictures of one synthetic task, class by class; each is drawn anew whenever it is taken."""

    number: int
    classes: int
    per_class: int
    side: int
    seed: int
    part: int  # TRAIN or TEST

    def __len__(self) -> int:
        return self.classes * self.per_class

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Pixels, ...]: ...
    def __getitem__(self, index: int | slice) -> Pixels | tuple[Pixels, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        i = range(len(self))[index]
        pattern = patterns(self.number, self.classes, self.seed)[i // self.per_class]
        return draw(pattern, self.side, np.random.default_rng([self.seed, 2, self.number, self.part, i]))

    def __iter__(self) -> Iterator[Pixels]:
        return (self[i] for i in range(len(self)))


def synthetic_tasks(
    count: int, classes: int = 4, per_class: int = 12, test_per_class: int = 5, side: int = 96, seed: int = 0
) -> list[TaskPictures]:
    """`count` tasks of drawn pictures; task i is the same whatever the count. Nothing is drawn before a picture is taken.

    side: of the square pictures, in pixels.   Raises ConfigError for numbers that make no task.
    """
    _check(count, classes, per_class, test_per_class, len(MOTIFS))
    if not 16 <= side <= 1024:
        raise ConfigError(f"synthetic pictures have a side of 16 to 1024 pixels, not {side}")
    names, (labels, test_labels) = _classes(classes), (_labels(classes, n) for n in (per_class, test_per_class))
    return [
        TaskPictures(
            name(i),
            names,
            Drawn(i, classes, per_class, side, seed, TRAIN),
            labels,
            Drawn(i, classes, test_per_class, side, seed, TEST),
            test_labels,
        )
        for i in range(count)
    ]


@dataclass(frozen=True)
class TaskFeatures:
    """One task as features, without pictures: what `TaskPictures` is to a fleet that must not wait for a network."""

    name: str
    classes: tuple[str, ...]
    train_labels: tuple[int, ...]
    test_labels: tuple[int, ...]
    number: int
    among: int  # tasks that there are
    width: int
    seed: int

    def features(self, part: int = TRAIN) -> Floats:
        """(n, width) float32, of all training or test pictures; drawn anew whenever it is asked for."""
        labels = np.asarray(self.train_labels if part == TRAIN else self.test_labels, np.int64)
        return _world(self.width, self.seed).drawn(self.number, labels, self.among, part)

    def task(self) -> Task:
        """To be learned from."""
        return Task(self.name, self.classes, self.features(), np.asarray(self.train_labels, np.int64))


def feature_tasks(
    count: int, width: int, classes: int = 4, per_class: int = 12, test_per_class: int = 5, seed: int = 0
) -> list[TaskFeatures]:
    """`count` tasks in the feature space of a ROM of `width` features, spread there as real tasks are (bench.synthetic).

    A tenth of the pictures lies part of the way to another task. Raises ConfigError for numbers that make no task.
    """
    _check(count, classes, per_class, test_per_class, CLASSES)
    if not 16 <= width <= 1 << 16:
        raise ConfigError(f"features of a ROM are 16 to {1 << 16} numbers, not {width}")
    names, labels, test_labels = _classes(classes), _labels(classes, per_class), _labels(classes, test_per_class)
    return [TaskFeatures(name(i), names, labels, test_labels, i, count, width, seed) for i in range(count)]


@cache
def _world(width: int, seed: int) -> World:
    return World(width, (), seed)


def name(number: int) -> str:
    """Of a synthetic task."""
    return f"synthetic-{number:03}"


def _classes(count: int) -> tuple[str, ...]:
    return tuple(f"class-{c}" for c in range(count))


def _labels(classes: int, per_class: int) -> tuple[int, ...]:
    return tuple(c for c in range(classes) for _ in range(per_class))


def _check(count: int, classes: int, per_class: int, test_per_class: int, most: int) -> None:
    if count < 1 or not 2 <= classes <= most or per_class < MIN_PER_CLASS or test_per_class < 1:
        raise ConfigError(
            f"synthetic tasks need count >= 1, 2 to {most} classes, {MIN_PER_CLASS} training pictures and 1 test picture a "
            f"class; got {count}, {classes}, {per_class} and {test_per_class}"
        )
