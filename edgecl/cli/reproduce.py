"""`edgecl reproduce`: published and specified figures, run again and held against what was claimed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import JsonOption, progress, say


def reproduce(
    what: Annotated[str, typer.Argument(help="ls, all, or a row such as memory-head/modes-cdi.")],
    short: Annotated[bool, typer.Option("--short", help="One seed each: a look, which verifies nothing.")] = False,
    data: Annotated[str | None, typer.Option("--data", help="For rows that need it: a folder of tasks, ns:FOLDER.")] = None,
    rom: Annotated[str | None, typer.Option("--rom", help="For these rows: a ROM image; default: the home's.")] = None,
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
    chosen = [row for row in ROWS.values() if data or not row.needs] if what == "all" else [find(what)]
    known = records.load(output) if output else {}
    found = {}
    for row in chosen:
        given = shlex.join(["edgecl", "reproduce", row.id, *(["--data", "FOLDER", "--rom", "ROM"] if row.needs else [])])
        with progress() as bar:
            runs = output / "runs" if output else None
            found[row.id] = run(
                row, given, short=short, data=data, rom=rom, workers=workers, folder=runs, say=say, progress=bar
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
