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
_COLOURS = ("#E69F00", "#F7DEA6", "#0072B2", "#DDDDDD")  # of what is picked, not picked, own, free


def draw(finished: Sequence[Finished], folder: Path) -> list[Path]:
    """capacity.png in `folder`, and levels.png where something was pruned. Raises MissingDependency without matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise MissingDependency("pictures need matplotlib: pip install 'edgecl[report]'") from error
    matplotlib.use("Agg")
    plt = import_module("matplotlib.pyplot")
    written = []
    pictures = {"capacity": _capacity} | ({"levels": _levels} if any(own.records for own in finished) else {})
    for name, make in pictures.items():
        figure, room = make(finished, plt), io.BytesIO()
        figure.savefig(room, format="png", dpi=110)
        plt.close(figure)
        written.append(folder / f"{name}.png")
        write_whole(written[-1], room.getvalue())
    return written


def _levels(finished: Sequence[Finished], plt: Any) -> Any:
    """A panel a task, all on one scale: a task that stays level looks level."""
    columns = min(len(finished), _COLUMNS)
    rows = math.ceil(len(finished) / columns)
    size = (2.4 * columns + 0.6, 2.2 * rows + 0.7)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained")
    for at, axes in enumerate(grid.flat):
        if at >= len(finished):
            axes.axis("off")
            continue
        own = finished[at]
        levels = sorted(own.records)
        axes.plot(levels, [own.records[level] for level in levels], marker="o", markersize=3, color=_COLOURS[2])
        if own.goal:
            axes.axhline(own.goal, linestyle="--", linewidth=1, color="grey")
        if own.level in own.records:
            axes.plot([own.level], [own.records[own.level]], marker="o", markersize=9, fillstyle="none", color="black")
        axes.set_title(f"task {own.number}" + (f", {own.multiplier:g} x the weights" if own.multiplier > 1 else ""), fontsize=9)
        axes.set_xlim(-0.05, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.tick_params(labelbottom=at + columns >= len(finished))
        axes.grid(alpha=0.3)
    figure.supxlabel("share pruned of the space that the task had", fontsize=9)
    figure.supylabel("accuracy that decides", fontsize=9)
    goal, ring = (["dashed: goal"] if any(own.goal for own in finished) else []), ["ring: chosen"]
    figure.suptitle("; ".join(goal + ring), fontsize=9)
    return figure


def capacity(finished: Sequence[Finished]) -> dict[str, list[float]]:
    """What of the network is whose after each task, its weights before any growth counting 1; adds up to its width."""
    owned = [own.multiplier * (1 - own.free) for own in finished]
    before = [0.0, *owned[:-1]]
    # Without picks a task uses all that is older.
    picked = [b * (1.0 if math.isnan(own.shared) else own.shared) for b, own in zip(before, finished, strict=True)]
    return {
        "older, picked": picked,
        "older, not picked": [b - p for b, p in zip(before, picked, strict=True)],
        "its own": [o - b for o, b in zip(owned, before, strict=True)],
        "free": [own.multiplier - o for own, o in zip(finished, owned, strict=True)],
    }


def _capacity(finished: Sequence[Finished], plt: Any) -> Any:
    """Bars as high as the network is wide; what a task has of its own stands above what it found."""
    numbers = [own.number for own in finished]
    figure, axes = plt.subplots(figsize=(max(4.5, 0.35 * len(finished) + 3), 3.4), layout="constrained")
    base = [0.0] * len(finished)
    for (label, heights), colour in zip(capacity(finished).items(), _COLOURS, strict=True):
        axes.bar(numbers, heights, 0.75, bottom=base, label=label, color=colour)
        base = [b + h for b, h in zip(base, heights, strict=True)]
    axes.set_xticks(numbers)
    axes.set_xlabel("task")
    axes.set_ylabel("weights; before any growth: 1")
    figure.legend(loc="outside upper center", ncols=len(_COLOURS), fontsize=8, frameon=False)
    return figure
