"""`edgecl bench`: latency, throughput and bytes, against the floor."""

from __future__ import annotations

import dataclasses
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
    configured,
    progress,
    say,
)
from edgecl.errors import ConfigError


def bench(
    tasks: Annotated[
        int | None, typer.Option("--tasks", min=1, help="Synthetic tasks on the large device. Default: 100.")
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option(
            "--heads", min=2, max=1000, help="Only heads that act inside the network, so many of each kind: their cost."
        ),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes, such as 1,8,32.")] = "",
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder of pictures to measure with; else some are made.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few rounds of everything: a trial, not a measurement.")] = False,
    targets: Annotated[
        bool, typer.Option("--targets", help="The sizes of docs/benchmarks.md, each held against its target.")
    ] = False,
    against: Annotated[Path | None, typer.Option("--against", help="A saved report to compare with.")] = None,
    saved: Annotated[
        Path | None, typer.Option("--saved", help="With --against: compare this saved report with it, and measure nothing.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File for the report, JSON.")] = None,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    mapper: MapperOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure each step, the whole against the raw runtime, learning, starting and bytes. Your bank is not touched."""
    from edgecl.bench import report as reports
    from edgecl.bench import suite
    from edgecl.bench.heads import QUICK, HeadSettings
    from edgecl.bench.heads import run as run_heads
    from edgecl.bench.pictures import of_folder

    if quick and targets:
        raise ConfigError("--quick and --targets exclude each other: a trial of few rounds says nothing about a target")
    if heads and (tasks or batch or pictures):
        raise ConfigError("--heads measures nothing that --tasks, --batch or --pictures speak of; leave them out")
    settings = suite.QUICK if quick else suite.TARGETS if targets else suite.Settings()
    settings = suite.with_options(settings, tasks, _sizes(batch))
    old = reports.load(against) if against else None  # before minutes of measuring
    if saved is not None:
        if old is None:
            raise ConfigError("--saved names a report to compare; name the one to compare it with by --against")
        print(reports.comparison(*reports.compare(old, reports.load(saved))))
        return
    c = configured(rom=rom, runtime=runtime, device=device, threads=threads, mapper=mapper)
    shown = of_folder(pictures, max(settings.learn, suite.MIXED)) if pictures else None
    place = suite.Place(Path(c.rom), c.runtime, c.device, c.threads, c.mapper, shown)
    with progress() as bar:
        if heads:
            result = run_heads(place, dataclasses.replace(QUICK if quick else HeadSettings(), heads=heads), bar)
        else:
            result = suite.run(place, settings, bar)
    if output is not None:
        reports.save(result, output)
        say(f"wrote {output}")
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        print(reports.markdown(result, targets_only=targets))
    if old is not None:
        table = reports.comparison(*reports.compare(old, result))
        if as_json:
            say(table)
        else:
            print("\n" + table)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        sizes = [0]
    if any(not 1 <= size <= 1024 for size in sizes):
        raise ConfigError(f"--batch takes numbers from 1 to 1024 with commas between them, such as 1,8,32; got '{text[:40]}'")
    return sizes
