"""Seeded runs of small fleets in which everything goes wrong, looked at after every event.

    python -m benchmarks.fleet_faults --rom ROM --seeds 0:10000

Each run is three or four devices that learn two tasks each other's way: power cuts at any moment, inside their banks too; bad
sectors, clocks that jump, lines that lose and break, and in every third run a hostile device. After each event the devices it
concerned must hold nothing but what their authors have made, answer with nothing of anybody revoked, and still have every head
that they ever said they had; at the end all must know all, but for tasks that devices have refused as too like others. A seed
that fails is printed with what did not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from firmware_sim.scenario import Scenario, from_dict
from firmware_sim.simulation import simulate

QUIET = ("scenario", "end")


def scenario(seed: int) -> Scenario:
    """The run of that seed."""
    draw = random.Random(seed)
    foes: dict[str, Any] = {}
    if not seed % 3:
        foes = {"count": 1, "period_s": 3.0, "standing": draw.choice(["stranger", "revoked"]), "rounds": 0}
    return from_dict(
        {
            "name": "faults",
            "seed": seed,
            "agents": draw.choice([3, 4]),
            "board": draw.choice(["raspberry-pi-5", "jetson-orin-nano"]),
            "evaluate": False,
            "at_least_s": 60.0,
            "until_s": 900.0,
            "tasks": {"source": "features", "count": 2, "classes": 3, "per_class": 10},
            "network": {
                "topology": draw.choice(["ring", "mesh", "star"]),
                "gossip_s": 8.0,
                "loss": draw.choice([0.0, 0.05]),
                "mbit_s": draw.choice([0.0, 1.0, 0.1]),
            },
            "faults": {
                "power_cuts_per_hour": draw.choice([100.0, 300.0, 600.0]),
                "down_s": draw.choice([1.0, 5.0]),
                "corrupt_sectors_per_hour": draw.choice([0.0, 60.0]),
                "clock_jumps_per_hour": 60.0,
                "until_s": 55.0,
            },
            "foes": foes,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rom", type=Path, required=True)
    parser.add_argument("--seeds", default="0:100", help="first:end")
    asked = parser.parse_args()
    first, end = map(int, asked.seeds.split(":"))
    seen: Counter[str] = Counter()
    alike: set[tuple[str, str]] = set()  # (device, task) that it has refused for looking like another
    bad = like = 0
    began = time.perf_counter()
    place = Path(tempfile.mkdtemp(prefix="edgecl-faults-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def heard(event: dict[str, Any]) -> None:
        kind = event.get("kind", "") if event["event"] == "fault" else ""
        seen[f"{event['event']} {kind}".strip()] += event["event"] not in QUIET
        if event["event"] == "scenario":
            alike.clear()
        elif event["event"] == "refused" and event["reason"] == "collision":
            alike.add((event["agent"], event["task"]))

    for seed in range(first, end):
        try:
            done = simulate(
                scenario(seed), place / "run", rom=asked.rom, cache=place / "cache", threads=1, watched=True, heard=heard
            )
            wrong = done["violations"][:2]
            if not wrong and done["known_at_s"] is None:
                lack = sum(len(done["tasks"]) - one["knows"] for one in done["per_agent"].values())
                like += lack == len(alike)
                wrong = [] if lack == len(alike) else ["not all know all"]
        except Exception as error:  # of any kind: a device must not fail so, whatever happens to it
            wrong = [f"{type(error).__name__}: {error}"]
        if wrong:
            bad += 1
            print(f"seed {seed}: {wrong}", flush=True)
        if not (seed + 1) % 500:
            print(f"{seed + 1 - first} runs, {bad} bad, {time.perf_counter() - began:.0f} s", flush=True)
    shutil.rmtree(place)
    took = time.perf_counter() - began
    print(f"{end - first} runs in {took:.0f} s; {bad} of them broke something, in {like} tasks look alike; {dict(seen)}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
