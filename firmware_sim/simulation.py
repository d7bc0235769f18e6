"""A whole simulation: a scenario in, a folder with trace, homes, summary and report out.

    done = simulate(load("ring", agents=20, tasks={"folder": "tasks/"}), Path("run"), rom=Path("rom"), cache=Path("cache"))

The folder: `trace.jsonl` (what happened), `homes/` (a real home for each agent, as it was left),
`summary.json`, `report.md`, `report.html`, plots.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import __version__
from edgecl.errors import ConfigError, DataError
from edgecl.metrics.accuracy import macro
from edgecl.pictures.reading import Progress, read_features, silent
from edgecl.rom.feature_cache import FeatureCache
from edgecl.rom.image import RomImage
from edgecl.rom.opening import open_rom
from edgecl.text import printable
from edgecl.workers.base import Cluster
from edgecl.workers.pool import Pool
from firmware_sim.fleet import Fleet
from firmware_sim.scenario import Scenario, from_dict
from firmware_sim.trace import Event, Trace, read
from firmware_sim.world import World

TRACE, SUMMARY = "trace.jsonl", "summary.json"
FORMAT = 1  # of the trace
_TOGETHER = 64  # homes that one operation makes
_CACHE_MB = 2048

Json = dict[str, Any]
Heard = Callable[[Event], None]


def simulate(
    scenario: Scenario,
    folder: Path,
    *,
    rom: Path,
    cache: Path,
    workers: str = "local",
    count: int = 1,
    address: str = "auto",
    threads: int = 0,
    until: float = float("inf"),
    watched: bool = False,
    heard: Heard = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Json:
    """Run it and return the summary.

    folder: new, empty, or an earlier run's, which it replaces.   cache: folder for features, which are read once.
    workers: local (this process), processes, or ray (address: auto, or of a cluster); count: of them.   until: virtual second
    to stop at.   watched: look at the devices after each event.   heard: called with each event.

    Raises ConfigError, DataError.
    """
    began = time.perf_counter()
    image = RomImage.open(rom)
    _prepare(folder)
    world = World(scenario, image.features)
    _read(world, rom, cache, threads, progress)
    settings = {
        "scenario": scenario.to_dict(),
        "run": str(folder.absolute()),
        "rom": str(Path(rom).absolute()),
        "cache": str(cache.absolute()),
        "threads": threads if workers == "local" else 1,
    }
    cluster = Cluster(address, gpus=int(scenario.device == "cuda"))
    with (
        Pool(workers, "firmware_sim.host:Host", settings, count, cluster=cluster) as pool,
        Trace(folder / TRACE, heard) as trace,
    ):
        trace.head(_head(scenario, image))
        _provision(pool, world, progress)
        fleet = Fleet(world, pool, trace, folder / "homes", watched)
        ready = time.perf_counter()
        fleet.start()
        fleet.run(until)
        ran = time.perf_counter()
        trace.flush(float("inf"))
        judged = _evaluate(fleet, pool, trace, progress) if scenario.evaluate and until == float("inf") else {}
        for agent in fleet.agents[: world.honest]:
            trace.emit(fleet.now, agent.index, agent.name, "end", knows=dict(sorted(agent.knows.items())))
        memory = [pool.submit("usage", {}, k).result()["memory_mb"] for k in range(pool.workers)]
    done = time.perf_counter()
    summary = {
        **_summary(fleet, image),
        **judged,
        "real_s": round(done - began, 3),
        "real_run_s": round(ran - ready, 3),
        "steps_per_real_s": round((fleet.steps + fleet.carried) / max(ran - ready, 1e-9)),
        "memory_mb": [round(mb, 1) for mb in memory],
        "workers": workers,
        "processes": count,
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1))
    return summary


def replay(recorded: Path, folder: Path, until: float, **how: Any) -> Json:
    """Do again what a trace tells, up to virtual second `until`, and leave the homes as they were then.

    how: as for `simulate`. Raises DataError at the first line that differs: other code, packages or pictures.
    """
    lines = read(recorded)
    head = next(lines, None)
    if not head or head["event"] != "scenario" or head.get("format") != FORMAT:
        raise DataError(f"{printable(recorded)} does not begin as a trace of this edgecl does; simulate the scenario again")
    scenario = from_dict(head["scenario"], str(recorded))
    image = RomImage.open(how["rom"])
    if head["rom_id"] != image.rom_id:
        raise DataError(
            f"the trace was made on ROM {head['rom_id'][:12]}, this is {image.rom_id[:12]}; give that one with --rom"
        )
    heard: Heard = how.pop("heard", lambda event: None)
    differs: list[str] = []
    at = 1

    def compare(event: Event) -> None:
        nonlocal at
        heard(event)
        if event["event"] in ("scenario", "end", "evaluated") or differs:
            return
        at += 1
        then = next(lines, None)
        if then != event:
            differs.append(f"line {at} was {json.dumps(then)[:300]}, and is now {json.dumps(event)[:300]}")

    summary = simulate(scenario, folder, until=until, heard=compare, **how)
    if differs:
        raise DataError(
            f"the run is not the one in {printable(recorded)}: {differs[0]}. Another version of edgecl or of its packages, or "
            f"other pictures; recorded with {head['versions']}"
        )
    return summary


def _prepare(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; the run needs a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / TRACE).is_file():
            raise ConfigError(f"{folder} holds something else than a simulation; name a new folder with -o")
        for name in ("homes", "journal"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for old in (TRACE, SUMMARY, "report.md", "report.html"):
            (folder / old).unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; name another folder with -o") from error


def _head(scenario: Scenario, image: RomImage) -> Event:
    versions = {"edgecl": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return {"event": "scenario", "format": FORMAT, "rom_id": image.rom_id, "versions": versions, "scenario": scenario.to_dict()}


def _read(world: World, rom: Path, cache: Path, threads: int, progress: Progress) -> None:
    """Have the features of all pictures that any agent will ask for, in full batches: later they are found."""
    pictures = world.pictures()
    if not pictures:
        return
    with open_rom(rom, world.scenario.runtime, world.scenario.device, threads) as opened:
        store = feature_store(cache, opened)
        try:
            read_features(opened, pictures, store, progress)
        finally:
            store.close()


def feature_store(cache: Path, rom: Any) -> FeatureCache:
    """What devices with this cache folder find their features in."""
    return FeatureCache(cache / "features.sqlite", f"{rom.rom_id}/{rom.runtime}/{rom.provider}", rom.width, _CACHE_MB << 20)


def _provision(pool: Any, world: World, progress: Progress) -> None:
    parts = [list(range(world.total))[at : at + _TOGETHER] for at in range(0, world.total, _TOGETHER)]
    futures = [pool.submit("provision", {"agents_": part}, part[0]) for part in parts]
    for done, future in enumerate(futures, 1):
        future.result()
        progress("making homes", min(done * _TOGETHER, world.total), world.total)


def _evaluate(fleet: Fleet, pool: Pool, trace: Trace, progress: Progress) -> Json:
    """Every live agent answers all test pictures, and its heads' scores are compared with their authors'."""
    live = [agent for agent in fleet.agents[: fleet.world.honest] if not agent.off]
    prints: dict[str, str] = {}
    for task, (index, _) in fleet.authors().items():
        prints |= pool.submit("prints", fleet.on(fleet.agents[index]) | {"tasks": [task]}, index).result()
    futures = [(a, pool.submit("evaluate", fleet.on(a) | {"prints": prints}, a.index)) for a in live]
    found = []
    for done, (agent, future) in enumerate(futures, 1):
        found.append(future.result())
        trace.emit(fleet.now, agent.index, agent.name, "evaluated", **found[-1])
        progress("every agent answers every test picture", done, len(live))
    return {
        "accuracy": {
            key: [min(one[key] for one in found), macro([one[key] for one in found])] for key in ("joint", "everywhere")
        },
        "identical": not any(one["differs"] for one in found),
    }


def _summary(fleet: Fleet, image: RomImage) -> Json:
    world, scenario = fleet.world, fleet.scenario
    agents = fleet.agents[: world.honest]
    return {
        "scenario": scenario.to_dict(),
        "seed": scenario.seed,
        "rom": {"rom_id": image.rom_id, "backbone": image.backbone},
        "virtual_s": round(fleet.now, 6),
        "known_at_s": None if fleet.known_at is None else round(fleet.known_at, 6),
        "agents": world.honest,
        "tasks": sorted(fleet.authors()),
        "steps": fleet.steps,
        "messages": fleet.carried,
        "violations": fleet.violations,
        "bytes": sum(agent.out for agent in agents),
        "per_agent": {
            agent.name: {
                **agent.board.to_dict(),
                "out": agent.out,
                "in": agent.back,
                "knows": len(agent.knows),
                "sessions": agent.sessions,
                "faults": agent.faults,
                "live": not agent.off,
            }
            for agent in agents
        },
    }


def table(summary: Json) -> Sequence[str]:
    """The outcome in a few lines."""
    live = [one for one in summary["per_agent"].values() if one["live"]]
    least = min((one["knows"] for one in live), default=0)
    lines = [
        f"{len(live)} of {summary['agents']} agents are on; each knows at least {least} of {len(summary['tasks'])} tasks",
        f"virtual {summary['virtual_s']:,.1f} s, real {summary['real_s']:,.1f} s; {summary['bytes'] / 1e6:,.1f} MB sent",
    ]
    if summary["known_at_s"] is not None:
        lines.append(f"everybody knew everything after {summary['known_at_s']:,.1f} virtual seconds")
    return lines
