"""What a task has to reach: the accuracy of a network of its own, from scratch or from that of an earlier task."""

from __future__ import annotations

from dataclasses import replace

from edgecl.heads.parts import masks
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.settings import EPOCHS, Base, Config, Schedule
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work, new_head

PASSES = 5
ALONE = Schedule(EPOCHS, 0.01, (50, 80))  # a network of its own
_PHASE = 4
_FINE_LR = 0.005
DECIMALS = 4


def goal_of(job: Job, task: int, data: TaskData, config: Config) -> float:
    """The accuracy that the task has to reach on the samples that decide; 0 where there is no goal."""
    if task <= len(config.goals):
        return config.goals[task - 1]
    if config.goal == "none":
        return 0.0
    if config.goal == "scratch":
        return round(alone(job, task, data, config).accuracy, DECIMALS)
    reached = [alone(job, task, data, config, number).accuracy for number in range(PASSES)]
    return round(max(reached) if config.goal == "fine_max" else sum(reached) / PASSES, DECIMALS)


def stages(config: Config, task: int) -> list[Stage]:
    """What finding the goal takes."""
    if task <= len(config.goals) or config.goal == "none":
        return []
    passes = 1 if config.goal == "scratch" else PASSES
    return [Stage("goal", passes * ALONE.scaled(config.scale).epochs)]


def alone(job: Job, task: int, data: TaskData, config: Base, number: int | None = None) -> State:
    """A network for this task alone, of the width before any growth, after its last epoch.

    number: of a pass in which a network starts from that of an earlier task of the pass, drawn by seed; None: from scratch.
    """
    draw = job.numpy(_PHASE, task, 0 if number is None else 1 + number)
    earlier = None if number is None or task == 1 else int(draw.integers(1, task))
    word = "scratch" if number is None else f"fine-{number}"
    schedule = (replace(ALONE, lr=_FINE_LR) if earlier else ALONE).scaled(config.scale)

    def run(before: State) -> State:
        owned = {n: masks.released(o, 1) for n, o in before.owners.items()}
        seeds = job.torch(_PHASE, task, 0 if number is None else 1 + number)
        head = new_head(job.network(1.0).features, len(data.classes), task in config.angular, seeds)
        work = Work(job.network(1.0), replace(before, owners=owned, head=head), 1, config)
        share = work.train(data, schedule, draw, after_epoch=job.epochs("a network of its own", schedule.epochs))
        return work.state(work.accuracy(data), share)

    return job.phase(f"{task:03d}-{word}", None if earlier is None else f"{earlier:03d}-{word}", run)
