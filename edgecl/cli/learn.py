"""`edgecl learn`: pictures -> a head in the bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgecl import registry
from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    amount,
    open_device,
    progress,
    progress_lines,
    say,
    seconds,
)
from edgecl.text import size


def learn(
    task: Annotated[str, typer.Option("--task", help="Name of the task; a known name makes a new generation.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder per class, or train/ inside, or a CSV of path,label. Default: ./TASK or data_root/TASK.",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help=f"{', '.join(registry.METHODS)}. auto tries several and keeps what wins.")
    ] = "linear",
    recipe: Annotated[str, typer.Option("--recipe", help="default, or paper (as published; needs torch).")] = "default",
    sockets: Annotated[
        str | None, typer.Option("--sockets", help="Where bb, clr and cpg may act: all, last:N or deep (the deepest 7 in 10).")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time it may take, such as 120s or 3m: kept, or refused before work starts.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", help="Size of head, anchors and card, such as 200k: kept, or refused likewise.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a learning that was cut off, to the same bits.")] = False,
    goal: Annotated[
        float | None,
        typer.Option("--goal", help="Of cpg: accuracy on held-out pictures that the smallest head shall meet."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option("--over", help="Of cpg: a task whose own weights, and those it stands on, may be picked as well."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed and pictures give the same head.")] = 0,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
    shown: Annotated[str, typer.Option("--progress", help="bar, or json: a line for each step on stderr.")] = "bar",
) -> None:
    """Learn a task from pictures; what was learned before is not touched."""
    registry.check("progress", ("bar", "json"), shown)
    with open_device(rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper) as edge:
        with progress_lines() if shown == "json" else progress() as bar:
            report = edge.learn(
                task,
                data,
                method=method,
                recipe=recipe,
                seed=seed,
                sockets=sockets,
                budget=None if budget is None else seconds(budget, "--budget"),
                max_bytes=None if max_bytes is None else int(amount(max_bytes, "--max-bytes")),
                resume=resume,
                goal=goal,
                over=over,
                progress=bar,
            )
        for line in report.warnings:
            say(f"warning: {line}")
        if as_json:
            print(json.dumps(report.to_dict()))
            return
        print(
            f"learned '{report.task}' (generation {report.generation}, {report.method}): {report.pictures} pictures, "
            f"{len(report.classes)} classes, validation accuracy {report.validation_accuracy:.3f}, "
            f"{report.seconds['total']:.1f} s, {size(report.bytes)}, {report.ran_on}"
        )
