"""Learning until it gets no better: the rate falls when an accuracy has not risen for a while, and the best epoch is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work

FALLS = 3  # of the rate


def until_plateau(
    job: Job, work: Work, data: TaskData, schedule: Schedule, draw: np.random.Generator, stage: str, *, patience: int
) -> State:
    """The state of the best epoch, the first of equals.

    After `patience` epochs without a new best the rate falls to a tenth, the first time that of the picks to a fifth; after the
    third fall one epoch is left. The schedule's own number of epochs ends it in any case.
    """
    drops: list[int] = []  # grows while the epochs read it
    best: list[State] = []
    without = 0

    def after(at: int, share: float) -> bool:
        nonlocal without
        accuracy = work.accuracy(data)
        if not best or accuracy > best[0].accuracy:
            best[:], without = [work.state(accuracy, share)], 0
        else:
            without += 1
        if len(drops) == FALLS:
            return False
        if without == patience:
            drops.append(at + 1)
            without = 0
        return True

    told = job.epochs(stage, schedule.epochs, after)
    work.train(data, replace(schedule, drops=drops), draw, after_epoch=told)
    return best[0]
