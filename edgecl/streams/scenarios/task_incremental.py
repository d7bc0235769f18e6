"""Task-incremental: like class-incremental, but a learner is told the task, learning and answering.

Source: van de Ven and Tolias, Three scenarios for continual learning, 2019.
"""

from __future__ import annotations

from dataclasses import replace

from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.class_incremental import class_incremental


def task_incremental(dataset: Dataset, seed: int = 0, *, classes_per_task: int = 0, order: str = "shuffled") -> Stream:
    """The experiences of `class_incremental` with the same options, each with its task given."""
    stream = class_incremental(dataset, seed, classes_per_task=classes_per_task, order=order)
    return replace(stream, scenario="task", task_given=True)
