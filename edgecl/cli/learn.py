"""`edgecl learn`: pictures -> a head in the bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    MapperOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    open_device,
    progress,
    say,
    size,
)


def learn(
    task: Annotated[str, typer.Option("--task", help="Name of the task; a known name makes a new generation.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder per class, or train/ inside, or a CSV of path,label. Default: ./TASK or data_root/TASK.",
        ),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="Head method.")] = "linear",
    recipe: Annotated[str, typer.Option("--recipe", help="default, or paper (Adam as published; needs torch).")] = "default",
    seed: Annotated[int, typer.Option("--seed", help="The same seed and pictures give the same head.")] = 0,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a task from pictures; what was learned before is not touched."""
    with open_device(rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper) as edge:
        with progress() as bar:
            report = edge.learn(task, data, method=method, recipe=recipe, seed=seed, progress=bar)
        for line in report.warnings:
            say(f"warning: {line}")
        if as_json:
            print(json.dumps(report.to_dict()))
            return
        print(
            f"learned '{report.task}' (generation {report.generation}): {report.pictures} pictures, "
            f"{len(report.classes)} classes, validation accuracy {report.validation_accuracy:.3f}, "
            f"{report.seconds['total']:.1f} s, {size(report.bytes)}, {report.ran_on}"
        )
