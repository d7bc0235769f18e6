"""How long a learning would take: its phases with their epochs at most, and a few real steps of its network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.learning import released
from edgecl.learners.cpg.settings import Schedule
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.training import Work

_STEPS = 3  # the first of which is not counted: it sets up


@dataclass(frozen=True)
class Measured:
    """Seconds of one step of the first task, of one of a later task that picks, and of judging a picture. device: cpu or cuda.

    Pictures are in memory: reading them from a disk is not in it.
    """

    step: float
    picking: float
    judging: float
    device: str

    def seconds(self, stage: Stage, steps: int, judged: int) -> float:
        """Of a stage at most. steps: of an epoch.   judged: pictures to be judged on. A wider network is taken to cost as
        much more as it has weights."""
        epoch = steps * (self.picking if stage.picks else self.step) + (judged * self.judging if stage.judged else 0)
        return stage.epochs * epoch * stage.wide


def measure(
    config: Any, shape: tuple[int, ...], classes: int, batch: int, clock: Callable[[], float] | None = None
) -> Measured:
    """With the network of the settings, fresh, on pictures drawn at random. shape: (h, w, 3).

    One thread, as runs have it (`streaming.comparing`). clock: None takes the time of this process alone, so that what else the
    machine does is not in it; with a GPU the time that passes.
    """
    plain = replace(config, pretrained="", states="")
    draw = np.random.default_rng(0)
    n = _STEPS * batch
    x, y = draw.integers(0, 256, (n, *shape), np.uint8), np.arange(n) % classes
    mean = np.full(3, 0.5, np.float32)
    data = TaskData(x, y, x[:batch], y[:batch], np.arange(classes), mean, mean, batch)
    with threadpool_limits(1):
        job = Job("rehearsal", shape, classes, 0, plain)
        clock = clock or (time.perf_counter if job.device == "cuda" else time.process_time)
        fresh = job.start()
        first = Work(job.network(1.0), released(job, fresh, 1, data, 1.0), 1, plain)
        step = _a_step(first, data, clock)
        began = clock()
        first.accuracy(data)
        judging = (clock() - began) / batch
        half = {name: (np.abs(w) > np.median(np.abs(w))).astype(np.uint8) for name, w in fresh.weights.items()}
        later = released(job, replace(fresh, owners=half), 2, data, 1.0).fresh_scores()
        picking = _a_step(Work(job.network(1.0), later, 2, plain), data, clock)
    return Measured(step, picking, judging, str(job.device))


def _a_step(work: Work, data: TaskData, clock: Callable[[], float]) -> float:
    ends: list[float] = []
    work.train(data, Schedule(1, 1e-4, (), 1e-4), np.random.default_rng(0), after_step=lambda step: ends.append(clock()))
    return float(np.median(np.diff(ends)))
