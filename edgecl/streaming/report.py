"""A comparison as files for people and for programs: results.json, report.md, and pictures where matplotlib is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from edgecl.errors import EdgeclError
from edgecl.files import write_whole
from edgecl.learners.figures import FIGURES
from edgecl.metrics.intervals import Interval
from edgecl.streaming.comparing import Comparison
from edgecl.streams.base import Dataset
from edgecl.text import printable, size

_NOTHING = 1e-9  # a difference of accuracies that is none but for rounding
_WORDS = {
    "summary": "Who wins",
    "curves": "As it went",
    "matrices": "What was kept",
    "regions": "Answers all over the plane",
}


def headings(result: Comparison) -> list[str]:
    """Of the columns of `rows`."""
    return ["learner", *(FIGURES[name].short for name in _shown(result))]


def rows(result: Comparison) -> list[list[str]]:
    """Cells, a row a learner, the best first."""
    return [
        [printable(label, 40), *(cell(name, result.figures[label][name]) for name in _shown(result))]
        for label in result.ranking
    ]


def cell(figure: str, value: Interval) -> str:
    """A figure as people read it; accuracy with its interval."""
    if figure == "accuracy":
        return str(value)
    if figure in ("bytes", "peak_memory"):
        return size(value.mean)
    if figure == "samples_per_second":
        return f"{value.mean:,.0f}"
    return f"{value.mean:.2f}" if figure == "seconds" else f"{value.mean:.3f}"


def verdict(result: Comparison) -> str:
    """Who wins, and how sure that is, in a sentence."""
    if len(result.ranking) == 1:
        return f"{_name(result, 0)} reaches {result.figures[result.ranking[0]]['accuracy']}."
    lead = result.lead(result.ranking[0], result.ranking[1])
    said = f"{_name(result, 0)} is best, with {result.figures[result.ranking[0]]['accuracy']}"
    ahead = f"{lead.mean:.3f} ahead of {_name(result, 1)}"
    level = f"{_name(result, 0)} and {_name(result, 1)} are level, with {result.figures[result.ranking[0]]['accuracy']}"
    if lead.low is None or lead.high is None:
        return f"{level if abs(lead.mean) < _NOTHING else f'{said}, {ahead}'}; one seed says nothing about how sure that is."
    if lead.std is not None and lead.std < _NOTHING:
        return f"{level}." if abs(lead.mean) < _NOTHING else f"{said}, {ahead}; so with every seed."
    if lead.low <= 0:
        return f"{said}, but not surely: it is {ahead}, with the truth between {lead.low:.3f} and {lead.high:.3f} (95 %)."
    return f"{said}; it is {ahead}, surely between {lead.low:.3f} and {lead.high:.3f} (95 %, seed by seed)."


def markdown(result: Comparison, pictures: list[Path]) -> str:
    """The readable report."""
    plan, conditions = result.plan, result.conditions
    told = [f"{name} {value}" for name, value in conditions.items() if isinstance(value, str | int | float)]
    versions = ", ".join(f"{name} {value}" for name, value in conditions["versions"].items())
    shown = _shown(result)
    return "\n".join(
        [
            f"# {printable(result.data)}, scenario {plan.scenario}: "
            f"{_count(len(result.ranking), 'learner')}, {_count(len(plan.seeds), 'seed')}",
            "",
            f"**{verdict(result)}**",
            "",
            f"| {' | '.join(headings(result))} |",
            "|---" + "|---:" * len(shown) + "|",
            *(f"| {' | '.join(row)} |" for row in rows(result)),
            "",
            "Accuracy: mean over the seeds ± half the 95 % interval (Student). All others: means over the seeds.",
            "",
            *(f"![{_WORDS[path.stem]}]({path.name})\n" for path in pictures),
            *([] if pictures else ["No pictures: matplotlib is not installed (pip install 'edgecl[report]').", ""]),
            "## What the figures mean",
            "",
            *(f"- {FIGURES[name].short}: {FIGURES[name].meaning}." for name in shown),
            "",
            "## Made under",
            "",
            f"Seeds {', '.join(map(str, plan.seeds))}; batch {plan.batch}; "
            f"{f'looked at every {plan.every} samples' if plan.every else 'looked at after each experience'}"
            + "".join(f"; {name} {value}" for name, value in plan.scenario_options.items())
            + ".",
            f"{'; '.join(told)}; {versions}.",
            "",
            *(f"- {printable(entry['label'])}: `{json.dumps(entry['config'])}`" for entry in plan.to_dict()["entries"]),
            "",
        ]
    )


def write(result: Comparison, dataset: Dataset, folder: Path) -> list[Path]:
    """Write the report into `folder` and return its files. Raises EdgeclError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        if find_spec("matplotlib"):
            from edgecl.streaming.plots import draw

            pictures = draw(result, dataset, folder)
        write_whole(folder / "results.json", (json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n").encode())
        write_whole(folder / "report.md", markdown(result, pictures).encode())
    except OSError as error:
        raise EdgeclError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return [folder / "report.md", folder / "results.json", *pictures]


def _shown(result: Comparison) -> list[str]:
    first = result.figures[result.ranking[0]]
    return [name for name in FIGURES if name in first]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _name(result: Comparison, place: int) -> str:
    return printable(result.ranking[place], 40)
