"""Phase A: a task takes all free weights, and learns them and its picks of older ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgecl.heads.parts import masks
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.plateau import until_plateau
from edgecl.learners.cpg.settings import Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work, new_head
from edgecl.learners.parts.networks.pretrained import fitted, read_weights
from edgecl.text import printable

_PHASE = 1


def released(job: Job, before: State, task: int, data: TaskData, multiplier: float) -> State:
    """The state in which phase A begins: grown to `multiplier`, what is free is the task's, a new head, everything picked.

    Batch norm and biases go on from the task before.
    """
    state = job.grown(before, multiplier)
    draw = job.torch(_PHASE, task, round(multiplier * 1000))
    head = new_head(job.network(multiplier).features, len(data.classes), task in job.config.angular, draw)
    return replace(state, owners={n: masks.released(o, task) for n, o in state.owners.items()}, head=head, scores={})


def learn(
    job: Job,
    before: State,
    task: int,
    data: TaskData,
    multiplier: float,
    schedule: Schedule,
    *,
    picks: bool,
    patience: int = 0,
) -> State:
    """The state after phase A. before: that of the task before, settled.   patience: as for `until_plateau`; 0: the schedule's.

    The first task is not learned where its network comes from a file.
    """
    if task == 1 and job.config.pretrained:
        return from_file(job, before, data)
    state = released(job, before, task, data, multiplier)
    if picks and task > 1:
        state = state.fresh_scores()
    work = Work(job.network(multiplier), state, task, job.config)
    draw = job.numpy(_PHASE, task, round(multiplier * 1000))
    if patience:
        return until_plateau(job, work, data, schedule, draw, "learning a task", patience=patience)
    told = job.epochs("learning a task", schedule.epochs)
    share = work.train(data, schedule, draw, after_epoch=told)
    return work.state(work.accuracy(data), share)


def from_file(job: Job, before: State, data: TaskData) -> State:
    """The first task's network and head as the file of the settings has them. Raises ConfigError."""
    path = Path(job.config.pretrained)
    weights, private, head = fitted(job.network(1.0), read_weights(path), len(data.classes), printable(path))
    owners = {name: masks.released(owner, 1) for name, owner in before.owners.items()}
    state = replace(before, weights=weights, private=private, head=head, owners=owners)
    work = Work(job.network(1.0), state, 1, job.config)
    accuracy = work.accuracy(data)
    return work.state(accuracy, 1.0)  # it was learned, with other samples
