"""Three small tasks of pictures, for a CNN of a few thousand weights: seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.streams.base import Experience, Samples

SIDE, CLASSES = 16, 3


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As runs of a stream have it: layers this small lose by more."""
    with threadpool_limits(1):
        yield


def experience(task: int) -> Experience:
    """Pictures of classes that only this task has; the validation samples are the test samples."""
    parts = []
    for per_class, seed in ((12, 0), (8, 1)):
        pictures, labels = synthetic.pictures(CLASSES + task, per_class, SIDE, seed=seed)
        rows = np.flatnonzero(labels < CLASSES)
        parts.append(Samples.of(np.stack(pictures)[rows], labels[rows] + task * CLASSES, task))
    train, test = parts
    return Experience(f"task {task}", task, train, test, test)


@pytest.fixture(scope="session")
def tasks() -> list[Experience]:
    return [experience(task) for task in range(3)]


@pytest.fixture
def task_of() -> Callable[[int], Experience]:
    """The task of a number from 0 on, as many as there is need of."""
    return experience
