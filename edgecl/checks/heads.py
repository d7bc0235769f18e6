"""What every head method must satisfy.

`method` is the method's module, registered under its name; `rom` an open ROM; `options` fields of the method's `Config`.
All learn from small synthetic pictures, so that methods which look again can. Each check raises AssertionError with a
sentence. `check` runs them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from edgecl.checks import synthetic
from edgecl.errors import BundleError
from edgecl.heads.base import Head, Learned
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.sharing import bundle
from edgecl.types import Arrays, Floats, Pixels, Task

Options = Mapping[str, Any]
Check = Callable[[Any, Rom, Options], None]


def check(method: Any, rom: Rom, options: Options = {}) -> None:  # noqa: B006 (a Mapping, never changed)
    """Every check of this module."""
    for one in CHECKS + ACCURATE:
        one(method, rom, options)


def check_tells_classes_apart(method: Any, rom: Rom, options: Options) -> None:
    """On new pictures of an easy task it is nearly always right, and it said so beforehand."""
    learned, task = _learn(method, rom, options, per_class=20)
    new = synthetic.pictures_task(rom, per_class=20, seed=1)
    accuracy = float((_answers(learned, rom, new).argmax(1) == new.labels).mean())
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
    assert back.head.plugs.key == learned.head.plugs.key, f"{_name(learned)} comes back with other plugs"
    again = back.head.answer(rom, _pixels(rom, task), task.features)
    same = np.array_equal(_answers(learned, rom, task), again)
    assert same, f"{_name(learned)} scores differently after a way through a bundle's bytes"
    assert back.head.unknown_below == learned.head.unknown_below, (
        f"{_name(learned)} comes back with another unknown-class threshold"
    )
    assert back.head.width == rom.width, f"{_name(learned)} says it scores features of width {back.head.width}"


def check_learn_leaves_its_task_untouched(method: Any, rom: Rom, options: Options) -> None:
    """Features, labels and pictures are the caller's, who learns other methods from them; and the ROM stays what it is."""
    task = synthetic.pictures_task(rom)
    before = task.features.copy(), task.labels.copy(), [picture.copy() for picture in task.pictures]
    learned = method.learn(task, rom, method.Config(**options))
    _answers(learned, rom, task)
    assert np.array_equal(task.features, before[0]), f"{_name(learned)} changes the features it learns from"
    assert np.array_equal(task.labels, before[1]), f"{_name(learned)} changes the labels it learns from"
    same = all(np.array_equal(a, b) for a, b in zip(task.pictures, before[2], strict=True))
    assert same, f"{_name(learned)} changes the pictures it learns from"
    assert np.array_equal(rom.features(_pixels(rom, task)), before[0]), f"{_name(learned)} leaves its traces in the ROM"


def check_same_seed_gives_the_same_head(method: Any, rom: Rom, options: Options) -> None:
    """Learning is repeatable to the last bit, whatever was learned in between."""
    first, task = _learn(method, rom, options)
    again = method.learn(task, rom, method.Config(**options))
    for name, value in first.head.arrays.items():
        other = again.head.arrays[name]
        assert value.dtype == other.dtype and np.array_equal(value, other), (
            f"{_name(first)}: '{name}' differs when learned again with one seed"
        )
    assert first.head.settings == again.head.settings, f"{_name(first)}: settings differ when learned again with one seed"


def check_scores_are_finite_float32(method: Any, rom: Rom, options: Options) -> None:
    """(n, k) float32 for any n, 0 and 1 included, and for features far from all it has seen."""
    learned, task = _learn(method, rom, options)
    plain, plugged = _seen(learned, rom, task)
    for some, factor in ((slice(None), 1), (slice(1), 1), (slice(0), 1), (slice(None), 0), (slice(None), 1000)):
        _require_scores(learned, plain[some] * factor, None if plugged is None else plugged[some] * factor)


def check_scores_do_not_depend_on_the_batch(method: Any, rom: Rom, options: Options) -> None:
    """A picture's answer is its own: alone or among others, the scores agree up to rounding."""
    learned, task = _learn(method, rom, options)
    together, pixels = _answers(learned, rom, task), _pixels(rom, task)
    alone = np.concatenate([learned.head.answer(rom, one[None]) for one in pixels])
    limit = 1e-3 * max(1.0, float(np.abs(together).max()))  # rounding in the ROM too
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
    _require_scores(learned, *_seen(learned, rom, task))
    new = synthetic.pictures_task(rom, per_class=20, seed=1)
    accuracy = float((_answers(learned, rom, new).argmax(1) == new.labels).mean())
    assert accuracy > 1.5 / len(task.classes), (
        f"{_name(learned)} learned nothing from three pictures a class: {accuracy:.2f} right"
    )


def check_two_classes(method: Any, rom: Rom, options: Options) -> None:
    """The smallest task there is."""
    learned, task = _learn(method, rom, options, classes=2, per_class=6)
    _require_scores(learned, *_seen(learned, rom, task))


def check_constant_features(method: Any, rom: Rom, options: Options) -> None:
    """Pictures that the ROM cannot tell apart, or sees nothing in, give a head without a class it is sure of, no crash."""
    task = synthetic.pictures_task(rom, per_class=6)
    same = dataclasses.replace(
        task, features=np.repeat(task.features[:1], len(task), 0), pictures=task.pictures[:1] * len(task)
    )
    nothing = dataclasses.replace(same, features=np.zeros_like(task.features))
    for constant in (same, nothing):
        learned = method.learn(constant, rom, method.Config(**options))
        _require_scores(learned, *_seen(learned, rom, constant))
        _require_scores(learned, *_seen(learned, rom, task))
    partly = task.features.copy()
    partly[:, ::2] = 0
    learned = method.learn(dataclasses.replace(task, features=partly), rom, method.Config(**options))
    _require_scores(learned, *_seen(learned, rom, task))


def check_imbalance(method: Any, rom: Rom, options: Options) -> None:
    """With forty times as many pictures of one class as of another, the rare class is still found."""
    common = synthetic.pictures_task(rom, classes=2, per_class=120)
    keep = np.concatenate([np.flatnonzero(common.labels == 0), np.flatnonzero(common.labels == 1)[:3]])
    uneven = dataclasses.replace(
        common,
        features=common.features[keep],
        labels=common.labels[keep],
        pictures=tuple(common.pictures[i] for i in keep),
    )
    learned = method.learn(uneven, rom, method.Config(**options))
    new = synthetic.pictures_task(rom, classes=2, per_class=20, seed=1)
    rare = float((_answers(learned, rom, new).argmax(1) == 1)[new.labels == 1].mean())
    assert rare > 0.5, f"{_name(learned)} finds {rare:.2f} of a class that is forty times rarer"


CHECKS: tuple[Check, ...] = (
    check_survives_bytes,
    check_learn_leaves_its_task_untouched,
    check_same_seed_gives_the_same_head,
    check_scores_are_finite_float32,
    check_scores_do_not_depend_on_the_batch,
    check_refuses_arrays_that_do_not_fit,
    check_two_classes,
    check_constant_features,
)
ACCURATE: tuple[Check, ...] = (  # for options that let the method learn as long as it needs
    check_tells_classes_apart,
    check_few_pictures,
    check_imbalance,
)


def _learn(method: Any, rom: Rom, options: Options, classes: int = 3, per_class: int = 12) -> tuple[Learned, Task]:
    return _learned(method, rom, tuple(options.items()), classes, per_class)


@lru_cache(maxsize=16)  # heads are never changed, and plugs take a second to learn
def _learned(method: Any, rom: Rom, options: tuple[tuple[str, Any], ...], classes: int, per_class: int) -> tuple[Learned, Task]:
    task = synthetic.pictures_task(rom, classes, per_class)
    return method.learn(task, rom, method.Config(**dict(options))), task


def _name(learned: Learned) -> str:
    return f"head method '{learned.head.method}'"


def _pixels(rom: Rom, task: Task) -> Pixels:
    return np.stack([decode(picture, rom.preprocess) for picture in task.pictures])


def _answers(learned: Learned, rom: Rom, task: Task) -> Floats:
    return learned.head.answer(rom, _pixels(rom, task), task.features)


def _seen(learned: Learned, rom: Rom, task: Task) -> tuple[Floats, Floats | None]:
    """What the head scores the task's pictures by: plain features, and those with its plugs."""
    return task.features, rom.features(_pixels(rom, task), learned.head.plugs) if learned.head.plugs else None


def _require_scores(learned: Learned, features: Floats, plugged: Floats | None) -> None:
    scores, wanted = learned.head.scores(features, plugged), (len(features), len(learned.head.classes))
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
