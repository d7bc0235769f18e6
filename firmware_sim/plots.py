"""The report's pictures, with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecl.text import printable
from firmware_sim.analysis import Run, accuracies, boards, confusion
from firmware_sim.knowledge import number

LABELLED = 40  # tasks at most whose names are written at an axis


def draw(run: Run, folder: Path) -> list[Path]:
    """PNG files in `folder`: those for which the run has figures. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn = []

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
        drawn.append(folder / name)

    known = run.knowledge
    if known.tasks:
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        for values, name in ((known.mean, "mean of the live agents"), (known.least, "the agent that knows least")):
            axes.step(known.times, values, where="post", label=name)
        axes.step(known.times, known.everywhere, where="post", label="tasks that every live agent knows")
        axes.set_xlabel("virtual seconds")
        axes.set_ylabel("tasks known")
        axes.set_ylim(0, len(known.tasks) * 1.05)
        axes.legend(loc="lower right")
        axes.set_title("The fleet's knowledge")
        save(figure, "knowledge.png")

        waits = known.spread()
        waits[~np.isfinite(waits)] = np.nan
        order = np.argsort(np.nan_to_num(waits[:, 2], nan=np.inf), kind="stable")
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        for column, name in enumerate(("half of the live agents", "nine tenths", "all")):
            axes.plot(range(1, len(order) + 1), waits[order, column], marker=".", label=name)
        axes.set_xlabel("tasks, the quickest first; without a point: never")
        axes.set_ylabel("virtual seconds since it was learned")
        axes.set_ylim(bottom=0)
        axes.legend(title="known by")
        axes.set_title("Time to knowledge")
        save(figure, "time_to_knowledge.png")

    if answers := accuracies(run):
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        for name, (joint, curve) in answers.items():
            label = _plain(f"{name} ({joint:.3f})")
            if curve:
                axes.plot(*zip(*curve, strict=True), marker=".", label=label)
            else:
                axes.axhline(joint, linestyle=":", label=label, color=axes._get_lines.get_next_color())
        axes.set_xlabel("tasks learned")
        axes.set_ylabel("joint accuracy, no task label")
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower left")
        axes.set_title("Accuracy as tasks are added")
        save(figure, "accuracy.png")

    spent = boards(run)
    moved = np.asarray([[number(row, way) or 0.0 for way in ("out", "in")] for row in spent.values()]).reshape(-1, 2)
    if moved.any():
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        for column, name in enumerate(("out", "in")):
            axes.plot(np.sort(moved[:, column]) / 1e3, drawstyle="steps-mid", label=name)
        axes.set_xlabel("agents, the quietest first")
        axes.set_ylabel("kB in the whole run")
        axes.set_ylim(bottom=0)
        axes.legend()
        axes.set_title("Bytes per agent")
        save(figure, "bytes_per_agent.png")

    if found := confusion(run):
        names, share = found
        n = len(names)
        side = min(3 + 0.4 * n, 16)
        figure, axes = plt.subplots(figsize=(side, side))
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if n <= LABELLED:
            axes.set_xticks(range(n), [_plain(name) for name in names], rotation=60, ha="right")
            axes.set_yticks(range(n), [_plain(name) for name in names])
        axes.set_xlabel("task found by the mapper")
        axes.set_ylabel("true task")
        axes.set_title("Which task was found")
        save(figure, "mapper_confusion.png")
    return drawn


def _plain(name: str) -> str:
    """A foreign name as matplotlib draws it: no formula, not hidden from the legend."""
    return printable(name, 32).replace("$", r"\$").lstrip("_") or "-"
