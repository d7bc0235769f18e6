"""What is learned, in the order in which it comes: samples, experiences, streams; and one task of the device, as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from edgecl.types import Ints


@dataclass(frozen=True)
class TaskPictures:
    """One task to be judged on: its training and test pictures, with labels into `classes`.

    train, test: paths, or (h, w) or (h, w, 3) uint8 arrays; no picture is in both. They may be made when they are asked for.
    """

    name: str
    classes: tuple[str, ...]
    train: Sequence[Any]
    train_labels: tuple[int, ...]
    test: Sequence[Any]
    test_labels: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Labelled inputs: x[i] is of class y[i] and comes from group[i].

    x: (n, ...) array; or pictures that are read when they are asked for (`streams.files`), of which slices and index arrays
    give a part, and which `np.asarray` reads.   y: (n,) int64, numbers of the data set's classes.   group: (n,) int64, which
    domain or task a sample is from; zeros where there is one only.
    """

    x: Any
    y: Ints
    group: Ints

    @staticmethod
    def of(x: Any, y: Any, group: Any = 0) -> Samples:
        """From whatever is array-like; `group` may be one number for all."""
        labels = np.asarray(y, np.int64)
        return Samples(x, labels, np.broadcast_to(np.asarray(group, np.int64), labels.shape))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice | Ints) -> Samples:
        return Samples(self.x[rows], self.y[rows], self.group[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.x.shape[1:])


@dataclass(frozen=True)
class Dataset:
    """Samples before anybody has put them into an order. A scenario makes a stream of it.

    classes, groups: names of what `Samples.y` and `Samples.group` number.   val: to choose settings by; may be empty.
    notes: sentences on what was passed over when it was read, safe to print.
    published: scenario -> rows of `train` in the order in which its published stream has them, where there is one.
    pairs: groups whose test samples are pairs, as in `Experience`.
    """

    name: str
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    train: Samples
    val: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    published: Mapping[str, Ints] = field(default_factory=lambda: MappingProxyType({}))
    pairs: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Experience:
    """A stretch of a stream: what a learner sees before it is judged again.

    task: number that a learner may know where the stream gives it (task-incremental), and otherwise never sees.
    train: in the order in which it comes.   val, test: of the same classes and groups; val may be empty.
    pairs: val and test are pairs, two samples after one another, y of both is 1 where they are of one class and else 0; their
    classes need not occur in `train`. A learner is judged by how well its features tell pairs apart.
    """

    name: str
    task: int
    train: Samples
    val: Samples
    test: Samples
    pairs: bool = False

    @property
    def classes(self) -> Ints:
        """Numbers of the classes that occur in `train`, ascending."""
        return np.unique(self.train.y)


@dataclass(frozen=True)
class Stream(Sequence[Experience]):
    """Experiences in the order in which they come: length, index, slice.

    classes: names; a class keeps its number throughout.   task_given: learning and predicting, the learner is told the task.
    made: the scenario's options, for the record.
    """

    name: str
    scenario: str
    classes: tuple[str, ...]
    experiences: tuple[Experience, ...]
    task_given: bool = False
    made: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.experiences)

    def __iter__(self) -> Iterator[Experience]:
        return iter(self.experiences)

    @overload
    def __getitem__(self, at: int) -> Experience: ...
    @overload
    def __getitem__(self, at: slice) -> Stream: ...
    def __getitem__(self, at: int | slice) -> Experience | Stream:
        return replace(self, experiences=self.experiences[at]) if isinstance(at, slice) else self.experiences[at]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.experiences[0].train.shape
