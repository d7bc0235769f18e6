"""`edgecl reproduce`: published and specified figures, run again and held against what was claimed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecl.cli.common import JsonOption, progress, say

if TYPE_CHECKING:
    from edgecl.reproduce.base import Row


def reproduce(
    what: Annotated[str, typer.Argument(help="ls, all, or a row such as memory-head/modes-cdi.")],
    short: Annotated[bool, typer.Option("--short", help="One seed each: a look, which verifies nothing.")] = False,
    data: Annotated[str | None, typer.Option("--data", help="For rows that need it: a folder of tasks, ns:FOLDER.")] = None,
    rom: Annotated[str | None, typer.Option("--rom", help="For these rows: a ROM image; default: the home's.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="For rows that start from a trained network: safetensors or a state dict.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run nothing: time a few steps, and say how long the row would take here.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of reproduction.json and reproduction.md, brought up to date.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run rows of the reproduction table, or list them: what was claimed, ours, verdict."""
    from edgecl.reproduce import records
    from edgecl.reproduce.rows import ROWS
    from edgecl.reproduce.rows import row as find
    from edgecl.reproduce.running import run

    if what == "ls":
        for id, row in ROWS.items():
            print(f"{id:<26} {row.title}" + (f" (needs {row.needs})" if row.needs else ""))
        return
    if dry_run:
        _project(find(what), short, data, rom, as_json)
        return
    chosen = [row for row in ROWS.values() if data or not row.needs] if what == "all" else [find(what)]
    known = records.load(output) if output else {}
    found = {}
    for row in chosen:
        named = {"--data FOLDER": row.needs, "--rom ROM": "--rom" in row.needs, "--weights FILE": row.weights}
        given = " ".join(["edgecl reproduce", row.id, *(words for words, wanted in named.items() if wanted)])
        with progress() as bar:
            runs = output / "runs" if output else None
            found[row.id] = run(
                row,
                given,
                short=short,
                data=data,
                rom=rom,
                weights=str(weights) if weights and row.weights else None,
                workers=workers,
                folder=runs,
                say=say,
                progress=bar,
            )
        if output and not short:
            records.save(known | found, output)
        if not as_json:
            _show(row.id, found[row.id], short)
    if as_json:
        print(json.dumps(found, allow_nan=False))
    elif output and not short:
        say(f"wrote {output / records.FILE} and {output / records.PAGE}")
    for row in ROWS.values():
        if what == "all" and row not in chosen:
            say(f"left out {row.id}: it needs {row.needs}")


def _project(row: Row, short: bool, data: str | None, rom: str | None, as_json: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from edgecl.reproduce.projecting import project
    from edgecl.streaming.opening import open_data

    with progress() as bar:
        dataset = open_data(data, rom=rom, say=say, progress=bar)[0] if data else None
        found = project(row, short=short, dataset=dataset, progress=bar)
    if as_json:
        print(json.dumps([asdict(one) for one in found]))
        return
    table = Table(
        *("run", "tasks", "phases and their epochs at most", "steps", "ms a step", "picking", "hours a seed", "seeds"),
        title=f"{row.id}: what it would take here, at most",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for one in found:
        phases = ", ".join(f"{name} {epochs}" for name, epochs in one.phases.items())
        steps, hours = ("-" if one.steps is None else f"{one.steps:,}"), ("-" if one.hours is None else f"{one.hours:,.1f}")
        rates = f"{one.step * 1000:,.0f}", f"{one.picking * 1000:,.0f}"
        table.add_row(one.name, str(one.tasks), phases, steps, *rates, hours, str(one.seeds))
    Console(highlight=False, width=130).print(table)
    counted = "of these data" if data else "of the published data" if row.sizes else "not known: name the data, by --data"
    print(f"Pictures: {counted}. 100,000 of them once: {found[0].per_100k:.1f} h. Reading them from the disk is not counted.")
    print(f"A GPU was used: {'yes' if found[0].device == 'cuda' else 'no, one thread of the processor'}.")


def _show(id: str, record: dict[str, object], short: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from edgecl.reproduce import records
    from edgecl.reproduce.rows import ROWS

    cells = record["cells"]
    assert isinstance(cells, dict)
    table = Table(*records.HEADINGS, title=f"{id}: {ROWS[id].title}", title_justify="left", box=box.SIMPLE_HEAD)
    for cell in ROWS[id].cells:
        table.add_row(*records.shown(cell, cells[cell.told], short))
    Console(highlight=False, width=130).print(table)
