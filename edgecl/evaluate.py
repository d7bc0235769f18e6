"""Learn every task, one after another, on a real device; then ask about every test picture without naming its task.

What comes out, per task and as the unweighted mean over tasks, all in 0..1:
oracle   the task's own head is given; right class
mapper   the mapper finds the right task
joint    both: the mapper finds the task and that head finds the class
answered the same as `infer` says it: "unknown" (task or class) counts as wrong
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgecl import learning, registry
from edgecl.device import EdgeDevice, LearnReport
from edgecl.errors import ConfigError, DataError
from edgecl.heads.base import lead
from edgecl.learning_apart import fitted, learn_apart
from edgecl.mapping.base import Assignment, Mapper
from edgecl.metrics.accuracy import confusion, forgetting, macro, softmax
from edgecl.metrics.calibration import expected_calibration_error, reliability
from edgecl.metrics.detection import auroc, roc
from edgecl.pictures.decode import decode
from edgecl.pictures.folders import scan
from edgecl.pictures.reading import Progress, read_features, silent
from edgecl.streams.base import TaskPictures
from edgecl.types import Floats, Ints, Task, task_name
from edgecl.workers.pool import Pool

FINETUNE = "finetune"  # besides the head methods: the ceiling, one fine-tuned network per task


@dataclass(frozen=True)
class Evaluation:
    """The result; `to_dict` is what report.json holds."""

    summary: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, Any]]
    conditions: Mapping[str, Any]
    confusion: Ints  # (T, T) true task against found task
    curve: Sequence[float] = ()  # mean joint accuracy after 1, 2, ... tasks
    unknown_roc: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    reliability: tuple[NDArray[np.float64], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "summary": dict(self.summary),
            "tasks": {name: dict(values) for name, values in self.tasks.items()},
            "conditions": dict(self.conditions),
            "confusion": {"tasks": list(self.tasks), "counts": self.confusion.tolist()},
            "curve": list(self.curve),
            "unknown_roc": {name: [list(axis) for axis in curve] for name, curve in self.unknown_roc.items()},
            "reliability": [list(map(float, row)) for row in self.reliability],
        }


def find_tasks(folder: Path) -> list[TaskPictures]:
    """Every sub-folder of `folder` that has training and test pictures, by name. Raises DataError when there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; evaluate takes a folder of tasks, each with train/ and test/ inside")
    found = []
    for place in sorted(path.parent for path in folder.glob("*/train") if path.is_dir()):
        if place.name.startswith("."):
            continue
        train = scan(place, "train")
        test = scan(place, "test", train.classes)
        found.append(TaskPictures(task_name(place.name), train.classes, train.files, train.labels, test.files, test.labels))
    if not found:
        raise DataError(
            f"{folder} has no sub-folder with train/ inside; evaluate takes a folder of tasks, each with train/ and test/"
        )
    return found


def evaluate(
    device: EdgeDevice,
    tasks: Sequence[TaskPictures],
    method: str = "linear",
    recipe: str = "default",
    oracle: bool = False,
    seed: int = 0,
    unknown_classes: bool = False,
    progress: Progress = silent,
    pool: Pool | None = None,
) -> Evaluation:
    """Learn `tasks` in their order on `device` and judge it on their test pictures.

    device: an empty one; what it learns stays in its bank.   oracle: the task is given, the mapper is not asked.
    unknown_classes: leave each class out of its task in turn as well, which learns a head for every class.
    pool: of learners (`learning_apart.learners`), who learn the tasks at the same time; the device keeps what they learned, in
    the tasks' order. All figures but seconds are the same as without.
    """
    started = time.perf_counter()
    total = len(tasks)
    whole_network = method == FINETUNE
    if whole_network and recipe != "default":
        raise ConfigError(f"finetune has no recipe '{recipe}', only default")
    if whole_network and unknown_classes:
        raise ConfigError("--unknown-classes learns a head for every class; with a whole network for each it is not offered")
    if whole_network and pool:
        raise ConfigError("finetune learns a whole network for each task, in this process only; leave out --ray and --workers")
    features: list[Floats] = []
    truth: list[Ints] = []
    seconds, sizes, digests, prints, first, curve = [], [], [], [], [], []
    tests: list[Sequence[Any]] = []
    methods: list[str] = []
    asked = _Scores(device, tests, whole_network)
    apart = learn_apart(pool, tasks, method, recipe, seed) if pool else []
    for number, task in enumerate(tasks):
        learned = device.keep(fitted(apart[number])) if pool else _learn(device, task, method, recipe, seed, progress)
        spent, stored = learned.seconds["total"], learned.bytes
        if whole_network:
            spent, stored = asked.learn(task, seed)
        methods.append(device.head(task.name).method if not whole_network else method)
        seconds.append(spent)
        sizes.append(stored)
        digests.append(learned.digest)
        x, y, pictures = _read(device, task.name, task.test, task.test_labels)
        features.append(x)
        truth.append(y)
        tests.append(pictures)
        scores = asked.scores(task.name, number, x)
        first.append(float((scores.argmax(1) == y).mean()))
        prints.append(_print(scores))
        curve.append(macro([v["joint"] for v in _judge(device, tasks[: number + 1], features, truth, oracle, asked)[0]]))
        progress("learning and testing tasks", number + 1, total)
    rows, assigned, confidence, correct = _judge(device, tasks, features, truth, oracle, asked)
    last = [row["oracle"] for row in rows]
    asked.forget()  # asked afresh, not remembered
    identical = all(
        _print(asked.scores(t.name, i, x)) == prints[i] for i, (t, x) in enumerate(zip(tasks, features, strict=True))
    )
    unchanged = [device.bank.current()[task.name] for task in tasks] == digests
    curves, strangers = ({}, [{}] * total) if oracle or total < 2 else _unknown(device, tasks, features, progress)
    if unknown_classes:
        found = _unknown_classes(device, tasks, features, truth, method, recipe, seed, progress)
        strangers = [old | new for old, new in zip(strangers, found, strict=True)]
    per_task = {
        task.name: {
            **row,
            **strangers[i],
            "method": methods[i],
            "learn_seconds": round(seconds[i], 3),
            "bytes": sizes[i],
            "pictures": len(task.train),
            "test_pictures": len(truth[i]),
            "classes": len(task.classes),
        }
        for i, (task, row) in enumerate(zip(tasks, rows, strict=True))
    }
    names = ("oracle", "mapper", "joint", "answered", "false_reject", "class_false_reject")
    summary = {name: macro([row[name] for row in rows]) for name in names} | {
        **{
            key: macro([row[key] for row in strangers if key in row])
            for key in dict.fromkeys(k for row in strangers for k in row)
        },
        "forgetting": forgetting(first, last),
        "old_answers_bit_identical": float(identical and unchanged),
        "expected_calibration_error": expected_calibration_error(confidence, correct),
        "learn_seconds": macro(seconds),
        "bytes_per_task": macro(sizes),
    }
    conditions = {
        "method": method,
        "recipe": recipe,
        "mapper": "oracle" if oracle else device.mapper.name,
        "stated_false_reject": device.config.false_reject,
        "stated_class_false_reject": device.config.class_false_reject,
        "tasks": total,
        "classes": sum(len(task.classes) for task in tasks),
        "seed": seed,
        "rom_id": device.rom.rom_id,
        "backbone": device.rom.image.backbone,
        "ran_on": f"{device.rom.runtime} {device.rom.provider}",
        "seconds": round(time.perf_counter() - started, 1),
    }
    counts = confusion(np.repeat(np.arange(total), [len(y) for y in truth]), assigned, total)
    return Evaluation(summary, per_task, conditions, counts, curve, curves, reliability(confidence, correct))


class _Scores:
    """Scores of the test pictures by the heads in force; what a head with plugs has answered is remembered.

    tests: the readable test pictures of each task so far; grows outside.   whole_network: each task has a network of its own
    in place of its head, fine-tuned from the ROM's: the ceiling that heads are held against.
    """

    def __init__(self, device: EdgeDevice, tests: Sequence[Sequence[Any]], whole_network: bool) -> None:
        self._device, self._tests, self._whole = device, tests, whole_network
        self._plugged: dict[tuple[str, int], Floats] = {}
        self._networks: dict[str, Any] = {}

    def learn(self, task: TaskPictures, seed: int) -> tuple[float, int]:
        """Fine-tune a network for the task; seconds and bytes."""
        from edgecl.learners.finetune import FineTuned

        rom = self._device.rom
        x, y, pictures = _read(self._device, task.name, task.train, task.train_labels)
        began = time.perf_counter()
        pictured = Task(task.name, task.classes, x, y, tuple(pictures))
        limit = self._device.config.class_false_reject
        self._networks[task.name] = tuned = FineTuned(pictured, rom, seed, false_reject=limit)
        return time.perf_counter() - began, tuned.nbytes

    def forget(self) -> None:
        """Ask the ROM again from now on."""
        self._plugged = {}

    def knows(self, name: str, scores: Floats) -> NDArray[np.bool_]:
        """Which of the scored pictures are of a class that task `name` knows."""
        known: NDArray[np.bool_] = (self._networks[name] if self._whole else self._device.head(name)).knows(scores)
        return known

    def scores(self, name: str, t: int, features: Floats, some: NDArray[np.bool_] | None = None) -> Floats:
        """Scores (m, k) of the test pictures of task number `t`, or some of them, by the head of task `name`.

        features: (n, d), plain, of all of the task's test pictures.
        """
        head, which = self._device.head(name), np.ones(len(features), np.bool_) if some is None else some
        if not head.plugs and not self._whole:
            return head.scores(features[which])
        kept = self._plugged.setdefault((name, t), np.full(features.shape, np.nan, np.float32))
        missing = np.flatnonzero(which & np.isnan(kept[:, 0]))
        if len(missing):
            pixels = [decode(self._tests[t][int(i)], self._device.rom.preprocess) for i in missing]
            network = self._networks[name] if self._whole else None
            kept[missing] = network.features(pixels) if network else self._device.rom.features(pixels, head.plugs)
        if self._whole:
            tuned: Floats = self._networks[name].scores(features[which], kept[which])
            return tuned
        return head.scores(features[which], kept[which])


def _learn(device: EdgeDevice, task: TaskPictures, method: str, recipe: str, seed: int, progress: Progress) -> LearnReport:
    """Have the device learn the task; where a whole network is judged, a linear head, which its mapper needs."""
    method = "linear" if method == FINETUNE else method
    return device.learn_pictures(
        task.name, task.train, task.train_labels, task.classes, method=method, recipe=recipe, seed=seed, progress=progress
    )


def _read(device: EdgeDevice, name: str, pictures: Sequence[Any], labels: Sequence[int]) -> tuple[Floats, Ints, list[Any]]:
    """Features, labels and sources of the pictures that can be read."""
    cache = device.feature_cache()
    reading = read_features(device.rom, pictures, cache)
    if cache:
        cache.close()
    if not len(reading.kept):
        raise DataError(f"'{name}' has no readable picture to test with")
    return reading.features, np.asarray(labels, np.int64)[reading.kept], [pictures[i] for i in reading.kept]


def _print(scores: Floats) -> str:
    return hashlib.sha256(scores.tobytes()).hexdigest()


def _assign(device: EdgeDevice, features: Floats, given: int, oracle: bool) -> Assignment:
    if oracle:
        nothing = np.zeros(len(features), np.float32)
        return Assignment(np.full(len(features), given), nothing, nothing, np.ones(len(features), np.bool_))
    return device.mapper.assign(features)


def _judge(
    device: EdgeDevice,
    tasks: Sequence[TaskPictures],
    features: Sequence[Floats],
    truth: Sequence[Ints],
    oracle: bool,
    asked: _Scores,
) -> tuple[list[dict[str, float]], Ints, Floats, Any]:
    """Per task its figures; for all pictures in a row: task found, confidence in the class, task and class both right."""
    order = {task.name: i for i, task in enumerate(tasks)}
    place = np.array([order[name] for name in device.mapper.tasks], np.int64)  # the mapper's order -> ours
    rows, all_found, all_sure, all_right = [], [], [], []
    for t, (task, x, y) in enumerate(zip(tasks, features, truth, strict=True)):
        assigned = _assign(device, x, int(np.flatnonzero(place == t)[0]), oracle)
        found = place[assigned.task]
        right, sure, known = np.zeros(len(y), np.bool_), np.zeros(len(y), np.float32), assigned.known.copy()
        own = asked.scores(task.name, t, x).argmax(1) == y
        for other in np.unique(found):
            some = found == other
            scores = asked.scores(tasks[other].name, t, x, some)
            known[some] &= asked.knows(tasks[other].name, scores)
            sure[some] = softmax(scores).max(1)
            if other == t:
                right[some] = scores.argmax(1) == y[some]
        rows.append(
            {
                "oracle": float(own.mean()),
                "mapper": float((found == t).mean()),
                "joint": float(right.mean()),
                "answered": float((right & known).mean()),
                "false_reject": float((~assigned.known).mean()),
                "class_false_reject": float((assigned.known & ~known).mean()),
            }
        )
        all_found.append(found)
        all_sure.append(sure)
        all_right.append(right)
    return rows, np.concatenate(all_found), np.concatenate(all_sure), np.concatenate(all_right)


def _unknown(
    device: EdgeDevice, tasks: Sequence[TaskPictures], features: Sequence[Floats], progress: Progress
) -> tuple[dict[str, tuple[Sequence[float], Sequence[float]]], list[dict[str, float]]]:
    """Leave each task out in turn: how well its test pictures are told from those of all others. Curves and figures by task.

    auroc: by the strangeness that decides, each task's distance against its own limit.   auroc_distance: by the distance
    alone, as if one limit served all tasks.   caught: share of the pictures called unknown.
    """
    anchors = {name: device.bundle(digest).anchors[device.mapper.name] for name, digest in device.bank.current().items()}
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    figures = []
    grid = np.linspace(0, 1, 101)
    for left_out, task in enumerate(tasks):
        mapper: Mapper = registry.load("mapper", registry.MAPPERS, device.mapper.name)(device.rom.width)
        for other in tasks:
            if other is not task:
                mapper.add(other.name, anchors[other.name])
        strange = mapper.assign(features[left_out])
        usual = mapper.assign(np.concatenate([x for i, x in enumerate(features) if i != left_out]))
        figures.append(
            {
                "unknown_auroc": auroc(usual.strangeness, strange.strangeness),
                "unknown_auroc_distance": auroc(usual.distance, strange.distance),
                "unknown_caught": float((~strange.known).mean()),
            }
        )
        curves[task.name] = (grid.tolist(), np.interp(grid, *roc(usual.strangeness, strange.strangeness)).tolist())
        progress("leaving each task out as the unknown one", left_out + 1, len(tasks))
    return curves, figures


def _unknown_classes(
    device: EdgeDevice,
    tasks: Sequence[TaskPictures],
    features: Sequence[Floats],
    truth: Sequence[Ints],
    method: str,
    recipe: str,
    seed: int,
    progress: Progress,
) -> list[dict[str, float]]:
    """Leave each class out of its task in turn: how well the head tells its test pictures from those of the other classes."""
    module, _ = learning.learner(method)
    config = learning.settings(method, recipe=recipe, seed=seed, false_reject=device.config.class_false_reject)
    figures: list[dict[str, float]] = []
    for number, (task, test, y_test) in enumerate(zip(tasks, features, truth, strict=True)):
        x, y, pictures = _read(device, task.name, task.train, task.train_labels)
        tests = _read(device, task.name, task.test, task.test_labels)[2]
        areas, caught = [], []
        for left_out in range(len(task.classes)) if len(task.classes) > 2 else ():
            own = y != left_out
            left = tuple(p for p, keep in zip(pictures, own, strict=True) if keep)
            rest = Task(task.name, tuple(np.delete(task.classes, left_out)), x[own], y[own] - (y[own] > left_out), left)
            with threadpool_limits(1, "blas"):
                head = module.learn(rest, device.rom, config, None).head
            again = [decode(p, device.rom.preprocess) for p in tests] if head.plugs else []
            scores, strange = head.scores(test, device.rom.features(again, head.plugs) if again else None), y_test == left_out
            if strange.any() and not strange.all():
                areas.append(auroc(-lead(scores[~strange]), -lead(scores[strange])))
                caught.append(float((~head.knows(scores[strange])).mean()))
        figures.append({"class_unknown_auroc": macro(areas), "class_unknown_caught": macro(caught)} if areas else {})
        progress("leaving each class out as the unknown one", number + 1, len(tasks))
    return figures
