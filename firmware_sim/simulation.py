"""A whole simulation: a scenario in, a folder with trace, homes and summary out.

    done = simulate(load("ring", agents=20, tasks={"folder": "tasks/"}), Path("run"), rom=Path("rom"), cache=Path("cache"))

The folder: `trace.jsonl` (what happened), `homes/` (a real home for each agent, as it was left), `summary.json`.
`firmware_sim.report` makes what a person reads of it.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import __version__
from edgecl.errors import ConfigError, DataError
from edgecl.pictures.reading import Progress, read_features, silent
from edgecl.rom.feature_cache import FeatureCache
from edgecl.rom.image import RomImage
from edgecl.rom.opening import open_rom
from edgecl.text import printable
from edgecl.workers.base import Cluster
from edgecl.workers.pool import Pool
from firmware_sim.experiment import compared, outcome
from firmware_sim.host import CACHE_MB
from firmware_sim.scenario import Scenario, from_dict
from firmware_sim.trace import Event, Trace, read
from firmware_sim.troubles import TroubledFleet
from firmware_sim.world import World

TRACE, SUMMARY = "trace.jsonl", "summary.json"
FORMAT = 1  # of the trace
_TOGETHER = 64  # homes that one operation makes
_FOR_FIGURES = {"learn_start", "learned", "taken", "revoked", "session", "evaluated", "fault"}

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
    until: float = math.inf,
    watched: bool = False,
    heard: Heard = lambda event: None,
    progress: Progress = silent,
) -> Json:
    """Run it and return the summary.

    folder: new, empty, or an earlier run's, which it replaces.   cache: folder for features, which are read once.
    workers: local (this process), processes, or ray (address: auto, or of a cluster); count: of them.   until: virtual second
    to stop at; nothing is evaluated then.   watched: look at the devices after each event.   heard: called with each event.

    Raises ConfigError, DataError.
    """
    began = time.perf_counter()
    image = RomImage.open(rom)
    world = World(scenario, image.features)
    _ = world.lessons  # what cannot be learned is said before an earlier run is taken away
    _prepare(folder)
    _read(world, rom, cache, threads, progress)
    settings = {
        "scenario": scenario.to_dict(),
        "run": str(folder.absolute()),
        "rom": str(Path(rom).absolute()),
        "cache": str(cache.absolute()),
        "threads": threads or 1,  # the same everywhere: what is trained in PyTorch depends on it in its last bits
    }
    events: list[Event] = []

    def note(event: Event) -> None:
        if event["event"] in _FOR_FIGURES:
            events.append(event)
        heard(event)

    cluster = Cluster(address, gpus=int(scenario.device == "cuda"))
    with (
        Pool(workers, "firmware_sim.host:Host", settings, count, cluster=cluster) as pool,
        Trace(folder / TRACE, note) as trace,
    ):
        trace.head(_head(world, image))
        _provision(pool, world, progress)
        fleet = TroubledFleet(world, pool, trace, folder / "homes", watched)
        ready = time.perf_counter()
        fleet.start()
        fleet.run(until)
        ran = time.perf_counter()
        trace.flush(math.inf)
        if scenario.evaluate and until == math.inf:
            _evaluate(fleet, trace, progress)
        for agent in fleet.honest():
            trace.emit(fleet.now, agent.index, agent.name, "end", knows=dict(sorted(agent.knows.items())))
        trace.flush(math.inf)
        memory = [pool.submit("usage", {}, k).result()["memory_mb"] for k in range(pool.workers)]
    live = [agent.name for agent in fleet.honest() if not agent.off]
    summary = _summary(fleet, image) | outcome(world, events, sorted(fleet.authors()), live)
    if scenario.baselines and until == math.inf and world.pictures():
        with open_rom(rom, scenario.runtime, scenario.device, threads) as opened:
            summary["baselines"] = compared(world, opened, cache, progress)
    summary |= {
        "real_s": round(time.perf_counter() - began, 3),
        "real_run_s": round(ran - ready, 3),
        "events": trace.written,
        "events_per_s": round((fleet.steps + fleet.carried) / max(ran - ready, 1e-9)),
        "memory_mb": [round(mb, 1) for mb in memory],
        "workers": workers,
        "processes": count,
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1))
    return summary


def recorded(trace: Path) -> Scenario:
    """The scenario that a trace was made from. Raises DataError."""
    return from_dict(_first(trace)["scenario"], str(trace))


def _first(trace: Path) -> Event:
    head = next(read(trace), None)
    if not head or head["event"] != "scenario" or head.get("format") != FORMAT or not isinstance(head.get("scenario"), dict):
        raise DataError(f"{printable(trace)} does not begin as a trace of this edgecl does; simulate the scenario again")
    return head


def replay(
    trace: Path, folder: Path, *, rom: Path, until: float = math.inf, heard: Heard = lambda event: None, **how: Any
) -> Json:
    """Do again what a trace tells, up to virtual second `until`, and leave the homes as they were then.

    how: as for `simulate`. Raises DataError at the first line that differs: other code, packages or pictures.
    """
    head, lines = _first(trace), read(trace)
    image = RomImage.open(rom)
    if head.get("rom_id") != image.rom_id:
        other = printable(str(head.get("rom_id")), 12)
        raise DataError(f"the trace was made on ROM {other}, this is {image.rom_id[:12]}; give that one with --rom")
    if (folder / TRACE).exists() and (folder / TRACE).samefile(trace):
        raise ConfigError(f"{folder} is the run that is to be repeated; name another folder with -o")
    next(lines)
    differs: list[str] = []

    def compare(event: Event) -> None:
        heard(event)
        stopped = event.get("t", 0.0) >= until - 2e-6  # times are rounded
        if stopped or differs or event["event"] == "scenario":
            return
        then = next(lines, None)
        if then != event:
            differs.append(f"where it says {json.dumps(then)[:300]}, this run says {json.dumps(event)[:300]}")

    summary = simulate(recorded(trace), folder, rom=rom, until=until, heard=compare, **how)
    if not differs and until == math.inf and (more := next(lines, None)):
        differs.append(f"it goes on with {json.dumps(more)[:300]}, and this run ends before")
    if differs:
        raise DataError(
            f"the run is not the one in {printable(trace)}: {differs[0]}. Another version of edgecl or of its packages, or "
            f"other pictures; it was recorded with {head.get('versions')}"
        )
    return summary


def _prepare(folder: Path) -> None:
    """Make the folder, or take away what an earlier run has left there."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; the run needs a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TRACE).is_file():
        raise ConfigError(f"{folder} holds something else than a simulation; name a new folder with -o")
    try:
        if (folder / "homes").exists():
            shutil.rmtree(folder / "homes")
        for old in (TRACE, SUMMARY, "report.md", "report.html"):
            (folder / old).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}; name another folder with -o") from error


def _head(world: World, image: RomImage) -> Event:
    return {
        "event": "scenario",
        "format": FORMAT,
        "rom_id": image.rom_id,
        "tasks": len(world.last_lessons),
        "versions": {"edgecl": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "scenario": world.scenario.to_dict(),
    }


def _read(world: World, rom: Path, cache: Path, threads: int, progress: Progress) -> None:
    """Have the features of all pictures that any agent will ask for, in full batches: devices then find them in their cache."""
    pictures = world.pictures()
    if not pictures:
        return
    with open_rom(rom, world.scenario.runtime, world.scenario.device, threads) as opened:
        key = f"{opened.rom_id}/{opened.runtime}/{opened.provider}"  # as EdgeDevice has it
        store = FeatureCache(cache / "features.sqlite", key, opened.width, CACHE_MB << 20)
        try:
            read_features(opened, pictures, store, progress)
        finally:
            store.close()


def _provision(pool: Pool, world: World, progress: Progress) -> None:
    parts = [list(range(world.total))[at : at + _TOGETHER] for at in range(0, world.total, _TOGETHER)]
    futures = [pool.submit("provision", {"agents_": part}, part[0]) for part in parts]
    for done, future in enumerate(futures, 1):
        future.result()
        progress("making homes", min(done * _TOGETHER, world.total), world.total)


def _evaluate(fleet: TroubledFleet, trace: Trace, progress: Progress) -> None:
    """Every live agent answers all test pictures, and its heads' scores are compared with their authors'."""
    live = [agent for agent in fleet.honest() if not agent.off]
    prints: dict[str, str] = {}
    for task, (index, _) in fleet.authors().items():
        author = fleet.agents[index]
        prints |= fleet.do("prints", fleet.on(author) | {"tasks": [task]}, author).result()
    futures = [(agent, fleet.do("evaluate", fleet.on(agent) | {"prints": prints}, agent)) for agent in live]
    for done, (agent, future) in enumerate(futures, 1):
        trace.emit(fleet.now, agent.index, agent.name, "evaluated", last=True, **future.result())
        progress("every agent answers every test picture", done, len(live))


def _summary(fleet: TroubledFleet, image: RomImage) -> Json:
    world, scenario = fleet.world, fleet.scenario
    agents = fleet.honest()
    return {
        "scenario": scenario.to_dict(),
        "seed": scenario.seed,
        "rom": {"rom_id": image.rom_id, "backbone": image.backbone},
        "virtual_s": round(fleet.now, 6),
        "known_at_s": None if fleet.known_at is None else round(fleet.known_at, 6),
        "agents": world.honest,
        "tasks": sorted(fleet.authors()),
        "not_learned": sorted({lesson.name for lesson in world.lessons} - fleet.made()),
        "steps": fleet.steps,
        "messages": fleet.carried,
        "violations": fleet.violations,
        "bytes": sum(agent.out for agent in agents),
        "per_agent": {
            agent.name: {
                **agent.board.to_dict(),
                "flash_written": agent.board.written,
                "flash_life": agent.board.life_used,
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
