"""Twenty tasks in one network: what a task answered when it was finished it answers after every later one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from edgecl.heads.parts import masks
from edgecl.learners import making
from edgecl.streams.base import Experience

TASKS, WIDER_AT = 20, 8
SMALL: dict[str, Any] = {"net": "cnn", "width": 0.25, "batch": 8, "scale": 0.02}
# Every level is taken, and the goal that nothing reaches lets the network grow once; late tasks own next to nothing.
CPG = {
    "goals": tuple(float(task == WIDER_AT) for task in range(1, TASKS + 1)),
    "levels": (0.3, 0.6),
    "least_train_accuracy": 0.0,
    "tasks": TASKS,
    "mask_lr": 2e-3,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), [("cpg", CPG), ("packnet", {"least_train_accuracy": 0.0}), ("piggyback", {})])
def test_old_tasks_answer_the_same_bits_after_each_of_twenty(
    name: str, more: dict[str, Any], task_of: Callable[[int], Experience]
) -> None:
    tasks = [task_of(task) for task in range(TASKS)]
    shape, classes = tasks[0].train.shape, sum(len(np.unique(one.train.y)) for one in tasks)
    with threadpool_limits(1):
        learner: Any = making.make(name, shape, classes, 0, making.config(name, SMALL | more))
        answered: list[bytes] = []
        for number, one in enumerate(tasks, 1):
            learner.begin_task(one.task)
            learner.learn(one, 1)
            learner.end_task()
            for own, other, before in zip(learner.finished, tasks, answered, strict=False):
                assert learner.logits(own, other.test.x).tobytes() == before, f"task {own.number} after task {number}"
            answered.append(learner.logits(learner.finished[-1], one.test.x).tobytes())
    assert len(set(answered)) == TASKS, "tasks answer alike"
    if name == "cpg":
        widths = [own.multiplier for own in learner.finished]
        assert widths == [1.0] * (WIDER_AT - 1) + [1.5] * (TASKS - WIDER_AT + 1)
    owners = np.concatenate([owner.ravel() for owner in learner.state.owners.values()])
    assert (owners == masks.FREE).any() or name == "piggyback", "there was no room left, so nothing late was learned"
