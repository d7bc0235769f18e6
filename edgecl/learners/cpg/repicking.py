"""Phase C: after pruning, a task chooses anew which older weights it uses."""

from __future__ import annotations

from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import Config
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work

_PHASE = 3


def repick(job: Job, before: State, task: int, data: TaskData, config: Config) -> State:
    """The best epoch's state, or `before` where none is better. What is free stays free.

    Better than `before`; with `ref_repick_baseline` than what is left of it when everything is picked again.
    """
    work = Work(job.network(before.multiplier), before.fresh_scores(), task, config)
    schedule, best = config.repicking, before
    bar = work.accuracy(data) if config.ref_repick_baseline else before.accuracy
    without = 0

    def after(at: int, share: float) -> bool:
        nonlocal best, bar, without
        accuracy = work.accuracy(data)
        if accuracy > bar:
            bar, best, without = accuracy, work.state(accuracy, share), 0
        else:
            without += 1
        return without < config.patience

    told = job.epochs("picking again", schedule.epochs, after)
    work.train(data, schedule, job.numpy(_PHASE, task), after_epoch=told)
    return best
