"""From a task's features to its bundle: the head by its method, an anchor for every mapper, and the report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import __version__, registry
from edgecl.errors import BundleError, ConfigError, DataError, EmptyTask
from edgecl.heads.base import QUIET, Head, Learned, Session, checked_classes
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle
from edgecl.types import Ints, Task

MIN_PER_CLASS = 3  # one to learn from, one to hold out, and one more, or no figure about the class means anything


def check_learnable(name: str, classes: tuple[str, ...], labels: Ints) -> None:
    """Raise EmptyTask or DataError unless there are two classes, and enough pictures of each to learn and to hold out."""
    try:
        checked_classes(classes)
    except BundleError as error:
        if len(classes) > 1:  # a head with such names could not be read back
            raise DataError(f"'{name}': {str(error).removeprefix('the bundle is malformed: ')}; rename the classes") from None
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


def card_bytes(task: Task) -> int:
    """At most what a bundle's card takes: names of classes (three times, escaped), report, versions, tensor headers."""
    return 16_000 + sum(4 * len(json.dumps(name)) + 40 for name in task.classes)


def learner(method: str) -> tuple[Any, dict[str, Any]]:
    """The module that learns what `method` names, and the options that the name stands for. Raises UnknownName."""
    registry.check("method", registry.METHODS, method)
    module, options = registry.METHODS[method]
    return import_module(module), dict(options)


def settings(method: str, **options: Any) -> Any:
    """The method's `Config` with these options; those that are None are left to it.

    Raises UnknownName, or ConfigError with the options there are. Made before any picture is read, so that a wrong word
    costs no minutes.
    """
    module, fixed = learner(method)
    if not 0 <= options.get("seed", 0) < 2**63:
        raise ConfigError(f"the seed must lie between 0 and 2^63 - 1, got {options['seed']}")
    given = {key: value for key, value in options.items() if value is not None and key not in fixed}
    known = [name for name in module.Config.__dataclass_fields__ if name not in fixed]
    if wrong := [name for name in given if name not in known]:
        raise ConfigError(f"method '{method}' has no setting '{wrong[0]}'; it takes {', '.join(known)}")
    return module.Config(**given, **fixed)


def fit(
    task: Task,
    rom: Rom,
    method: str,
    config: Any,
    false_reject: float = 0.05,
    mappers: Sequence[str] = (),
    previous: Head | None = None,
    session: Session = QUIET,
    max_bytes: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Bundle, Learned, dict[str, float]]:
    """Learn `task` and return its bundle, what the method said, and the seconds of each part.

    config: of the method, from `settings`.   false_reject: stated share of the task's own pictures that may be called
    unknown task.   mappers: names to make anchors for, besides the default ones, which every bundle has.
    max_bytes: of the bundle; refused with ConfigError before the head is learned when it cannot be kept.
    """
    module, _ = learner(method)
    started = clock()
    with threadpool_limits(1, "blas"):  # small matrices: more threads only get into the runtime's way
        anchors = {
            name: registry.load("mapper", registry.MAPPERS, name).anchor(task.features, task.labels, false_reject, config.seed)
            for name in dict.fromkeys((*registry.DEFAULT_MAPPERS, *mappers))
        }
        anchored = clock()
        if max_bytes is not None:
            taken = sum(value.nbytes for arrays in anchors.values() for value in arrays.values()) + card_bytes(task)
            session = replace(session, head_bytes=max_bytes - taken)
        if session.budget is not None:
            left = session.budget - (anchored - started)
            session = replace(session, budget=left)
            if left <= 0:
                raise ConfigError(
                    f"'{task.name}': the budget is spent before the head is learned. Nothing was changed. Allow more"
                )
        learned: Learned = module.learn(task, rom, config, previous, session)
    seconds = {"head": clock() - anchored, "anchors": anchored - started}
    counts = np.bincount(task.labels, minlength=len(task.classes))
    versions = {"edgecl": __version__, "numpy": np.__version__, "python": platform.python_version(), rom.runtime: rom.version}
    provenance = {
        "pictures": len(task),
        "per_class": {name: int(n) for name, n in zip(task.classes, counts, strict=True)},
        "seed": config.seed,
        "learned_by": {"asked": method, **asdict(config)},
        "versions": versions,
        "rom": {"backbone": rom.image.backbone, "precision": rom.image.precision},
        "runtime": f"{rom.runtime}/{rom.provider}",
    }
    return Bundle(task.name, learned.head, anchors, learned.report, provenance), learned, seconds
