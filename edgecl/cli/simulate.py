"""`edgecl simulate`: a fleet of devices on this machine, in virtual time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import (
    DeviceOption,
    JsonOption,
    RomOption,
    RuntimeOption,
    ThreadsOption,
    command,
    configured,
    console,
    out,
    say,
)
from edgecl.errors import ConfigError, EdgeclError

_SECONDS = re.compile(r"(\d+(?:\.\d+)?) *(s|min|h)?")
_UNITS = {"s": 1.0, None: 1.0, "min": 60.0, "h": 3600.0}


def simulate(
    scenario: Annotated[str | None, typer.Argument(help="A TOML file, or the name of one that comes with edgecl.")] = None,
    agents: Annotated[int | None, typer.Option("--agents", help="How many devices.")] = None,
    tasks: Annotated[Path | None, typer.Option("--tasks", help="Folder of tasks, each with train/ and test/ inside.")] = None,
    board: Annotated[str | None, typer.Option("--board", help="Kind of all devices; see docs/boards.md.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same trace.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="How heads are learned.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run. Default: simulated-NAME.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, help="Spread the devices over so many.")] = 1,
    ray: Annotated[str | None, typer.Option("--ray", help="auto, or a cluster's address: over Ray workers.")] = None,
    replay: Annotated[Path | None, typer.Option("--replay", help="A trace: do it again, up to --until.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Virtual time to stop at, as in 120s, 5min or 2h.")] = None,
    evaluate: Annotated[bool | None, typer.Option("--evaluate/--no-evaluate", help="Let all answer all test pictures.")] = None,
    baselines: Annotated[bool | None, typer.Option("--baselines/--no-baselines", help="Also what others would reach.")] = None,
    known: Annotated[bool, typer.Option("--list", help="The scenarios that come with edgecl.")] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the device code of a whole fleet in virtual time: boards, links, faults and foes as the scenario says.

    In the folder of the run: trace.jsonl, report.html, report.md, summary.json, and a real home for every device. With
    --replay, the homes are as they were at --until.
    """
    from edgecl import config
    from firmware_sim import scenario as scenarios

    if known:
        for name, what in scenarios.described().items():
            out(f"{name:<14} {what}")
        return
    if (scenario is None) == (replay is None):
        raise ConfigError(f"name a scenario ({', '.join(scenarios.names())}, or a TOML file), or a trace with --replay")
    end = _seconds(until) if until else float("inf")
    if scenario is not None:
        outer = {"agents": agents, "seed": seed, "board": board, "runtime": runtime, "device": device}
        inner = {"folder": str(tasks.absolute()) if tasks else None, "source": "folder" if tasks else None, "method": method}
        chosen = scenarios.load(scenario, **outer, evaluate=evaluate, baselines=baselines, tasks=inner)
    from firmware_sim import simulation
    from firmware_sim.analysis import read
    from firmware_sim.live import Live
    from firmware_sim.report import write
    from firmware_sim.wording import headline

    if replay is not None:
        chosen = simulation.recorded(replay)
    folder = output or Path("replayed" if replay else f"simulated-{chosen.name}")
    settings = configured(rom=rom, runtime=runtime, device=device, threads=threads)
    if ray is not None and processes == 1:
        processes = 2
    with Live(chosen.agents, 0, console(err=True)) as live:
        how = {
            "rom": Path(settings.rom),
            "cache": config.home() / "cache",
            "until": end,
            "workers": "ray" if ray else "processes" if processes > 1 else "local",
            "count": processes,
            "address": ray or "auto",
            "threads": settings.threads,
            "heard": live.event,
            "progress": live.stage,
        }
        if replay is None:
            summary = simulation.simulate(chosen, folder, **how)  # type: ignore[arg-type]
        else:
            summary = simulation.replay(replay, folder, **how)  # type: ignore[arg-type]
    written = write(folder)
    if as_json:
        print(json.dumps(summary))
    else:
        for line in headline(read(folder)):
            out(line)
    for path in (folder / simulation.TRACE, *written):
        say(f"wrote {path}")
    if replay is not None:
        say(f"a device as it was then: {command()} --home {folder / 'homes' / next(iter(summary['per_agent']))} heads ls")
    if summary["violations"]:
        raise EdgeclError(f"what must always hold did not: {summary['violations'][0]}. This is a bug in edgecl; keep the trace")


def _seconds(text: str) -> float:
    found = _SECONDS.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"--until is a virtual time such as 120s, 5min or 2h, got '{text}'")
    return float(found[1]) * _UNITS[found[2]]
