"""What to check heads and mappers with: features like a pooled ROM's, non-negative and heavy-tailed, without a ROM; and
pictures, for heads that look again.
"""

from __future__ import annotations

import numpy as np

from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.types import Floats, Ints, Pixels, Task


def features(
    task: int, classes: int, per_class: int, width: int = 64, spread: float = 0.25, seed: int = 0
) -> tuple[Floats, Ints]:
    """Pictures of one Gaussian task: (n, d) float32 and labels (n,) int64, class by class.

    Task and class are directions of their own; pictures of a class vary along 8 directions that the task's classes share,
    and a little along all. task: another number is another task.   spread: of the pictures, against 1 between the tasks.
    seed: another one draws other pictures of the same task.
    """
    shape, draw = np.random.default_rng([7, task]), np.random.default_rng([11, task, seed])
    means = shape.normal(size=width) + 0.6 * shape.normal(size=(classes, width))
    shared = shape.normal(size=(8, width)) / np.sqrt(8)
    labels = np.repeat(np.arange(classes), per_class)
    n = len(labels)
    z = means[labels] + spread * (draw.normal(size=(n, 8)) @ shared + 0.5 * draw.normal(size=(n, width)))
    return np.square(np.maximum(z + 2, 0)).astype(np.float32), labels.astype(np.int64)


def task(classes: int = 3, per_class: int = 20, width: int = 64, number: int = 0, seed: int = 0, spread: float = 0.5) -> Task:
    """`features` as a task."""
    x, y = features(number, classes, per_class, width, spread, seed)
    return Task(f"task-{number}", tuple(f"class-{c}" for c in range(classes)), x, y)


def pictures(classes: int, per_class: int, size: int, seed: int = 0) -> tuple[tuple[Pixels, ...], Ints]:
    """(size, size, 3) uint8 each, and labels (n,), class by class: a coarse pattern of colours per class, under noise.

    Patterns differ so much that a network with random weights tells them apart.   seed: another one draws other pictures of
    the same classes.
    """
    shape, draw = np.random.default_rng([13, classes]), np.random.default_rng([17, classes, seed])
    patterns = 60 * shape.normal(size=(classes, 4, 4, 3)) + 40 * shape.normal(size=(classes, 1, 1, 3))
    labels = np.repeat(np.arange(classes), per_class)
    made = []
    for label in labels:
        coarse = (128 + patterns[label] + 25 * draw.normal(size=(4, 4, 3))).repeat(-(-size // 4), 0).repeat(-(-size // 4), 1)
        noisy = coarse[:size, :size] + 12 * draw.normal(size=(size, size, 3))
        made.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return tuple(made), labels.astype(np.int64)


def pictures_task(rom: Rom, classes: int = 3, per_class: int = 12, seed: int = 0) -> Task:
    """`pictures` as a task, with their features by `rom`."""
    made, labels = pictures(classes, per_class, rom.preprocess.size, seed)
    features = rom.features([decode(picture, rom.preprocess) for picture in made])
    return Task("task-of-pictures", tuple(f"class-{c}" for c in range(classes)), features, labels, made)
