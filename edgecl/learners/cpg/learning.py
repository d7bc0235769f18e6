"""Phase A: a task takes all free weights, and learns them and its picks of older ones."""

from __future__ import annotations

from dataclasses import replace

from edgecl.heads.parts import masks
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work, new_head

_PHASE = 1


def released(job: Job, before: State, task: int, data: TaskData, multiplier: float) -> State:
    """The state in which phase A begins: grown to `multiplier`, what is free is the task's, a new head, everything picked.

    Batch norm and biases go on from the task before.
    """
    state = job.grown(before, multiplier)
    draw = job.torch(_PHASE, task, round(multiplier * 1000))
    head = new_head(job.network(multiplier).features, len(data.classes), task in job.config.angular, draw)
    return replace(state, owners={n: masks.released(o, task) for n, o in state.owners.items()}, head=head, scores={})


def learn(job: Job, before: State, task: int, data: TaskData, multiplier: float, schedule: Schedule, *, picks: bool) -> State:
    """The state after phase A. before: that of the task before, settled."""
    state = released(job, before, task, data, multiplier)
    if picks and task > 1:
        state = state.fresh_scores()
    work = Work(job.network(multiplier), state, task, job.config)
    draw = job.numpy(_PHASE, task, round(multiplier * 1000))
    told = job.epochs("learning a task", schedule.epochs)
    share = work.train(data, schedule, draw, after_epoch=told)
    return work.state(work.accuracy(data), share)
