"""A run for people to read: report.md, pictures where matplotlib is installed, and report.html."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgecl.errors import EdgeclError
from edgecl.text import printable, size
from firmware_sim import wording
from firmware_sim.analysis import Run, accuracies, read
from firmware_sim.page import page
from firmware_sim.wording import NAME, wait

ROWS = 30  # of a table; a run may have 500 tasks


def write(folder: Path) -> list[Path]:
    """Read the run in `folder` and write the report beside it; returns the files. Raises DataError, EdgeclError."""
    run = read(folder)
    try:
        drawn: list[Path] = []
        if find_spec("matplotlib"):
            from firmware_sim.plots import draw

            drawn = draw(run, folder)
        text = markdown(run, [path.name for path in drawn])
        (folder / "report.md").write_text(text, encoding="utf-8")
        (folder / "report.html").write_text(page(run), encoding="utf-8")
    except OSError as error:
        raise EdgeclError(f"the report cannot be written to {printable(folder)}: {error.strerror}") from error
    return [folder / "report.md", folder / "report.html", *drawn]


def markdown(run: Run, pictures: Sequence[str]) -> str:
    """report.md; readable as it stands at 100 columns."""
    known, traffic = run.knowledge, run.traffic
    title, *more = [_wrapped(_quiet(sentence)) for sentence in wording.headline(run)]
    parts = [
        f"# {_quiet(wording.conditions(run)[0])}",
        f"**{title}**",
        *more,
        _wrapped(_quiet("; ".join(wording.conditions(run)[1:]) + ".")),
    ]
    if known.tasks:
        ways = known.spread()[:, 2]
        half, most, worst = (float(np.quantile(ways, q, method="higher")) for q in (0.5, 0.9, 1))
        parts += [
            "## Time to knowledge",
            _wrapped(
                f"From a task's first learning until every live agent knows it: half of the tasks within {wait(half)}, "
                f"90 % within {wait(most)}, all within {wait(worst)}.".replace("within never", "never")
            ),
            table(wording.SPREAD_COLUMNS, wording.spread_rows(run)),
        ]
    parts += [
        "## Traffic",
        f"{size(float(sum(traffic.links.values())))} in {traffic.sessions:,} sessions over {len(traffic.links):,} links; "
        f"{traffic.broken:,} sessions broke.",
    ]
    busiest = sorted(traffic.links.items(), key=lambda link: (-link[1], link[0]))[:5]
    if busiest:
        parts.append(table(("busiest links", "", "bytes"), [[a, b, size(moved)] for (a, b), moved in busiest]))
    if rows := wording.board_rows(run):
        parts += [
            "## Boards",
            "Median / highest of the agents; life used: the share of the flash’s endurance.",
            table(wording.BOARD_COLUMNS, rows),
        ]
    if rows := wording.fault_rows(run):
        parts += ["## Faults", table(wording.TROUBLE_COLUMNS, rows)]
    if rows := wording.attack_rows(run):
        parts += ["## Attacks", table(wording.TROUBLE_COLUMNS, rows)]
        if gone := run.troubles.revoked:
            parts.append(f"{len(gone):,} revocations took {sum(row[3] for row in gone):,} heads out of force.")
    if len(answers := accuracies(run)) > 1:
        parts += ["## Accuracy", table(("who", "joint"), [[name, f"{joint:.3f}"] for name, (joint, _) in answers.items()])]
    parts += [f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in pictures]
    if not pictures:
        parts.append("No pictures: matplotlib is not installed (pip install 'edgecl[report]').")
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table in straight columns. Cells may be anything: they are made printable and keep to themselves."""
    shown = [[_quiet(printable(cell, NAME if i < len(row) - 1 else 48)) for i, cell in enumerate(row)] for row in rows[:ROWS]]
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in (columns, *shown)]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    if len(rows) > ROWS:
        lines.append(f"\nand {len(rows) - ROWS:,} more.")
    return "\n".join(lines)


def _quiet(text: str) -> str:
    """A foreign name inside Markdown, which may hold HTML too: what could act there is escaped."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9]))", r"\\\1", text)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 96, break_long_words=False, break_on_hyphens=False)
