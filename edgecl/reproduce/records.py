"""What rows gave when they were run, in a file, and the page that is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecl.errors import DataError, EdgeclError
from edgecl.files import write_whole
from edgecl.metrics.intervals import interval
from edgecl.reproduce.base import Cell, Row
from edgecl.reproduce.rows import ROWS
from edgecl.text import duration, printable, size

FILE, PAGE = "reproduction.json", "reproduction.md"
VERIFIED, NOT, REPORTED, OPEN = "verified", "not", "reported", "not run"
_LARGEST = 16 << 20  # bytes


def load(folder: Path) -> dict[str, Any]:
    """Row id -> record of its last full run. Empty where there is none. Raises DataError for what is no such file."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        found = json.loads(path.read_text(encoding="utf-8"))
        markdown(found)  # whatever it lacks is missed here
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError) as error:
        raise DataError(f"{path} holds no results of `edgecl reproduce`: {error}; move it away") from error
    return dict(found)


def save(records: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the file and its page; whole or not at all. Raises EdgeclError."""
    texts = {FILE: json.dumps(records, indent=1, sort_keys=True, allow_nan=False) + "\n", PAGE: markdown(records)}
    try:
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
    except OSError as error:
        raise EdgeclError(f"results cannot be written to {folder}: {error.strerror}") from error
    return [folder / name for name in texts]


def figure(cell: Cell, values: list[float]) -> float:
    """Of a value for each seed, the one that the claim is about."""
    return {"mean": sum(values) / len(values), "lowest": min(values), "highest": max(values)}[cell.statistic]


def verdict(cell: Cell, record: Mapping[str, Any] | None) -> str:
    """Whether the claim holds by a recorded run of exactly this cell; a record of another run is none."""
    if record is None or record["run"] != json.loads(json.dumps(cell.run)) or len(record["values"]) != len(cell.seeds):
        return OPEN
    if cell.claim is None:
        return REPORTED
    return VERIFIED if cell.claim.holds(figure(cell, record["values"])) else NOT


def line(cell: Cell, record: Mapping[str, Any] | None) -> list[str]:
    """Cells of a table: name, claim, whose, ours, seeds, bytes, verdict."""
    claimed = [str(cell.claim), cell.claim.source] if cell.claim else ["-", "-"]
    said = verdict(cell, record)
    if record is None or said == OPEN:
        return [cell.told, *claimed, "-", "-", "-", OPEN]
    values = list(map(float, record["values"]))
    found = str(interval(values)) if cell.statistic == "mean" else f"{figure(cell, values):.3f}"
    return [cell.told, *claimed, found, str(len(values)), size(float(record["bytes"])), said]


def shown(cell: Cell, record: Mapping[str, Any], short: bool) -> list[str]:
    """As `line`, for what was just run; the short form says only whether its one seed agrees."""
    if not short:
        return line(cell, record)
    values = list(map(float, record["values"]))
    agrees = "-" if cell.claim is None else "agrees" if cell.claim.holds(figure(cell, values)) else "differs"
    first = replace(cell, seeds=cell.seeds[: len(values)])
    return [*line(first, record)[:-1], f"{agrees} (short)"]


HEADINGS = ("figure", "claimed", "by", "ours", "seeds", "bytes", "verdict")


def markdown(records: Mapping[str, Any]) -> str:
    """The page: every row there is, with what is recorded of it."""
    said = [verdict(cell, _cells(records, row).get(cell.told)) for row in ROWS.values() for cell in row.cells]
    counts = ", ".join(f"{said.count(word)} {word}" for word in (VERIFIED, NOT, REPORTED, OPEN) if word in said)
    parts = [
        "# Reproduction",
        "",
        f"Written by `edgecl reproduce`, from `{FILE}`; do not edit. {counts}.",
        "",
        "Claims with ±: ours must lie within that, one standard deviation over seeds as it was measured there. Ours: mean over",
        "the seeds ± half the 95 % interval (Student). What was not run with all its seeds is shown as not run.",
        "",
    ]
    for row in ROWS.values():
        record, cells = records.get(row.id), _cells(records, row)
        parts += [f"## {row.id}", "", f"{row.title}.", ""]
        parts += [f"Needs {row.needs}.", ""] if row.needs else []
        parts += [f"Starts from {row.weights}.", ""] if row.weights else []
        parts += [row.note, ""] if row.note else []
        parts += [f"| {' | '.join(HEADINGS)} |", "|---" * 3 + "|---:" * 3 + "|---|"]
        parts += [f"| {' | '.join(line(cell, cells.get(cell.told)))} |" for cell in row.cells]
        if record:
            versions = ", ".join(f"{printable(k, 40)} {printable(v, 40)}" for k, v in sorted(record["versions"].items()))
            rom = f"; ROM {printable(record['rom'], 20)}" if record["rom"] else ""
            rom += f"; weights {printable(record['weights'], 20)}" if record.get("weights") else ""
            parts += [
                "",
                f"`{printable(record['command'], 200)}`, {printable(record['date'], 40)}, {printable(record['machine'], 120)}; "
                f"{duration(float(record['seconds']))} of learning; {versions}{rom}.",
            ]
        parts.append("")
    return "\n".join(parts)


def _cells(records: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    found: Mapping[str, Any] = records[row.id]["cells"] if row.id in records else {}
    return found
