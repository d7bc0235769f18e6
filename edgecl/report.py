"""An evaluation as files for people and for programs: report.json, report.md, and pictures where matplotlib is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgecl.errors import EdgeclError
from edgecl.evaluate import Evaluation

_COLUMNS = (
    "oracle",
    "mapper",
    "joint",
    "answered",
    "false_reject",
    "class_false_reject",
    "unknown_auroc",
    "unknown_caught",
    "class_unknown_auroc",
)


def table(result: Evaluation) -> str:
    """One Markdown table, tasks and their mean."""
    columns = [c for c in _COLUMNS if c in result.summary]
    lines = [f"| task | {' | '.join(columns)} | learn s | kB |", "|---" * (len(columns) + 3) + "|"]
    for name, row in result.tasks.items():
        cells = " | ".join(_cell(row, c) for c in columns)
        lines.append(f"| {name} | {cells} | {row['learn_seconds']:.2f} | {row['bytes'] / 1e3:.0f} |")
    s = result.summary
    cells = " | ".join(f"**{_cell(s, c)}**" for c in columns)
    lines.append(f"| **mean** | {cells} | {s['learn_seconds']:.2f} | {s['bytes_per_task'] / 1e3:.0f} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, float], column: str) -> str:
    return f"{row[column]:.3f}" if column in row else "-"


def markdown(result: Evaluation, pictures: list[str]) -> str:
    """The readable report."""
    c, s = result.conditions, result.summary
    identical = "bit-identical" if s["old_answers_bit_identical"] else "NOT bit-identical"
    return "\n".join(
        [
            f"# {c['tasks']} tasks, {c['classes']} classes, no task label",
            "",
            f"Method {c['method']} (recipe {c['recipe']}), mapper {c['mapper']}, seed {c['seed']}; ROM {c['rom_id'][:12]} "
            f"({c['backbone']}) on {c['ran_on']}; {c['seconds']} s in all.",
            "",
            table(result),
            "",
            "oracle: right class by the task's own head. mapper: right task found. joint: both.",
            "answered: joint as `infer` says it, where unknown counts as wrong.",
            "false_reject, class_false_reject: known pictures called unknown task, unknown class; stated are "
            f"{c['stated_false_reject']:.0%} and {c['stated_class_false_reject']:.0%}.",
            "unknown_auroc, unknown_caught: the task left out as the unknown one; how well its test pictures are told from",
            "those of all others, and how many are called so. class_unknown_auroc, where measured: the same for each class",
            "left out of its task.",
            "",
            f"Forgetting: {s['forgetting']:.4f}; answers and bundles of all earlier tasks are {identical} at the end. "
            f"Expected calibration error of the confidence: {s['expected_calibration_error']:.3f}.",
            "",
            *(f"![{Path(p).stem}]({p})\n" for p in pictures),
        ]
    )


def write(result: Evaluation, folder: Path) -> list[Path]:
    """Write the report into `folder` and return the files. Without matplotlib there are no pictures, and the report says so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = _draw(result, folder) if find_spec("matplotlib") else []
        text = markdown(result, [path.name for path in drawn])
        if not drawn:
            text += "\nNo pictures: matplotlib is not installed (pip install 'edgecl[report]').\n"
        (folder / "report.json").write_text(json.dumps(result.to_dict(), indent=2))
        (folder / "report.md").write_text(text)
    except OSError as error:
        raise EdgeclError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return [folder / "report.json", folder / "report.md", *drawn]


def _draw(result: Evaluation, folder: Path) -> list[Path]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names, rows = list(result.tasks), list(result.tasks.values())
    n = len(names)
    drawn = []

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
        drawn.append(folder / name)

    counts = np.asarray(result.confusion, float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(3 + 0.45 * n, 2.4 + 0.42 * n))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(share >= 0.01), strict=True):
        axes.text(
            j,
            i,
            f"{share[i, j]:.0%}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share[i, j] > 0.5 else "black",
        )
    axes.set_xticks(range(n), names, rotation=60, ha="right")
    axes.set_yticks(range(n), names)
    axes.set_xlabel("task found by the mapper")
    axes.set_ylabel("true task")
    axes.set_title("Which task was found")
    save(figure, "task_confusion.png")

    figure, axes = plt.subplots(figsize=(3 + 0.7 * n, 4.2))
    for offset, key, colour in ((-0.27, "oracle", "#9ecae1"), (0.0, "mapper", "#c7c7c7"), (0.27, "joint", "#3182bd")):
        axes.bar(
            np.arange(n) + offset,
            [row[key] for row in rows],
            0.25,
            color=colour,
            label=f"{key} ({result.summary[key]:.3f})",
        )
    axes.set_xticks(range(n), names, rotation=60, ha="right")
    axes.set_ylim(0, 1.35)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel("accuracy on test pictures")
    axes.legend(loc="upper center", ncols=3, title="mean over tasks")
    axes.set_title("Per task: head given the task, task found, both")
    save(figure, "per_task.png")

    if result.unknown_roc:
        figure, axes = plt.subplots(figsize=(6.4, 5.2))
        curves = [np.asarray(curve[1]) for curve in result.unknown_roc.values()]
        grid = next(iter(result.unknown_roc.values()))[0]
        for curve in curves:
            axes.plot(grid, curve, color="#9ecae1", linewidth=0.8)
        axes.plot(
            grid,
            np.mean(curves, 0),
            color="#08519c",
            linewidth=2,
            label=f"mean of {n}, AUROC {result.summary['unknown_auroc']:.3f}",
        )
        axes.axvline(result.conditions["stated_false_reject"], color="grey", linestyle=":", label="stated false-reject rate")
        axes.set_xlabel("known pictures called unknown")
        axes.set_ylabel("unknown pictures called unknown")
        axes.set_title("Each task left out in turn as the unknown one")
        axes.legend(loc="lower right")
        save(figure, "unknown_roc.png")

    sure, right, count = (np.asarray(row) for row in result.reliability)
    some = count > 0
    figure, axes = plt.subplots(figsize=(5.6, 5.2))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.bar(sure[some], right[some], width=0.05, color="#3182bd", label="right answers")
    axes.set_xlabel("confidence of the answer")
    axes.set_ylabel("share of right answers (task and class)")
    axes.set_title(f"Reliability, expected calibration error {result.summary['expected_calibration_error']:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    save(figure, "reliability.png")

    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    axes.plot(range(1, n + 1), result.curve, marker="o", color="#3182bd")
    axes.set_xlabel("tasks learned")
    axes.set_ylabel("mean joint accuracy over them")
    axes.set_ylim(0, 1.02)
    axes.set_title("Accuracy as tasks are added")
    save(figure, "curve.png")
    return drawn
