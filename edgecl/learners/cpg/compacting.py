"""Phase B: a task gives back its smallest weights, little by little with training in between, or at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgecl.heads.parts import masks
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import Config, Schedule
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work

_PHASE = 2


def ramp(config: Config, steps: int) -> tuple[int, int]:
    """The last step after which a level may prune, and the steps between prunings; steps: of an epoch.

    At least one pruning fits in: a task with few samples would else go through all levels without giving anything back.
    """
    last = max(1, round(config.ramp * steps))
    return last, min(last, max(1, round(config.prune_every * min(config.scale, 1))))


def to_level(job: Job, before: State, task: int, data: TaskData, config: Config, start: float, end: float) -> State:
    """From pruning level `start` to `end`: picks stay as they are.

    Steps are counted from 0, and the first pruning comes after step `every`; pruned weights stay in use to the epoch's end.
    """
    work = Work(job.network(before.multiplier), before, task, config)
    last, every = ramp(config, data.steps(config.batch))
    due = set(masks.events(last, every))

    def after_step(step: int) -> None:
        if step in due:
            work.prune(masks.rate(step, last, start, end))

    told = job.epochs("pruning a level", config.pruning.epochs)
    draw = job.numpy(_PHASE, task, round(end * 1000))
    share = work.train(data, config.pruning, draw, after_step=after_step, after_epoch=told)
    return work.state(work.accuracy(data), share)


def at_once(
    job: Job,
    before: State,
    task: int,
    data: TaskData,
    schedule: Schedule,
    share: float,
    *,
    own_pool: bool,
    train_private: bool,
    keep_best: bool,
    decay: float,
) -> State:
    """PackNet's: `share` pruned in one go, then epochs for the survivors. own_pool: of the task's own weights.

    keep_best: the epoch with the best accuracy, the first of equals; else the last.   decay: of the survivors.
    """
    config = replace(job.config, decay=decay)
    work = Work(job.network(before.multiplier), before, task, config, train_private=train_private)
    work.prune(share, own_pool=own_pool)
    work.settle()
    draw = job.numpy(_PHASE, task, round(share * 1000))
    return trained(job, work, data, schedule, draw, "after pruning", keep_best=keep_best)


def trained(job: Job, work: Work, data: TaskData, schedule: Schedule, draw: Any, stage: str, *, keep_best: bool) -> State:
    """The work's state after the schedule, or after its best epoch."""
    best: list[State] = []

    def after(at: int, share: float) -> bool:
        accuracy = work.accuracy(data)
        if not best or accuracy > best[0].accuracy:
            best[:] = [work.state(accuracy, share)]
        return True

    share = work.train(
        data, schedule, draw, after_epoch=job.epochs(stage, schedule.epochs, after if keep_best else lambda at, share: True)
    )
    return best[0] if keep_best else work.state(work.accuracy(data), share)
