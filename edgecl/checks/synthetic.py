"""Features to check heads and mappers with: like a pooled ROM's, non-negative and heavy-tailed, and without a ROM."""

from __future__ import annotations

import numpy as np

from edgecl.types import Floats, Ints, Task


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
