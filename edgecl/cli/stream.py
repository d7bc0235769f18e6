"""`edgecl stream`: learners compared on a stream of samples that come once, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecl import registry
from edgecl.cli.common import JsonOption, console, progress, say
from edgecl.errors import ConfigError
from edgecl.text import printable

app = typer.Typer(no_args_is_help=True, help="Learning from a stream, one sample at a time: compare learners on it.")
_WIDE = 150  # columns that the table needs


@app.command()
def run(
    learner: Annotated[str, typer.Option("--learner", help="Names with commas between them, as `stream ls` has them.")],
    data: Annotated[str, typer.Option("--data", help="modes, moons, a folder of tasks, ...; `stream ls` lists them.")],
    scenario: Annotated[str, typer.Option("--scenario", help=f"In which order it comes: {', '.join(registry.SCENARIOS)}.")],
    seeds: Annotated[
        str, typer.Option("--seeds", help="How many, from 0 on; or the seeds themselves, such as 1234,5678.")
    ] = "1",
    rom: Annotated[
        str | None, typer.Option("--rom", help="Learn on the features of this ROM image; default: the home's.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples a step.")] = 1,
    every: Annotated[int | None, typer.Option("--every", min=1, help="Also judge after each so many samples.")] = None,
    tasks: Annotated[int | None, typer.Option("--tasks", min=1, help="Only the first so many experiences.")] = None,
    net: Annotated[
        str | None, typer.Option("--net", help="Network of learners that have one, such as vgg16_bn; others by --set.")
    ] = None,
    width: Annotated[
        str | None, typer.Option("--width", help="Of cpg and its like: times the network's weights, such as 0.25.")
    ] = None,
    side: Annotated[int | None, typer.Option("--size", min=1, help="Without a ROM: side of the pictures, pixels.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of a learner, of all, of the scenario: er.buffer=100, all.width=0.25; may be given often."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help='TOML, a table a learner; one with learner = "er" is er under the table\'s name.'),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes; seconds then say little.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for report.md, results.json, pictures; a second run goes on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every learner through the stream with every seed: accuracy with intervals, forgetting, transfer, bytes, seconds."""
    from edgecl.options import Text, assignment, read_tables
    from edgecl.streaming.comparing import compare
    from edgecl.streaming.opening import open_data
    from edgecl.streaming.plan import ALL, planned
    from edgecl.streaming.report import verdict, write

    common = [(ALL, name, Text(text)) for name, text in (("net", net), ("width", width)) if text is not None]
    given: list[tuple[str, str, Any]] = [*common, *(assignment(text) for text in settings or [])]
    plan = planned(
        [name.strip() for name in learner.split(",")],
        scenario,
        _seeds(seeds),
        settings=given,
        tables=read_tables(config) if config else {},
        tasks=tasks,
        batch=batch,
        every=every,
    )
    with progress() as bar:
        dataset, conditions = open_data(data, rom=rom, size=side, say=say, progress=bar)
        for note in dataset.notes:
            say(note)
        result = compare(plan, dataset, workers=workers, folder=output, conditions=conditions, progress=bar)
    if output is not None:
        for path in write(result, dataset, output):
            say(f"wrote {path}")
    if as_json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    else:
        _table(result)
        print(verdict(result))


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """Learners, scenarios and data sets there are."""
    from edgecl.streaming.opening import first_line
    from edgecl.streams.opening import FORMS

    found = {
        "learners": {name: first_line(path) for name, path in registry.LEARNERS.items()},
        "scenarios": {name: first_line(path) for name, path in registry.SCENARIOS.items()},
        "data": dict(FORMS),
    }
    if as_json:
        print(json.dumps(found))
        return
    for kind, names in found.items():
        print(f"{kind}:")
        for name, line in names.items():
            print(f"  {name:<{max(map(len, names))}}  {line}")


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and 1 <= numbers[0] <= 1000:
        return list(range(numbers[0]))
    if len(numbers) < 2:
        raise ConfigError(
            f"--seeds takes how many, 1 to 1000, or two or more seeds with commas between them; got '{printable(text, 40)}'"
        )
    return numbers


def _table(result: object) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from edgecl.streaming.comparing import Comparison
    from edgecl.streaming.report import headings, rows

    assert isinstance(result, Comparison)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(headings(result)):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for at, row in enumerate(rows(result)):
        table.add_row(*row, style="bold" if at == 0 and len(result.ranking) > 1 else "")
    screen = console()
    (screen if screen.is_terminal else Console(highlight=False, width=_WIDE)).print(table)
