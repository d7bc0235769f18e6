"""Judging a head whose classes are in another order than the test's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edgecl.device import EdgeDevice
from edgecl.evaluate import evaluate
from edgecl.judging import judge, read_task
from edgecl.streams.folders import find_tasks


def test_a_head_is_judged_by_the_names_of_its_classes(
    device: Callable[..., EdgeDevice], pictures_task: Mapping[str, Path]
) -> None:
    (task, *_) = find_tasks(next(iter(pictures_task.values())).parent)
    edge = device()
    told = [(picture, task.classes[label]) for picture, label in zip(task.train, task.train_labels, strict=True)]
    with edge.teach(task.name) as teaching:
        for picture, label in reversed(told):  # the last class comes first
            teaching.observe(picture, label)
    assert edge.head(task.name).classes == task.classes[::-1]
    test = read_task(edge, task.name, task.classes, task.test, task.test_labels)
    answers = edge.infer(task.test)
    right = sum(p.nearest_label == task.classes[y] for p, y in zip(answers, task.test_labels, strict=True)) / len(task.test)
    assert judge(edge, [test]).tasks[task.name]["joint"] == pytest.approx(right) and right > 0.5


def test_a_method_that_learns_on_is_evaluated_like_any_other(
    device: Callable[..., EdgeDevice], pictures_task: Mapping[str, Path]
) -> None:
    tasks = find_tasks(next(iter(pictures_task.values())).parent)[:1]
    assert evaluate(device(), tasks, method="memory").summary["oracle"] > 0.6
