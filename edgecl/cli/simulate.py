"""`edgecl simulate`: a fleet of devices on this machine, in virtual time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from edgecl.cli.common import DeviceOption, JsonOption, RomOption, RuntimeOption, ThreadsOption, configured, out, progress, say
from edgecl.errors import ConfigError

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
    known: Annotated[bool, typer.Option("--list", help="The scenarios there are.")] = False,
    rom: RomOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the device code of a whole fleet in virtual time: boards, links, faults and foes as the scenario says.

    In the folder of the run: trace.jsonl, report.html, report.md, summary.json, and a real home for every device. With
    --replay, the homes are as they were at --until: EDGECL_HOME=FOLDER/homes/agent-007 edgecl heads ls.
    """
    from edgecl import config
    from firmware_sim import scenario as scenarios

    if known:
        for name, what in scenarios.described().items():
            out(f"{name:<14} {what}")
        return
    if (scenario is None) == (replay is None):
        raise ConfigError(f"name a scenario ({', '.join(scenarios.names())}, or a TOML file), or a trace with --replay")
    if ray is not None and processes == 1:
        processes = 2
    settings = configured(rom=rom, runtime=runtime, device=device, threads=threads)
    from firmware_sim.live import Live
    from firmware_sim.report import write

    from firmware_sim.simulation import TRACE, table
    from firmware_sim.simulation import replay as again
    from firmware_sim.simulation import simulate as run

    chosen = None
    if scenario is not None:
        changes = {"agents": agents, "seed": seed, "board": board, "runtime": runtime, "device": device}
        folder_ = str(tasks.absolute()) if tasks else None
        inner = {"folder": folder_, "source": "folder" if tasks else None, "method": method}
        more = {"evaluate": evaluate, "baselines": baselines, "tasks": inner}
        chosen = scenarios.load(scenario, **changes, **more)
    folder = output or Path(f"simulated-{chosen.name}" if chosen else "replayed")
    end = _seconds(until) if until else float("inf")
    with Live() as live, progress() as bar:
        how = {
            "rom": Path(settings.rom),
            "cache": config.home() / "cache",
            "workers": "ray" if ray else "processes" if processes > 1 else "local",
            "count": processes,
            "address": ray or "auto",
            "threads": settings.threads,
            "heard": live.event,
            "say": say,
            "progress": bar,
        }
        summary = run(chosen, folder, until=end, **how) if chosen else again(replay, folder, end, **how)  # type: ignore[arg-type]
    for path in write(folder):
        say(f"wrote {path}")
    if as_json:
        print(json.dumps(summary))
        return
    for line in table(summary):
        out(line)
    if replay is not None:
        out(f"{replay} was repeated line by line; look at a device: edgecl --home {folder}/homes/agent-000 heads ls")
    say(f"what happened: {folder / TRACE}")


def _seconds(text: str) -> float:
    found = _SECONDS.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"--until is a virtual time such as 120s, 5min or 2h, got '{text}'")
    return float(found[1]) * _UNITS[found[2]]
