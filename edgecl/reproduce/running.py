"""Running a row, and what is recorded of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecl.errors import ConfigError
from edgecl.learners import making
from edgecl.learners.figures import figures
from edgecl.reproduce.base import Cell, Row
from edgecl.streaming.comparing import compare
from edgecl.streaming.opening import open_data
from edgecl.streaming.plan import Entry, Plan, versions
from edgecl.streaming.record import Run
from edgecl.streams.base import Dataset

Progress = Callable[[str, int, int], None]
SHORT = 1  # seeds of the short form


def settings_digest(cell: Cell) -> str:
    """Of all settings, also those at their defaults: a record from before a default changed is of something else."""
    config = making.told(Entry(cell.name, cell.learner, cell.options).config)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def run(
    row: Row,
    command: str,
    *,
    short: bool = False,
    data: str | None = None,
    rom: str | None = None,
    weights: str | None = None,
    workers: int = 1,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda stage, done, total: None,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """The record of the row, for `records`: of every cell a value for each seed.

    short: only the first seed, with the cells' short options, which verifies nothing.   data, rom, weights: for rows that need
    them, the last a file.
    folder: where runs are kept, so that what was interrupted goes on.   Raises ConfigError where the row needs what is not
    given.
    """
    check_given(row, data, weights)
    read: dict[str, tuple[Dataset, dict[str, Any]]] = {}
    cells, seconds, stated = {}, 0.0, dict[str, Any]()
    done: dict[str, tuple[Run, ...]] = {}
    for i, cell in enumerate(_shortened(cell) if short else cell for cell in row.cells):
        chosen = cell.data or str(data)
        if chosen not in read:
            read[chosen] = open_data(chosen, rom=rom if row.needs else None, say=say, progress=progress)
        dataset, stated = read[chosen]
        if cell.same_run not in done:
            entry = Entry(cell.name, cell.learner, options(cell, weights))
            plan = Plan((entry,), cell.scenario, cell.seeds, scenario_options=cell.scenario_options)
            result = compare(plan, dataset, workers=workers, folder=folder, progress=progress)
            done[cell.same_run] = result.runs[cell.name]
            seconds += sum(figures(one.result)["seconds"] for one in result.runs[cell.name])
        told = [figures(one.result) for one in done[cell.same_run]]
        cells[cell.told] = {
            "run": cell.run,
            "settings": settings_digest(cell),
            "values": [cell.value(one) for one in done[cell.same_run]],
            "bytes": max(one["bytes"] for one in told),
        }
        progress(row.id, i + 1, len(row.cells))
    return {
        "cells": cells,
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime(clock())),
        "machine": f"{stated['cpu']}, {stated['cores']} cores",
        "rom": stated.get("rom_id", "")[:12],
        "seconds": round(seconds, 1),
        "versions": versions(),
        **({"weights": making.digest(Path(weights))[:12]} if weights else {}),
    }


def check_given(row: Row, data: str | None, weights: str | None) -> None:
    """Raise ConfigError where a row lacks what only the person can name, or is given what it does not take."""
    if row.needs and data is None:
        raise ConfigError(f"{row.id} needs {row.needs}")
    if row.weights and weights is None:
        raise ConfigError(f"{row.id} starts from {row.weights}")
    if weights is not None and not row.weights:
        raise ConfigError(f"{row.id} starts from no weights; leave out --weights")


def options(cell: Cell, weights: str | None) -> dict[str, Any]:
    """The cell's, with the file of weights where it starts from one."""
    return {**cell.options, **({"pretrained": weights or ""} if "pretrained" in cell.options else {})}


def _shortened(cell: Cell) -> Cell:
    return replace(cell, seeds=cell.seeds[:SHORT], options={**cell.options, **cell.short})
