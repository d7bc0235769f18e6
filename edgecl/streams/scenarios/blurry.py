"""Blurry boundaries: class-incremental, but around each boundary the classes of both sides come mixed.

The nearer to the boundary, the more: an overlap that slides from one experience into the next. After Bang et al., Rainbow
Memory: Continual Learning with a Memory of Diverse Samples, CVPR 2021, whose minor classes leak everywhere instead.
"""

from __future__ import annotations

import numpy as np

from edgecl.errors import ConfigError
from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.parts import class_tasks, lay


def blurry(dataset: Dataset, seed: int = 0, *, classes_per_task: int = 0, share: float = 0.1) -> Stream:
    """The experiences of `class_incremental`, as long as there, with their own test samples; some training samples moved.

    share: of an experience's samples, about so many come in the one before or the one after; at most 0.5.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"the share that leaks into neighbouring experiences must lie between 0 and 0.5, got {share:g}")
    tasks, name = class_tasks(dataset, seed, classes_per_task)
    rng = np.random.default_rng([seed, 2])
    numbers = np.unique(tasks[dataset.train.y])
    own = [rng.permutation(np.flatnonzero(tasks[dataset.train.y] == i)) for i in numbers]
    lengths = [len(rows) for rows in own]
    # Places in units of experiences, so that short and long ones blur alike. A sample moves by up to `reach`; those nearer to a
    # boundary than that cross it with (reach - distance) / (2 reach), which over both boundaries adds up to reach / 2.
    reach = 2 * share
    places = np.concatenate([i + (np.arange(n) + 0.5) / n for i, n in enumerate(lengths)])
    moved = np.argsort(places + rng.uniform(-reach, reach, len(places)), kind="stable")
    train = np.split(np.concatenate(own)[moved], np.cumsum(lengths)[:-1])
    val, test = ([np.flatnonzero(tasks[part.y] == i) for i in numbers] for part in (dataset.val, dataset.test))
    return lay(dataset, "blurry", [name(int(i)) for i in numbers], train, val, test)
