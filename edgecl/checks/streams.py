"""What every scenario must satisfy.

`make` turns (data set, seed) into a stream. Each check raises AssertionError with a sentence. `CHECKS` fit every scenario,
`ONCE` those in which a sample comes once, `UNCHANGED` those that leave the inputs as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgecl.streams.base import Dataset, Samples, Stream

Make = Callable[[Dataset, int], Stream]
Check = Callable[[Make, Dataset], None]


def domains() -> Dataset:
    """Points of six classes in three domains, every class in every domain, in no order."""
    return _dataset("domains", np.repeat(np.arange(18) // 3, 8), np.repeat(np.arange(18) % 3, 8), ("a", "b", "c"))


def tasks() -> Dataset:
    """Points of six classes in three tasks of two classes each, and twice as many as in the one before; nothing to validate."""
    y = np.repeat(np.arange(6), [8, 8, 16, 16, 32, 32])
    made = _dataset("tasks", y, y // 2, ("a", "b", "c"))
    return replace(made, val=made.val[:0])


def check_training_samples_belong_to_the_data_set(make: Make, data: Dataset) -> None:
    """No experience is empty, and its labels and groups are numbers of the data set's names."""
    stream = make(data, 0)
    assert len(stream) >= 1 and stream.classes == data.classes, f"'{stream.scenario}' changes the classes, or is empty"
    for e in stream:
        assert len(e.train) and len(e.test), f"'{stream.scenario}': experience '{e.name}' lacks training or test samples"
        for part in (e.train, e.val, e.test):
            assert part.y.dtype == part.group.dtype == np.int64, f"'{stream.scenario}' gives labels of another type"
            assert len(part.x) == len(part.y) == len(part.group), f"'{stream.scenario}' gives not as many inputs as labels"
            assert part.shape == data.train.shape, f"'{stream.scenario}' changes the shape of inputs"
            for numbers, names in ((part.y, data.classes), (part.group, data.groups)):
                assert ((numbers >= 0) & (numbers < len(names))).all(), f"'{stream.scenario}' gives a label out of range"


def check_test_samples_are_of_what_was_learned(make: Make, data: Dataset) -> None:
    """Who has learned an experience has met every class in every group that it is judged on there."""
    stream = make(data, 0)
    for e in stream:
        learned = _kinds(e.train)
        for part in (e.val, e.test):
            assert _kinds(part) <= learned, f"'{stream.scenario}': '{e.name}' is judged on what does not occur in it"


def check_same_seed_same_stream(make: Make, data: Dataset) -> None:
    """To the bit; and making it leaves the data set as it was."""
    before = [_bytes(part) for part in (data.train, data.val, data.test)]
    first, second = make(data, 3), make(data, 3)
    for a, b in zip(first, second, strict=True):
        equal = [_bytes(p) == _bytes(q) for p, q in ((a.train, b.train), (a.val, b.val), (a.test, b.test))]
        assert all(equal) and a.name == b.name, f"'{first.scenario}' differs at '{a.name}' between two streams of one seed"
    assert before == [_bytes(part) for part in (data.train, data.val, data.test)], f"'{first.scenario}' changes the data set"


def check_slices_are_streams(make: Make, data: Dataset) -> None:
    """A slice is a stream of the same name and kind; an index is an experience, from the end too."""
    stream = make(data, 0)
    part = stream[: max(1, len(stream) - 1)]
    assert isinstance(part, Stream) and part.classes == stream.classes and part.task_given == stream.task_given, (
        f"'{stream.scenario}': a slice is no stream of the same kind"
    )
    assert list(part) == list(stream)[: len(part)], f"'{stream.scenario}': a slice has other experiences"
    assert stream[-1] is stream[len(stream) - 1], f"'{stream.scenario}': an index from the end gives another experience"


def check_tasks_are_numbered_in_their_order(make: Make, data: Dataset) -> None:
    """0, 1, 2, ...; names differ, so that tables can be read."""
    stream = make(data, 0)
    assert [e.task for e in stream] == list(range(len(stream))), f"'{stream.scenario}' numbers its tasks otherwise"
    assert len({e.name for e in stream}) == len(stream), f"'{stream.scenario}' gives two experiences one name"


def check_every_training_sample_comes_once(make: Make, data: Dataset) -> None:
    """As many of each class and group as the data set has; and each test sample is asked about once."""
    stream = make(data, 1)
    for what in ("train", "test"):
        seen = sum((Counter(_pairs(getattr(e, what))) for e in stream), Counter())
        assert seen == Counter(_pairs(getattr(data, what))), f"'{stream.scenario}' loses or repeats {what} samples"


def check_inputs_are_left_as_they_are(make: Make, data: Dataset) -> None:
    """Each input keeps its label, and comes once."""
    stream = make(data, 1)
    for what in ("train", "test"):
        seen = sum((Counter(_rows(getattr(e, what))) for e in stream), Counter())
        assert seen == Counter(_rows(getattr(data, what))), f"'{stream.scenario}' changes {what} samples, or their labels"


CHECKS: tuple[Check, ...] = (
    check_training_samples_belong_to_the_data_set,
    check_test_samples_are_of_what_was_learned,
    check_same_seed_same_stream,
    check_slices_are_streams,
    check_tasks_are_numbered_in_their_order,
)
ONCE: tuple[Check, ...] = (check_every_training_sample_comes_once,)
UNCHANGED: tuple[Check, ...] = (check_inputs_are_left_as_they_are,)


def _dataset(name: str, y: np.ndarray, group: np.ndarray, groups: tuple[str, ...]) -> Dataset:
    rng = np.random.default_rng(5)
    made = []
    for share in (1, 2, 2):
        rows = rng.permutation(np.arange(0, len(y), share))
        points = np.stack([y, group], 1)[rows] + rng.normal(0, 0.1, (len(rows), 2))
        made.append(Samples.of(points, y[rows], group[rows]))
    train, val, test = made
    return Dataset(name, tuple(f"class {c}" for c in range(int(y.max()) + 1)), groups, train, val, test)


def _pairs(samples: Samples) -> list[tuple[int, int]]:
    return list(zip(samples.y.tolist(), samples.group.tolist(), strict=True))


def _kinds(samples: Samples) -> set[tuple[int, int]]:
    return set(_pairs(samples))


def _rows(samples: Samples) -> list[tuple[bytes, tuple[int, int]]]:
    return [(x.tobytes(), pair) for x, pair in zip(samples.x, _pairs(samples), strict=True)]


def _bytes(samples: Samples) -> tuple[bytes, bytes, bytes]:
    return np.ascontiguousarray(samples.x).tobytes(), samples.y.tobytes(), samples.group.tobytes()
