"""A comparison as pictures: who wins, how it went, what was kept, and where in the plane each learner says what.

A learner has one colour, and one marker, in all of them: Okabe and Ito's eight, which the colour-blind tell apart, then seven
of Tol's; markers and names where lines end tell the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.metrics.intervals import quantile
from edgecl.streaming.comparing import Comparison
from edgecl.streaming.record import Run
from edgecl.streams.base import Dataset
from edgecl.text import printable, size

COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#B3A100"),
    *("#882255", "#332288", "#999999", "#661100", "#117733", "#CC6677", "#44AA99"),
)
MARKERS = "osD^vPX*<>p"  # as many as have no divisor in common with the colours: no two learners look alike
# Of classes, pale for what is answered and strong for what is true: lightness tells them apart where hue does not.
_PALE = ("#cfe3f1", "#fbe6bd", "#c2e5d8", "#f3d5e4", "#f4cdb3", "#e0f1fb", "#d5d5d5", "#f0edbf")
_FEW = 16  # experiences up to which they are named and their accuracies written out
_BANDS = 4  # learners, the best, that have their interval around the curve; more would hide each other
_GRID = 200  # points at which curves of several seeds are averaged


def draw(result: Comparison, dataset: Dataset, folder: Path) -> list[Path]:
    """Write the pictures into `folder`, and return their files in the order in which one looks at them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "figure.dpi": 110}
    files = []
    with plt.rc_context(style):
        for name, figure in _figures(result, dataset, plt):
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
            plt.close(figure)
            files.append(folder / f"{name}.png")
    return files


def _figures(result: Comparison, dataset: Dataset, plt: Any) -> Iterator[tuple[str, Any]]:
    yield "summary", _summary(result, plt)
    yield "curves", _curves(result, plt)
    yield "matrices", _matrices(result, plt)
    if any(runs[0].regions for runs in result.runs.values()):
        yield "regions", _regions(result, dataset, plt)


def _look(result: Comparison, label: str) -> dict[str, Any]:
    """Colour and marker of a learner, by its place in the plan."""
    i = list(result.runs).index(label)
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _summary(result: Comparison, plt: Any) -> Any:
    """Accuracy with each seed's own point, forgetting, and bytes; the best at the top."""
    labels = result.ranking[::-1]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(12, 1.6 + 0.42 * len(labels)), sharey=True, width_ratios=(2.2, 1, 1), layout="constrained"
    )
    for at, label in enumerate(labels):
        look, row = _look(result, label), result.figures[label]
        accuracy = row["accuracy"]
        seeds = [float(one.result.accuracy[-1].mean()) for one in result.runs[label]]
        left.barh(at, accuracy.mean, 0.62, color=look["color"], alpha=0.35)
        if len(seeds) > 1:
            left.plot(seeds, np.full(len(seeds), at), linestyle="", markersize=4, alpha=0.75, **look)
            left.errorbar(accuracy.mean, at, xerr=accuracy.half, color="black", capsize=4, linewidth=1.4)
        left.text(1.02, at, str(accuracy), va="center", transform=left.get_yaxis_transform(), fontweight="bold")
        middle.barh(at, row["forgetting"].mean, 0.62, color=look["color"], alpha=0.35, xerr=row["forgetting"].half)
        right.barh(at, max(row["bytes"].mean, 1), 0.62, color=look["color"], alpha=0.35)
        right.text(max(row["bytes"].mean, 1) * 1.15, at, size(row["bytes"].mean), va="center", fontsize=9)
    left.set_yticks(range(len(labels)), [printable(label, 30) for label in labels])
    left.set_xlim(0, 1)
    left.grid(axis="x", alpha=0.3)
    seeds_text = f"{len(result.plan.seeds)} seeds, bar: 95 % interval" if len(result.plan.seeds) > 1 else "one seed"
    left.set_title(f"Average accuracy at the end ({seeds_text})", loc="left")
    middle.set_title("Forgetting (less is better)", loc="left")
    middle.axvline(0, color="grey", linewidth=0.8)
    right.set_title("Bytes held", loc="left")
    right.set_xscale("log")
    low, high = right.get_xlim()
    right.set_xlim(low, high * 6)
    figure.suptitle(_title(result), x=0.01, ha="left", fontweight="bold")
    return figure


def _curves(result: Comparison, plt: Any) -> Any:
    """Accuracy on what has begun, over the samples: means of the seeds, for the best with the interval."""
    figure, axes = plt.subplots(figsize=(11, 5.4), layout="constrained")
    first = next(iter(result.runs.values()))[0]
    ends = np.cumsum(first.result.train_counts)
    finals = []
    for i, (label, runs) in enumerate(result.runs.items()):
        seen, mean, half = _mean_curve(runs)
        look, every = _look(result, label), max(1, len(seen) // 12)
        axes.plot(seen, mean, linewidth=1.8, markersize=5, markevery=(i * every // len(result.runs), every), **look)
        if half is not None and label in result.ranking[:_BANDS]:
            low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
            axes.fill_between(seen, low, high, color=look["color"], alpha=0.12, linewidth=0)
        finals.append((float(mean[-1]), label))
    axes.set(ylim=(0, 1.02), xlim=(0, ends[-1]))
    for end in ends[:-1]:
        axes.axvline(end, color="grey", linewidth=0.6, alpha=0.5)
    if len(ends) <= _FEW:
        for i, name in enumerate(_names(result)):  # on two lines by turns, or short ones would run into each other
            middle = (ends[i] + (ends[i - 1] if i else 0)) / 2
            axes.text(middle, 1.03 + 0.035 * (i % 2), printable(name, 24), ha="center", fontsize=8, color="dimgrey")
    _labels_at_the_end(axes, int(ends[-1]), sorted(finals), result)
    axes.set_xlabel("samples seen, one after another")
    axes.set_ylabel("accuracy on all experiences begun so far")
    best = f", of the best {_BANDS}" if len(result.runs) > _BANDS else ""
    band = f" (band: 95 % interval over {len(result.plan.seeds)} seeds{best})" if len(result.plan.seeds) > 1 else ""
    axes.set_title(f"{_title(result)}: as it went{band}", loc="left", pad=28 if len(ends) <= _FEW else 8, fontweight="bold")
    axes.grid(axis="y", alpha=0.3)
    return figure


def _labels_at_the_end(axes: Any, x: int, finals: list[tuple[float, str]], result: Comparison) -> None:
    """Each curve's name beside its last point, lowest first, moved apart where they would overlap."""
    gap = 0.048
    places = [y for y, _ in finals]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places[-1] = min(places[-1], 1.0)
    for i in range(len(places) - 1, 0, -1):  # what does not fit at the top pushes those below down
        places[i - 1] = min(places[i - 1], places[i] - gap)
    for place, (y, label) in zip(places, finals, strict=True):
        colour = _look(result, label)["color"]
        axes.plot([x, x * 1.025], [y, place], color=colour, linewidth=0.8, clip_on=False)
        axes.text(x * 1.03, place, f"{printable(label, 30)}  {y:.2f}", color=colour, va="center", fontweight="bold")


def _matrices(result: Comparison, plt: Any) -> Any:
    """Mean accuracy on each experience (column) after each (row), a square a learner, the best first."""
    labels = result.ranking
    n = len(next(iter(result.runs.values()))[0].experiences)
    columns = min(len(labels), 3 if n <= _FEW else 4)
    rows = math.ceil(len(labels) / columns)
    side = 0.42 * n + 1.1 if n <= _FEW else 3.4
    figure, grid = plt.subplots(
        rows, columns, figsize=(side * columns + 1.2, side * rows + 0.8), squeeze=False, layout="constrained"
    )
    numbers = [str(i + 1) for i in range(n)]
    names = [f"{printable(name, 24)}  {i}" for i, name in zip(numbers, _names(result), strict=True)]
    shown = None
    for at, axes in enumerate(grid.flat):
        if at >= len(labels):
            axes.axis("off")
            continue
        matrix = np.mean([one.result.accuracy for one in result.runs[labels[at]]], 0)
        shown = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
        _frame(axes, _look(result, labels[at])["color"])
        axes.set_title(
            f"{printable(labels[at], 24)}: {result.figures[labels[at]]['accuracy'].mean:.3f} at the end", fontweight="bold"
        )
        if n <= _FEW:
            for i, j in np.ndindex(n, n):
                ink = "white" if matrix[i, j] < 0.55 else "black"
                axes.text(j, i, f"{matrix[i, j]:.2f}".removeprefix("0"), ha="center", va="center", fontsize=7, color=ink)
            axes.set_xticks(range(n), numbers, fontsize=8)
            axes.set_yticks(range(n), names if at % columns == 0 else [""] * n, fontsize=8)
        else:
            some = range(0, n, math.ceil(n / 10))
            axes.set_xticks(some, [numbers[i] for i in some])
            axes.set_yticks(some, [numbers[i] for i in some])
        axes.set_xlabel("judged on")
        if at % columns == 0:
            axes.set_ylabel("after learning")
    figure.colorbar(shown, ax=grid, shrink=0.6, label="accuracy (right of the diagonal: not learned yet)")
    figure.suptitle(_title(result), x=0.01, ha="left", fontweight="bold")
    return figure


def _regions(result: Comparison, dataset: Dataset, plt: Any) -> Any:
    """The plane by what each learner answers at the end (first seed), with the test points by what they are."""
    labels = [label for label in result.ranking if result.runs[label][0].regions]
    columns = min(len(labels), 3)
    rows = math.ceil(len(labels) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.3 * columns, 4.2 * rows + 1), squeeze=False, layout="constrained")
    from matplotlib.colors import ListedColormap

    k = len(dataset.classes)
    pale = ListedColormap([_PALE[c % len(_PALE)] for c in range(k)])
    x, y = np.asarray(dataset.test.x), dataset.test.y
    for at, axes in enumerate(grid.flat):
        if at >= len(labels):
            axes.axis("off")
            continue
        found = result.runs[labels[at]][0].regions
        assert found is not None
        (x0, y0), (x1, y1) = found.low, found.high
        axes.imshow(found.labels, origin="lower", extent=(x0, x1, y0, y1), cmap=pale, vmin=-0.5, vmax=k - 0.5, aspect="auto")
        cells = (x - np.array([x0, y0])) / np.array([x1 - x0, y1 - y0]) * (len(found.labels) - 1)
        column, row = np.clip(np.rint(cells).astype(int), 0, len(found.labels) - 1).T
        wrong = found.labels[row, column] != y
        for c in range(k):
            own, look = y == c, {"color": COLOURS[c % len(COLOURS)], "marker": MARKERS[c % len(MARKERS)]}
            axes.scatter(*x[own & ~wrong].T, s=12, linewidth=0, alpha=0.85, label=printable(dataset.classes[c], 20), **look)
            axes.scatter(*x[own & wrong].T, s=26, linewidth=0.8, edgecolor="black", **look)
        axes.set_title(
            f"{printable(labels[at], 24)}: {np.mean(result.runs[labels[at]][0].result.accuracy[-1]):.3f}",
            fontweight="bold",
        )
        _frame(axes, _look(result, labels[at])["color"])
        axes.set_xticks([])
        axes.set_yticks([])
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(k, 8),
        title="test points by their class; black rim: answered wrongly",
    )
    figure.suptitle(
        f"{_title(result)}: answers all over the plane, after the last experience (seed {result.plan.seeds[0]})",
        fontweight="bold",
    )
    return figure


def _names(result: Comparison) -> tuple[str, ...]:
    """Of the experiences; numbers where each seed has others."""
    found = {one.experiences for runs in result.runs.values() for one in runs}
    first = next(iter(found))
    return first if len(found) == 1 else tuple(f"experience {i + 1}" for i in range(len(first)))


def _title(result: Comparison) -> str:
    return f"{printable(result.data, 40)}, {result.plan.scenario}"


def _frame(axes: Any, colour: str) -> None:
    """The learner's colour around its picture."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=3)


def _mean_curve(runs: tuple[Run, ...]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Samples, mean accuracy, half the interval (None for one seed); on a common grid where the seeds' looks differ."""
    curves = [np.array(one.result.curve) for one in runs]
    seen = curves[0][:, 0]
    if any(len(curve) != len(seen) or (curve[:, 0] != seen).any() for curve in curves):
        start, end = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
        seen = np.linspace(start, end, _GRID)
    heights = np.array([np.interp(seen, *curve.T) for curve in curves])
    if len(runs) == 1:
        return seen, heights[0], None
    half = quantile(0.975, len(runs) - 1) * heights.std(0, ddof=1) / math.sqrt(len(runs))
    return seen, heights.mean(0), half
