"""`edgecl evaluate`: learn every task, test without task labels, write the report."""

from __future__ import annotations

import contextlib
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
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Learn the tasks in parallel on the Ray cluster at this address, or auto: here."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="How many learn at the same time; without --ray, processes here.")
    ] = None,
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
    from edgecl.learning_apart import learners
    from edgecl.report import table, write
    from edgecl.streams.folders import find_tasks
    from edgecl.workers.base import Cluster

    found = find_tasks(tasks)
    oracle = mapper == "oracle"
    settings = configured(rom=rom, runtime=runtime, device=device, threads=threads, mapper=None if oracle else mapper)
    cache = home() / "cache"
    with contextlib.ExitStack() as end:
        place = end.enter_context(tempfile.TemporaryDirectory(prefix="edgecl-evaluate-"))
        pool = None
        if ray is not None or workers is not None:
            cluster = Cluster(ray or "auto", gpus=int(settings.device == "cuda"))
            pool = learners("ray" if ray else "processes", settings, cache, workers, len(found), cluster)
            end.enter_context(pool)
        own = EdgeDevice(place, cache=cache, say=say, **dataclasses.asdict(settings))
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
                pool=pool,
            )
    if output is not None:
        for path in write(result, output):
            say(f"wrote {path}")
    print(json.dumps(result.to_dict()) if as_json else table(result))
