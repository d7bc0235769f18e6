"""Learn every task, one after another, on a real device; then ask about every test picture without naming its task.

What the figures mean is written in `judging`, which asks and counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgecl import learning, registry
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.heads.base import lead
from edgecl.judging import HeadScores, judge, read_task, score_digest
from edgecl.learning import LearnReport
from edgecl.learning_apart import fitted, learn_apart
from edgecl.mapping.base import Mapper
from edgecl.metrics.accuracy import forgetting, macro
from edgecl.metrics.calibration import expected_calibration_error, reliability
from edgecl.metrics.detection import auroc, roc
from edgecl.pictures.decode import decode
from edgecl.pictures.reading import Progress, silent
from edgecl.streams.base import TaskPictures
from edgecl.types import Floats, Ints, Task
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
    tests: list[Task] = []
    seconds, sizes, digests, prints, first, curve = [], [], [], [], [], []
    methods: list[str] = []
    networks = _NetworkScores(device) if whole_network else None
    asked = networks or HeadScores(device)
    apart = learn_apart(pool, tasks, method, recipe, seed) if pool else []
    for number, task in enumerate(tasks):
        learned = device.keep(fitted(apart[number])) if pool else _learn(device, task, method, recipe, seed, progress)
        spent, stored = learned.seconds["total"], learned.bytes
        if networks:
            spent, stored = networks.learn(_train(device, task), seed)
        methods.append(device.head(task.name).method if not whole_network else method)
        seconds.append(spent)
        sizes.append(stored)
        digests.append(learned.digest)
        test = _test(device, task)
        tests.append(test)
        scores = asked.scores(task.name, test)
        first.append(float((scores.argmax(1) == asked.labels(task.name, test)).mean()))
        prints.append(score_digest(scores))
        curve.append(judge(device, tests, asked, oracle).summary["joint"])
        progress("learning and testing tasks", number + 1, total)
    judged = judge(device, tests, asked, oracle)
    asked.forget()  # asked afresh, not remembered
    identical = all(score_digest(asked.scores(test.name, test)) == seen for test, seen in zip(tests, prints, strict=True))
    unchanged = [device.bank.current()[task.name] for task in tasks] == digests
    curves, strangers = ({}, [{}] * total) if oracle or total < 2 else _unknown(device, tests, progress)
    if unknown_classes:
        found = _unknown_classes(device, tasks, tests, method, recipe, seed, progress)
        strangers = [old | new for old, new in zip(strangers, found, strict=True)]
    per_task = {
        task.name: {
            **judged.tasks[task.name],
            **strangers[i],
            "method": methods[i],
            "learn_seconds": round(seconds[i], 3),
            "bytes": sizes[i],
            "pictures": len(task.train),
            "test_pictures": len(tests[i]),
            "classes": len(task.classes),
        }
        for i, task in enumerate(tasks)
    }
    last = [row["oracle"] for row in judged.tasks.values()]
    summary = judged.summary | {
        **{
            key: macro([row[key] for row in strangers if key in row])
            for key in dict.fromkeys(k for row in strangers for k in row)
        },
        "forgetting": forgetting(first, last),
        "old_answers_bit_identical": float(identical and unchanged),
        "expected_calibration_error": expected_calibration_error(judged.confidence, judged.correct),
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
    sure = reliability(judged.confidence, judged.correct)
    return Evaluation(summary, per_task, conditions, judged.confusion, curve, curves, sure)


class _NetworkScores(HeadScores):
    """Scores by a network of each task's own in place of its head, fine-tuned from the ROM's: the ceiling for heads."""

    def __init__(self, device: EdgeDevice) -> None:
        super().__init__(device)
        self._networks: dict[str, Any] = {}

    def learn(self, task: Task, seed: int) -> tuple[float, int]:
        """Fine-tune a network for the task; seconds and bytes."""
        from edgecl.learners.finetune import FineTuned

        began = time.perf_counter()
        limit = self._device.config.class_false_reject
        self._networks[task.name] = tuned = FineTuned(task, self._device.rom, seed, false_reject=limit)
        return time.perf_counter() - began, tuned.nbytes

    def knows(self, name: str, scores: Floats) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self._networks[name].knows(scores)
        return known

    def scores(self, name: str, test: Task, rows: Ints | None = None) -> Floats:
        some = np.arange(len(test)) if rows is None else rows
        network = self._networks[name]
        tuned: Floats = network.scores(test.features[some], self._again(name, test, some, network.features))
        return tuned


def _learn(device: EdgeDevice, task: TaskPictures, method: str, recipe: str, seed: int, progress: Progress) -> LearnReport:
    """Have the device learn the task; where a whole network is judged, a linear head, which its mapper needs."""
    method = "linear" if method == FINETUNE else method
    return device.learn_pictures(
        task.name, task.train, task.train_labels, task.classes, method=method, recipe=recipe, seed=seed, progress=progress
    )


def _unknown(
    device: EdgeDevice, tests: Sequence[Task], progress: Progress
) -> tuple[dict[str, tuple[Sequence[float], Sequence[float]]], list[dict[str, float]]]:
    """Leave each task out in turn: how well its test pictures are told from those of all others. Curves and figures by task.

    auroc: by the strangeness that decides, each task's distance against its own limit.   auroc_distance: by the distance
    alone, as if one limit served all tasks.   caught: share of the pictures called unknown.
    """
    anchors = {name: device.bundle(digest).anchors[device.mapper.name] for name, digest in device.bank.current().items()}
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    figures = []
    grid = np.linspace(0, 1, 101)
    for left_out in tests:
        mapper: Mapper = registry.load("mapper", registry.MAPPERS, device.mapper.name)(device.rom.width)
        for other in tests:
            if other is not left_out:
                mapper.add(other.name, anchors[other.name])
        strange = mapper.assign(left_out.features)
        usual = mapper.assign(np.concatenate([test.features for test in tests if test is not left_out]))
        figures.append(
            {
                "unknown_auroc": auroc(usual.strangeness, strange.strangeness),
                "unknown_auroc_distance": auroc(usual.distance, strange.distance),
                "unknown_caught": float((~strange.known).mean()),
            }
        )
        curves[left_out.name] = (grid.tolist(), np.interp(grid, *roc(usual.strangeness, strange.strangeness)).tolist())
        progress("leaving each task out as the unknown one", len(curves), len(tests))
    return curves, figures


def _unknown_classes(
    device: EdgeDevice,
    tasks: Sequence[TaskPictures],
    tests: Sequence[Task],
    method: str,
    recipe: str,
    seed: int,
    progress: Progress,
) -> list[dict[str, float]]:
    """Leave each class out of its task in turn: how well the head tells its test pictures from those of the other classes."""
    module, _ = learning.learner(method)
    config = learning.settings(method, recipe=recipe, seed=seed, false_reject=device.config.class_false_reject)
    figures: list[dict[str, float]] = []
    for number, (task, test) in enumerate(zip(tasks, tests, strict=True)):
        train = _train(device, task)
        x, y, pictures = train.features, train.labels, train.pictures
        areas, caught = [], []
        for left_out in range(len(task.classes)) if len(task.classes) > 2 else ():
            own = y != left_out
            left = tuple(p for p, keep in zip(pictures, own, strict=True) if keep)
            rest = Task(task.name, tuple(np.delete(task.classes, left_out)), x[own], y[own] - (y[own] > left_out), left)
            with threadpool_limits(1, "blas"):
                head = module.learn(rest, device.rom, config, None).head
            again = [decode(p, device.rom.preprocess) for p in test.pictures] if head.plugs else []
            scores, strange = (
                head.scores(test.features, device.rom.features(again, head.plugs) if again else None),
                test.labels == left_out,
            )
            if strange.any() and not strange.all():
                areas.append(auroc(-lead(scores[~strange]), -lead(scores[strange])))
                caught.append(float((~head.knows(scores[strange])).mean()))
        figures.append({"class_unknown_auroc": macro(areas), "class_unknown_caught": macro(caught)} if areas else {})
        progress("leaving each class out as the unknown one", number + 1, len(tasks))
    return figures


def _train(device: EdgeDevice, task: TaskPictures) -> Task:
    return read_task(device, task.name, task.classes, task.train, task.train_labels)


def _test(device: EdgeDevice, task: TaskPictures) -> Task:
    return read_task(device, task.name, task.classes, task.test, task.test_labels)
