"""What a run has shown: the figures of its trace, and what others reach on the same pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgecl.device import EdgeDevice
from edgecl.judging import read_task
from edgecl.pictures.reading import Progress
from edgecl.rom.base import Rom
from edgecl.streams.base import TaskPictures
from firmware_sim import baselines, rates, skill
from firmware_sim.baselines import Work
from firmware_sim.board import Profile
from firmware_sim.trace import Event
from firmware_sim.world import World

Json = dict[str, Any]
ROUNDS = 40  # of federated averaging; a hundred gain two points
RATES = (10.0, 30.0, 100.0)  # the best of 3 to 300 lies inside
MULTIPLY_S = 5e-10  # seconds of the reference machine's core for one multiplication and addition of a training step


def outcome(world: World, events: Sequence[Event], tasks: Sequence[str], live: Sequence[str]) -> Json:
    """Accuracy, speed-up and spread, for `summary.json`. live: agents that are on at the end."""
    board = world.profile(0)
    method = world.scenario.tasks.method
    alone = sum(
        rates.learn_seconds(board, method, len(lesson.train), len(lesson.classes)) + world.keep_seconds(0)
        for lesson in world.lessons
        if lesson.name in tasks
    )
    found = skill.figures(events, live, tasks, alone)
    judged = {event["agent"]: event for event in events if event["event"] == "evaluated" and event.get("last")}
    last = [judged[agent] for agent in live if agent in judged]
    out: Json = {key: found[key] for key in ("time_to_knowledge", "sequential", "speed_up", "bound", "of_bound", "of_tasks")}
    out["forgetting"] = found["forgetting"]
    if last:
        joints = [event["everywhere"] for event in last]
        out["accuracy"] = {
            "joint": sum(joints) / len(joints),
            "lowest": min(joints),
            "oracle": sum(event["oracle"] for event in last) / len(last),
            "mapper": sum(event["mapper"] for event in last) / len(last),
            "curve": [[point["tasks"], point["joint"]] for point in found["curve"]],
            "confusion": found["confusion"],
            "tasks": list(tasks),
        }
        out["identical"] = not any(event["differs"] for event in last)
    return out


def compared(world: World, rom: Rom, cache: Path, progress: Progress) -> Json:
    """The baselines on the tasks of a world, with the costs of its board; name -> what `firmware_sim.baselines` gives."""
    tasks: list[TaskPictures] = [lesson.pictures(world.tasks) for lesson in world.last_lessons.values()]  # type: ignore[arg-type]
    seed, method = world.scenario.seed, world.scenario.tasks.method
    with tempfile.TemporaryDirectory(prefix="edgecl-baselines-") as place:

        def device(name: str) -> EdgeDevice:
            return EdgeDevice(Path(place) / name, rom=rom, cache=cache, feature_cache_mb=2048, threads=rom.threads)

        with device("reader") as reader:
            tests = [read_task(reader, t.name, t.classes, t.test, t.test_labels) for t in tasks]
            trains = [read_task(reader, t.name, t.classes, t.train, t.train_labels) for t in tasks]

        def cost(work: Work) -> float:
            return seconds(world.profile(0), world.quality(0, 0).rate, rom.width, work)

        found: Json = {}

        def note(name: str, result: Json) -> None:
            steps = result["curve"]
            kept = {key: value for key, value in result.items() if key not in ("curve", "confusion")}
            if len(steps) > 1:
                by = "rounds" if name == "federated" else "curve"
                kept[by] = [[n, step["joint"]] for n, step in enumerate(steps, 1)]
            found[name] = kept
            progress("baselines", len(found), 5)

        with device("one") as one:
            note("one learner", baselines.sequential(one, tasks, tests, cost, method, seed))
        note("fine-tuned", baselines.finetuned(trains, tests, cost, seed=seed))
        note("federated", baselines.federated(trains, tests, cost, rounds=ROUNDS, seed=seed, rates=RATES))
        note("no sharing", baselines.isolated(_alone(device, tasks), tests, cost, method, seed))
        note("pooled", baselines.together(trains, tests, cost, seed=seed, rates=RATES))
    return found


def _alone(device: Any, tasks: Sequence[TaskPictures]) -> Iterator[tuple[EdgeDevice, list[TaskPictures]]]:
    for task in tasks:
        with device(f"alone-{task.name}") as one:
            yield one, [task]


def seconds(board: Profile, rate: float, width: int, work: Work) -> float:
    """Virtual seconds of a baseline's work on a board whose radio has `rate` bits a second."""
    if work.kind == "learn":
        return rates.learn_seconds(board, work.method, work.pictures, work.classes)
    if work.kind == "read":
        return work.pictures / board.pictures_s
    if work.kind == "radio":
        return 8 * work.bytes / rate
    return rates.scaled(board, 6 * MULTIPLY_S * work.epochs * work.pictures * work.classes * width)
