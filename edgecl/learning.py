"""From a task's features to its bundle: the head by its method, an anchor for every mapper, and the report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import __version__, registry
from edgecl.errors import BundleError, ConfigError, DataError, EmptyTask
from edgecl.heads.base import QUIET, Head, Learned, Session, checked_classes
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle
from edgecl.types import Arrays, Ints, Task

MIN_PER_CLASS = 3  # one to learn from, one to hold out, and one more, or no figure about the class means anything


@dataclass(frozen=True)
class LearnReport:
    """What learning a task gave. seconds: `reading`, `head`, `anchors`, `commit`, `total`.   bytes: of the bundle."""

    task: str
    method: str
    generation: int
    digest: str
    classes: tuple[str, ...]
    pictures: int
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    validation_accuracy: float
    seconds: Mapping[str, float]
    bytes: int
    ran_on: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Fitted:
    """A task that was learned and is not kept yet: its bundle, unsigned, and what its report will say.

    sketch: of its pictures, for the bank.   seconds: `reading`, `head`, `anchors`.
    """

    bundle: Bundle
    sketch: bytes
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    pictures: int
    seconds: Mapping[str, float]
    ran_on: str


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


def learns_on(method: str) -> bool:
    """Whether it learns picture by picture, going on from what it knows: its module has a `Memory`. Raises UnknownName."""
    return hasattr(learner(method)[0], "Memory")


def learner_on(method: str) -> Any:
    """The module of a method that learns on. Raises ConfigError for another one."""
    module, _ = learner(method)
    if not learns_on(method):
        able = [name for name in registry.HEADS if learns_on(name)]
        raise ConfigError(f"a {method} head does not learn on picture by picture; this can: {', '.join(able)}")
    return module


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
        anchors = make_anchors(task, mappers, false_reject, config.seed)
        anchored = clock()
        if max_bytes is not None:
            session = replace(session, head_bytes=max_bytes - anchor_bytes(anchors) - card_bytes(task))
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
    provenance = origin(rom, method, config, task.classes, counts)
    return Bundle(task.name, learned.head, anchors, learned.report, provenance), learned, seconds


def make_anchors(task: Task, mappers: Sequence[str], false_reject: float, seed: int) -> dict[str, Arrays]:
    """What each default mapper, and each of `mappers`, needs to recognise the task. false_reject: as for `fit`."""
    return {
        name: registry.load("mapper", registry.MAPPERS, name).anchor(task.features, task.labels, false_reject, seed)
        for name in dict.fromkeys((*registry.DEFAULT_MAPPERS, *mappers))
    }


def anchor_bytes(anchors: Mapping[str, Arrays]) -> int:
    """Of their arrays."""
    return sum(int(value.nbytes) for arrays in anchors.values() for value in arrays.values())


def origin(rom: Rom, method: str, config: Any, classes: tuple[str, ...], counts: Ints) -> dict[str, Any]:
    """A bundle's provenance: how, where and from how many pictures of each class, counts (k,), it was learned."""
    versions = {"edgecl": __version__, "numpy": np.__version__, "python": platform.python_version(), rom.runtime: rom.version}
    return {
        "pictures": int(counts.sum()),
        "per_class": {name: int(n) for name, n in zip(classes, counts, strict=True)},
        "seed": config.seed,
        "learned_by": {"asked": method, **asdict(config)},
        "versions": versions,
        "rom": {"backbone": rom.image.backbone, "precision": rom.image.precision},
        "runtime": f"{rom.runtime}/{rom.provider}",
    }
