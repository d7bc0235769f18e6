"""`edgecl evaluate`: learn every task, test without task labels, write the report."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from edgecl import registry
from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    configured,
    progress,
    say,
)


def evaluate(
    tasks: Annotated[Path, typer.Argument(help="Folder of tasks, each with train/ and test/ inside.")],
    method: Annotated[
        str, typer.Option("--method", help=f"{', '.join(registry.METHODS)}, or finetune (a network a task).")
    ] = "linear",
    recipe: Annotated[str, typer.Option("--recipe", help="default or paper.")] = "default",
    mapper: Annotated[
        str | None, typer.Option("--mapper", help=f"{', '.join(registry.MAPPERS)}, or oracle (the task is given).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for report.json, report.md and pictures.")
    ] = None,
    unknown_classes: Annotated[
        bool, typer.Option("--unknown-classes", help="Also leave each class out in turn; learns a head a class.")
    ] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn every TASK/train on a fresh device, test every TASK/test without naming the task. Your bank is not touched."""
    from edgecl.config import home
    from edgecl.device import EdgeDevice
    from edgecl.evaluate import evaluate as run
    from edgecl.evaluate import find_tasks
    from edgecl.report import table, write

    found = find_tasks(tasks)
    oracle = mapper == "oracle"
    settings = configured(rom=rom, runtime=runtime, device=device, threads=threads, mapper=None if oracle else mapper)
    with tempfile.TemporaryDirectory(prefix="edgecl-evaluate-") as place:
        own = EdgeDevice(place, cache=home() / "cache", say=say, **dataclasses.asdict(settings))
        with own as edge, progress() as bar:
            result = run(
                edge,
                found,
                method=method,
                recipe=recipe,
                oracle=oracle,
                seed=seed,
                unknown_classes=unknown_classes,
                progress=bar,
            )
    if output is not None:
        for path in write(result, output):
            say(f"wrote {path}")
    print(json.dumps(result.to_dict()) if as_json else table(result))
