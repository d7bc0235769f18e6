"""How well a device answers test pictures whose task nobody names.

What comes out, per task and as the unweighted mean over tasks, all in 0..1:
oracle   the task's own head is given; right class
mapper   the mapper finds the right task
joint    both: the mapper finds the task and that head finds the class
answered the same as `infer` says it: "unknown" (task or class) counts as wrong
A task that the device does not know is wrong in all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.device import EdgeDevice
from edgecl.errors import DataError
from edgecl.mapping.base import Assignment
from edgecl.metrics.accuracy import confusion, macro, softmax
from edgecl.pictures.decode import decode
from edgecl.pictures.reading import read_features
from edgecl.types import Floats, Ints, Pixels, Task

FIGURES = ("oracle", "mapper", "joint", "answered", "false_reject", "class_false_reject")
Flags = NDArray[np.bool_]
Plugged = dict[tuple[str, str], dict[int, Floats]]  # (digest of a bundle, task of the pictures) -> picture -> (d,) features


@dataclass(frozen=True)
class Judged:
    """What judging gave.

    tasks: task -> its FIGURES; false_reject and class_false_reject: shares called unknown task, unknown class.
    confusion: (T, T) true task against found task; a task found that is not among the T counts nowhere.
    confidence, correct: (n,) for all pictures in a row: how sure the class is, and whether task and class are both right.
    """

    tasks: Mapping[str, Mapping[str, float]]
    confusion: Ints
    confidence: Floats
    correct: Flags

    @property
    def summary(self) -> dict[str, float]:
        """Each of FIGURES as the mean over tasks."""
        return {name: macro([row[name] for row in self.tasks.values()]) for name in FIGURES}


def read_task(device: EdgeDevice, name: str, classes: Sequence[str], pictures: Sequence[Any], labels: Sequence[int]) -> Task:
    """The pictures that can be read, as plain features: from the device's cache where they are known to it.

    Raises DataError when there is none.
    """
    cache = device.feature_cache()
    try:
        reading = read_features(device.rom, pictures, cache)
    finally:
        if cache:
            cache.close()
    if not len(reading.kept):
        raise DataError(f"'{name}' has no readable picture to test with")
    kept = tuple(pictures[i] for i in reading.kept)
    return Task(name, tuple(classes), reading.features, np.asarray(labels, np.int64)[reading.kept], kept)


class HeadScores:
    """Scores of test pictures by the heads in force on a device.

    plugged: what heads with plugs have made of which pictures. It is filled here, and may be shared by the devices of one ROM
    on one runtime: a bundle's digest stands for its head wherever it lies.
    """

    def __init__(self, device: EdgeDevice, plugged: Plugged | None = None) -> None:
        self._device, self._plugged = device, {} if plugged is None else plugged

    def forget(self) -> None:
        """Ask the ROM again from now on."""
        self._plugged.clear()

    def knows(self, name: str, scores: Floats) -> Flags:
        """Which of the scored pictures are of a class that task `name` knows."""
        return self._device.head(name).knows(scores)

    def labels(self, name: str, test: Task) -> Ints:
        """(n,) of the test pictures as the head of task `name` numbers its classes, which may have come in another order.

        -1 for a class that it does not know.
        """
        number = {label: i for i, label in enumerate(self._device.head(name).classes)}
        return np.array([number.get(label, -1) for label in test.classes], np.int64)[test.labels]

    def scores(self, name: str, test: Task, rows: Ints | None = None) -> Floats:
        """Scores (m, k) of the test pictures, or of some of them, by the head of task `name`."""
        head = self._device.head(name)
        some = np.arange(len(test)) if rows is None else rows
        if not head.plugs:
            return head.scores(test.features[some])
        digest = self._device.bank.current()[name]
        again = self._again(digest, test, some, lambda pixels: self._device.rom.features(pixels, head.plugs))
        return head.scores(test.features[some], again)

    def _again(self, network: str, test: Task, rows: Ints, features: Callable[[list[Pixels]], Floats]) -> Floats:
        """(m, d) features of those pictures by another network than the plain ROM; each is asked for once."""
        seen = self._plugged.setdefault((network, test.name), {})
        if missing := [row for row in rows.tolist() if row not in seen]:
            pixels = [decode(test.pictures[row], self._device.rom.preprocess) for row in missing]
            seen.update(zip(missing, features(pixels), strict=True))
        return np.stack([seen[row] for row in rows.tolist()])


def judge(device: EdgeDevice, tests: Sequence[Task], scores: HeadScores | None = None, given: bool = False) -> Judged:
    """Ask `device` about the test pictures of every task, and count.

    tests: from `read_task`, each name once.   scores: to remember what heads with plugs say; None asks anew.
    given: the task is named with each picture, the mapper is not asked.
    """
    scores = scores or HeadScores(device)
    order = {test.name: i for i, test in enumerate(tests)}
    names = device.mapper.tasks
    place = np.array([order.get(name, -1) for name in names], np.int64)  # the mapper's order -> ours
    rows: dict[str, dict[str, float]] = {}
    all_found, all_sure, all_right = [], [], []
    for t, test in enumerate(tests):
        n, known_task = len(test), test.name in names
        labels = scores.labels(test.name, test) if known_task else test.labels
        own = scores.scores(test.name, test).argmax(1) == labels if known_task else np.zeros(n, np.bool_)
        assigned = _named(n, names.index(test.name)) if given and known_task else device.mapper.assign(test.features)
        found = place[assigned.task] if names else np.full(n, -1)
        right, sure, known = np.zeros(n, np.bool_), np.zeros(n, np.float32), assigned.known.copy()
        for other in np.unique(assigned.task) if names else ():
            some = np.flatnonzero(assigned.task == other)
            said = scores.scores(names[other], test, some)
            known[some] &= scores.knows(names[other], said)
            sure[some] = softmax(said).max(1)
            if place[other] == t:
                right[some] = said.argmax(1) == labels[some]
        rows[test.name] = {
            "oracle": float(own.mean()),
            "mapper": float((found == t).mean()),
            "joint": float(right.mean()),
            "answered": float((right & known).mean()),
            "false_reject": float((~assigned.known).mean()),
            "class_false_reject": float((assigned.known & ~known).mean()),
        }
        all_found.append(found)
        all_sure.append(sure)
        all_right.append(right)
    truth = np.repeat(np.arange(len(tests)), [len(test) for test in tests])
    counts = confusion(truth, np.concatenate(all_found), len(tests))
    return Judged(rows, counts, np.concatenate(all_sure), np.concatenate(all_right))


def score_digest(scores: Floats) -> str:
    """What tells whether two lots of scores are the same to the bit."""
    return hashlib.sha256(scores.tobytes()).hexdigest()


def _named(n: int, task: int) -> Assignment:
    nothing = np.zeros(n, np.float32)
    return Assignment(np.full(n, task), nothing, nothing, np.ones(n, np.bool_))
