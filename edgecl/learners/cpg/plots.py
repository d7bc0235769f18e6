"""Pictures of a learning: accuracy against pruning level for each task, and who owns the network after each."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgecl.errors import MissingDependency
from edgecl.files import write_whole
from edgecl.learners.cpg.state import Finished

_COLUMNS = 5


def draw(finished: Sequence[Finished], folder: Path) -> list[Path]:
    """levels.png and capacity.png in `folder`. Raises MissingDependency where there is no matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise MissingDependency("pictures need matplotlib: pip install 'edgecl[report]'") from error
    matplotlib.use("Agg")
    plt = import_module("matplotlib.pyplot")
    written = []
    for name, make in (("levels", _levels), ("capacity", _capacity)):
        figure, room = make(finished, plt), io.BytesIO()
        figure.savefig(room, format="png", dpi=110)
        plt.close(figure)
        written.append(folder / f"{name}.png")
        write_whole(written[-1], room.getvalue())
    return written


def _levels(finished: Sequence[Finished], plt: Any) -> Any:
    columns = min(len(finished), _COLUMNS)
    rows = math.ceil(len(finished) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(2.8 * columns, 2.4 * rows), squeeze=False, layout="constrained")
    for at, axes in enumerate(grid.flat):
        if at >= len(finished):
            axes.axis("off")
            continue
        own = finished[at]
        levels = sorted(own.records)
        axes.plot(levels, [own.records[level] for level in levels], marker="o", markersize=3)
        if own.goal:
            axes.axhline(own.goal, linestyle="--", linewidth=1, color="grey")
        if own.level in own.records:
            axes.plot([own.level], [own.records[own.level]], marker="o", markersize=9, fillstyle="none", color="black")
        axes.set_title(f"task {own.number}, {own.multiplier:g}x", fontsize=9)
        axes.set_xlim(-0.03, 1)
    figure.supxlabel("pruning level")
    figure.supylabel("accuracy")
    figure.suptitle("dashed: the goal; ring: the level that was chosen", fontsize=9)
    return figure


def _capacity(finished: Sequence[Finished], plt: Any) -> Any:
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    numbers = [own.number for own in finished]
    width = [own.multiplier for own in finished]
    free = [own.free * own.multiplier for own in finished]
    axes.bar(numbers, [w - f for w, f in zip(width, free, strict=True)], label="owned")
    axes.bar(numbers, free, bottom=[w - f for w, f in zip(width, free, strict=True)], label="free", color="lightgrey")
    axes.plot(
        numbers, [own.shared * own.multiplier for own in finished], marker=".", color="black", label="picked, of the older"
    )
    axes.set_xlabel("after task")
    axes.set_ylabel("weights, first width = 1")
    axes.legend(fontsize=8)
    return figure
