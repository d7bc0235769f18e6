"""What every head method must satisfy.

`method` is the method's module, registered under its name; `rom` an open ROM; `options` fields of the method's `Config`.
Each check raises AssertionError with a sentence. `check` runs them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgecl.checks import synthetic
from edgecl.errors import BundleError
from edgecl.heads.base import Head, Learned
from edgecl.rom.base import Rom
from edgecl.sharing import bundle
from edgecl.types import Arrays, Floats, Task

Options = Mapping[str, Any]
Check = Callable[[Any, Rom, Options], None]


def check(method: Any, rom: Rom, options: Options = {}) -> None:  # noqa: B006 (a Mapping, never changed)
    """Every check of this module."""
    for one in CHECKS:
        one(method, rom, options)


def check_tells_classes_apart(method: Any, rom: Rom, options: Options) -> None:
    """On new pictures of an easy task it is nearly always right, and it said so beforehand."""
    learned, task = _learn(method, rom, options, per_class=25)
    new = synthetic.task(width=rom.width, per_class=40, seed=1)
    accuracy = float((learned.head.scores(new.features).argmax(1) == new.labels).mean())
    assert accuracy > 0.9, f"{_name(learned)} is right for {accuracy:.2f} of new pictures of an easy task"
    stated = learned.report["validation_accuracy"]
    assert abs(stated - accuracy) < 0.15, (
        f"{_name(learned)} reports an accuracy of {stated:.2f}, on new pictures it is {accuracy:.2f}"
    )
    assert learned.held_out.shape == (len(task), len(task.classes)), (
        f"{_name(learned)} gives held-out scores {learned.held_out.shape}"
    )


def check_survives_bytes(method: Any, rom: Rom, options: Options) -> None:
    """Through a bundle's bytes and back, it answers bit for bit the same."""
    learned, task = _learn(method, rom, options)
    back = bundle.from_bytes(bundle.Bundle(task.name, learned.head, {}, learned.report).to_bytes())
    assert back.head.classes == task.classes, f"{_name(learned)} comes back with other class names"
    same = np.array_equal(learned.head.scores(task.features), back.head.scores(task.features))
    assert same, f"{_name(learned)} scores differently after a way through a bundle's bytes"
    assert back.head.unknown_below == learned.head.unknown_below, (
        f"{_name(learned)} comes back with another unknown-class threshold"
    )


def check_learn_leaves_its_task_untouched(method: Any, rom: Rom, options: Options) -> None:
    """The features and labels are the caller's, who learns other methods from them."""
    task = _task(rom)
    before = task.features.copy(), task.labels.copy()
    learned = method.learn(task, rom, method.Config(**options))
    learned.head.scores(task.features)
    assert np.array_equal(task.features, before[0]), f"{_name(learned)} changes the features it learns from"
    assert np.array_equal(task.labels, before[1]), f"{_name(learned)} changes the labels it learns from"


def check_same_seed_gives_the_same_head(method: Any, rom: Rom, options: Options) -> None:
    """Learning is repeatable to the last bit."""
    first, second = (_learn(method, rom, options)[0] for _ in range(2))
    for name, value in first.head.arrays.items():
        again = second.head.arrays[name]
        assert value.dtype == again.dtype and np.array_equal(value, again), (
            f"{_name(first)}: '{name}' differs when learned again with one seed"
        )
    assert first.head.settings == second.head.settings, f"{_name(first)}: settings differ when learned again with one seed"


def check_scores_are_finite_float32(method: Any, rom: Rom, options: Options) -> None:
    """(n, k) float32 for any n, 0 and 1 included, and for features far from all it has seen."""
    learned, task = _learn(method, rom, options)
    for x in (task.features, task.features[:1], task.features[:0], task.features * 0, task.features * 1000):
        _require_scores(learned, x)


def check_scores_do_not_depend_on_the_batch(method: Any, rom: Rom, options: Options) -> None:
    """A picture's answer is its own: alone or among others, the scores agree up to rounding."""
    learned, task = _learn(method, rom, options)
    together = learned.head.scores(task.features)
    alone = np.concatenate([learned.head.scores(row[None]) for row in task.features])
    limit = 1e-4 * max(1.0, float(np.abs(together).max()))
    assert np.abs(together - alone).max() <= limit, f"{_name(learned)} scores a picture differently in a batch"


def check_refuses_arrays_that_do_not_fit(method: Any, rom: Rom, options: Options) -> None:
    """`check` accepts its own head, and refuses it with an array missing, more, or of another shape, or with a class more."""
    learned, _ = _learn(method, rom, options)
    learned.head.check()
    for what, head in _spoiled(learned.head):
        try:
            head.check()
        except BundleError as error:
            assert str(error), f"{_name(learned)} refuses a head {what} without a sentence"
        else:
            raise AssertionError(f"{_name(learned)}: check() accepts a head {what}")


def check_few_pictures(method: Any, rom: Rom, options: Options) -> None:
    """Three pictures a class are enough to learn something."""
    learned, task = _learn(method, rom, options, per_class=3)
    _require_scores(learned, task.features)
    new = synthetic.task(width=rom.width, per_class=40, seed=1)
    accuracy = float((learned.head.scores(new.features).argmax(1) == new.labels).mean())
    assert accuracy > 1.5 / len(task.classes), (
        f"{_name(learned)} learned nothing from three pictures a class: {accuracy:.2f} right"
    )


def check_two_classes(method: Any, rom: Rom, options: Options) -> None:
    """The smallest task there is."""
    learned, task = _learn(method, rom, options, classes=2)
    _require_scores(learned, task.features)


def check_constant_features(method: Any, rom: Rom, options: Options) -> None:
    """Pictures that the ROM cannot tell apart, or sees nothing in, give a head without a class it is sure of, no crash."""
    task = _task(rom)
    for value in (0.0, 1.0):
        constant = dataclasses.replace(task, features=np.full_like(task.features, value))
        learned = method.learn(constant, rom, method.Config(**options))
        _require_scores(learned, constant.features)
        _require_scores(learned, task.features)
    partly = task.features.copy()
    partly[:, ::2] = 0
    _require_scores(method.learn(dataclasses.replace(task, features=partly), rom, method.Config(**options)), partly)


def check_imbalance(method: Any, rom: Rom, options: Options) -> None:
    """With a hundred pictures of one class to each of another, the rare class is still found."""
    common = synthetic.task(classes=2, per_class=300, width=rom.width)
    keep = np.concatenate([np.flatnonzero(common.labels == 0), np.flatnonzero(common.labels == 1)[:3]])
    learned = method.learn(
        dataclasses.replace(common, features=common.features[keep], labels=common.labels[keep]), rom, method.Config(**options)
    )
    new = synthetic.task(classes=2, per_class=40, width=rom.width, seed=1)
    rare = float((learned.head.scores(new.features).argmax(1) == 1)[new.labels == 1].mean())
    assert rare > 0.5, f"{_name(learned)} finds {rare:.2f} of a class that is a hundred times rarer"


CHECKS: tuple[Check, ...] = (
    check_tells_classes_apart,
    check_survives_bytes,
    check_learn_leaves_its_task_untouched,
    check_same_seed_gives_the_same_head,
    check_scores_are_finite_float32,
    check_scores_do_not_depend_on_the_batch,
    check_refuses_arrays_that_do_not_fit,
    check_few_pictures,
    check_two_classes,
    check_constant_features,
    check_imbalance,
)


def _task(rom: Rom, classes: int = 3, per_class: int = 20) -> Task:
    return synthetic.task(classes, per_class, rom.width)


def _learn(method: Any, rom: Rom, options: Options, classes: int = 3, per_class: int = 20) -> tuple[Learned, Task]:
    task = _task(rom, classes, per_class)
    return method.learn(task, rom, method.Config(**options)), task


def _name(learned: Learned) -> str:
    return f"head method '{learned.head.method}'"


def _require_scores(learned: Learned, features: Floats) -> None:
    scores, wanted = learned.head.scores(features), (len(features), len(learned.head.classes))
    assert scores.shape == wanted, f"{_name(learned)} gives scores {scores.shape} for {wanted}"
    assert scores.dtype == np.float32, f"{_name(learned)} gives scores of dtype {scores.dtype}, not float32"
    assert np.isfinite(scores).all(), f"{_name(learned)} gives non-finite scores"


def _spoiled(head: Head) -> Iterator[tuple[str, Head]]:
    def having(arrays: Arrays) -> Head:
        return dataclasses.replace(head, arrays=arrays)

    yield "without arrays", having({})
    yield "with a foreign array", having({**head.arrays, "foreign": np.zeros(3, np.float32)})
    yield "with a class more than it has scores for", dataclasses.replace(head, classes=(*head.classes, "one more"))
    for name, value in head.arrays.items():
        yield f"without '{name}'", having({k: v for k, v in head.arrays.items() if k != name})
        yield f"whose '{name}' has another rank", having({**head.arrays, name: value[None]})
        yield f"whose '{name}' is empty", having({**head.arrays, name: value[:0]})
        yield f"whose '{name}' is a row short", having({**head.arrays, name: value[:-1]})
        yield f"whose '{name}' is whole numbers", having({**head.arrays, name: np.zeros(value.shape, np.int64)})
