"""From a task's features to its bundle: the head by its method, an anchor for every mapper, and the report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import __version__, registry
from edgecl.errors import ConfigError, DataError, EmptyTask
from edgecl.heads.base import Head, Learned
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle
from edgecl.types import Ints, Task

MIN_PER_CLASS = 3  # one to learn from, one to hold out, and one more, or no figure about the class means anything


def check_learnable(name: str, classes: tuple[str, ...], labels: Ints) -> None:
    """Raise EmptyTask or DataError unless there are two classes, and enough pictures of each to learn and to hold out."""
    counts = np.bincount(labels, minlength=len(classes))
    if not len(labels):
        raise EmptyTask(f"'{name}' has no readable picture; nothing to learn from")
    if len(classes) < 2:
        raise DataError(
            f"'{name}' has a single class, '{classes[0]}': there is nothing to tell apart. Add a folder with pictures of "
            f"something else, such as what the camera sees when it is absent"
        )
    few = [f"'{c}' ({n})" for c, n in zip(classes, counts, strict=True) if n < MIN_PER_CLASS]
    if few:
        raise EmptyTask(
            f"'{name}' has too few readable pictures in {', '.join(few[:5])}{' ...' if len(few) > 5 else ''}; each class needs "
            f"at least {MIN_PER_CLASS}. Add pictures, or move those folders away"
        )


def fit(
    task: Task,
    rom: Rom,
    method: str = "linear",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    false_reject: float = 0.05,
    class_false_reject: float = 0.02,
    mappers: Sequence[str] = (),
    previous: Head | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Bundle, Learned, dict[str, float]]:
    """Learn `task` and return its bundle, what the method said, and the seconds of each part.

    false_reject, class_false_reject: stated shares of the task's own pictures that may be called unknown task, unknown class.
    mappers: names to make anchors for, besides the default ones, which every bundle has.
    options: fields of the method's `Config`; an unknown one raises ConfigError with those there are.
    """
    module = registry.load("head method", registry.HEADS, method)
    try:
        config = module.Config(**{**(options or {}), "seed": seed, "false_reject": class_false_reject})
    except TypeError as error:
        raise ConfigError(f"method '{method}': {error}; it takes {', '.join(module.Config.__dataclass_fields__)}") from error
    started = clock()
    with threadpool_limits(1, "blas"):  # small matrices: more threads only get into the runtime's way
        learned: Learned = module.learn(task, rom, config, previous)
        fitted = clock()
        anchors = {
            name: registry.load("mapper", registry.MAPPERS, name).anchor(task.features, task.labels, false_reject, seed)
            for name in dict.fromkeys((*registry.DEFAULT_MAPPERS, *mappers))
        }
    seconds = {"head": fitted - started, "anchors": clock() - fitted}
    counts = np.bincount(task.labels, minlength=len(task.classes))
    versions = {"edgecl": __version__, "numpy": np.__version__, "python": platform.python_version(), rom.runtime: rom.version}
    provenance = {
        "pictures": len(task),
        "per_class": {name: int(n) for name, n in zip(task.classes, counts, strict=True)},
        "seed": seed,
        "versions": versions,
        "runtime": f"{rom.runtime}/{rom.provider}",
    }
    return Bundle(task.name, learned.head, anchors, learned.report, provenance), learned, seconds
