"""What running a row would take here: its phases, epochs and steps at most, a few real steps timed, hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecl import registry
from edgecl.errors import ConfigError
from edgecl.reproduce.base import Cell, Row, Size
from edgecl.streaming.plan import Entry
from edgecl.streams.base import Dataset
from edgecl.streams.scenarios import making as scenarios

_KIN = "edgecl.learners.cpg."  # learners whose phases are known beforehand


@dataclass(frozen=True)
class Projection:
    """Of one run of a row, one seed. phases: name -> epochs at most.   steps, hours: at most, None where the number of pictures
    is not known.

    step, picking: seconds of a step of the first task, of a later one that picks.   per_100k: hours for 100,000 pictures once.
    device: cpu or cuda.   seeds: so many such runs.
    """

    name: str
    tasks: int
    phases: dict[str, int]
    steps: int | None
    step: float
    picking: float
    hours: float | None
    per_100k: float
    device: str
    seeds: int


def sizes_of(dataset: Dataset, cell: Cell) -> tuple[Size, ...]:
    """Of the tasks of the stream that the cell makes of the data."""
    stream = scenarios.make(cell.scenario, dataset, cell.seeds[0], **cell.scenario_options)
    return tuple(Size(e.name, len(e.train), len(e.test), len(e.classes)) for e in stream)


def project(
    row: Row,
    *,
    short: bool = False,
    dataset: Dataset | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[Projection]:
    """For each run of the row; cells that are figures of one run are told once.

    dataset: whose numbers of pictures count; None: the published ones.   Raises ConfigError for rows of other learners, whose
    runs are short.
    """
    from edgecl.learners.cpg.rehearsing import Measured, measure

    cells = {cell.same_run: cell for cell in row.cells}
    if lacking := [c for c in cells.values() if not registry.LEARNERS[c.learner].startswith(_KIN)]:
        raise ConfigError(f"{row.id} has no phases to be told beforehand ('{lacking[0].name}' takes minutes): run it")
    found, measured = [], dict[tuple[Any, ...], Measured]()
    for number, cell in enumerate(cells.values()):
        options = {**cell.options, **(cell.short if short else {})}
        pretrained = "pretrained" in options
        config = replace(Entry(cell.name, cell.learner, options).config, pretrained="named later" if pretrained else "")
        sizes = sizes_of(dataset, cell) if dataset is not None else row.sizes
        side = dataset.train.shape if dataset is not None else row.shape
        batch = config.batch[-1] if isinstance(config.batch, tuple) else config.batch
        key = (config.net, config.width, batch, side)
        if key not in measured:
            measured[key] = measure(config, side, max((s.classes for s in sizes), default=10), batch)
        found.append(_one(cell, config, sizes, row.tasks, measured[key], short))
        progress(row.id, number + 1, len(cells))
    return found


def _one(cell: Cell, config: Any, sizes: Sequence[Size], tasks: int, cost: Any, short: bool) -> Projection:
    from edgecl.learners.cpg.settings import at

    learner = registry.load("learner", registry.LEARNERS, cell.learner)
    phases: dict[str, int] = {}
    steps, seconds = 0, 0.0
    n = len(sizes) or tasks
    for task in range(1, n + 1):
        for stage in learner.stages(config, task):
            phases[stage.name] = phases.get(stage.name, 0) + stage.epochs
            if sizes:
                size, batch = sizes[task - 1], at(config.batch, task)
                each = math.ceil(size.train / batch)
                steps += stage.epochs * each
                # Timed at the batch of later tasks: a larger one takes as much longer.
                seconds += cost.seconds(stage, each, size.test) * batch / at(config.batch, n)
    last = at(config.batch, n)
    return Projection(
        name=cell.name,
        tasks=n,
        phases=phases,
        steps=steps if sizes else None,
        step=cost.step,
        picking=cost.picking,
        hours=seconds / 3600 if sizes else None,
        per_100k=1e5 / last * cost.picking / 3600,
        device=cost.device,
        seeds=1 if short else len(cell.seeds),
    )
