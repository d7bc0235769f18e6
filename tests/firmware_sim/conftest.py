"""A run folder as the simulator leaves one, from a small gossip in plain Python: reports are tested without a fleet."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

BYTES = 26_000  # of a head
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(agents=20, ...)`: a run folder; the options are those of `write_run`."""

    def make(**options: Any) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        write_run(folder, **options)
        return folder

    return make


def write_run(
    folder: Path,
    agents: int = 20,
    tasks: int = 14,
    topology: str = "ring",
    harm: bool = True,
    seed: int = 0,
    dies_at: float = 70.0,
    names: Sequence[str] | None = None,
) -> None:
    """harm: agent 1 loses power at `dies_at` for good, others for a while or a head, and a foe attacks. names: of the tasks."""
    rng = random.Random(seed)
    name = [f"agent-{i:03d}" for i in range(agents)]
    task = list(names or [f"task-{j:02d}" for j in range(tasks)])
    digest = {t: hashlib.sha256(t.encode()).hexdigest()[:16] for t in task}
    events: list[dict[str, Any]] = []

    def tell(t: float, agent: str, event: str, **more: Any) -> None:
        events.append({"t": round(t, 6), "agent": agent, "event": event, **more})

    knows: list[set[str]] = [set() for _ in name]
    up = [True] * agents
    queue: list[tuple[float, int, str]] = []  # second, agent, what
    for j, t in enumerate(task):
        i = j * agents // len(task)
        began = rng.uniform(0, 4)
        tell(began, name[i], "learn_start", task=t, method="linear", pictures=240)
        queue.append((began + rng.uniform(3, 9), i, "learn " + t))
    queue += [(2 * k + 2 * rng.random(), i, "gossip") for i in range(agents) for k in range(1, 40)]
    if harm:
        queue.append((dies_at, 1, "die"))
        queue += [(rng.uniform(5, 60), rng.randrange(2, agents), "cut") for _ in range(max(3, agents // 20))]
        queue += [(rng.uniform(20, 60), rng.randrange(2, agents), "corrupt") for _ in range(max(2, agents // 30))]
        queue += [(rng.uniform(5, 60), rng.randrange(agents), "jump") for _ in range(2)]
        queue += [(rng.uniform(5, 60), rng.randrange(agents), "attack") for _ in range(12)]
    hurt: set[tuple[int, str]] = set()  # agent and the task whose head is damaged
    boots: list[tuple[float, int]] = []
    moved: dict[str, list[float]] = {a: [0.0, 0.0] for a in name}
    sessions = dict.fromkeys(name, 0)
    for t, i, what in sorted(queue):
        for boot in [boot for boot in boots if boot[0] <= t]:
            boots.remove(boot)
            up[boot[1]] = True
            tell(boot[0], name[boot[1]], "boot", down=8.0)
        if what.startswith("learn "):
            done = what.removeprefix("learn ")
            tell(t, name[i], "learned", task=done, digest=digest[done], bytes=BYTES, accuracy=0.93, seconds=4.0)
            knows[i].add(done)
        elif what == "attack":
            kind, reason = rng.choice(
                [("rollback", "rollback"), ("sybil_flood", "unknown-signer"), ("path_traversal", "malformed")]
            )
            tell(t, "foe-000", "attack", kind=kind, victim=name[i], refused=reason)
        elif not up[i]:
            continue
        elif what in ("cut", "die"):
            up[i] = False
            tell(t, name[i], "fault", kind="power_cut" if what == "cut" else "brown_out")
            if what == "cut":
                boots.append((t + 8, i))
        elif what == "jump":
            tell(t, name[i], "fault", kind="clock_jump", seconds=-86400)
        elif what == "corrupt":
            lost = sorted(knows[i])[:1]
            knows[i] -= set(lost)
            hurt |= {(i, x) for x in lost}
            tell(t, name[i], "fault", kind="corrupt_sector", lost=lost)
        else:
            peer = (i + 1) % agents if topology == "ring" else rng.randrange(agents)
            if peer == i or not up[peer]:
                continue
            taken, given = sorted(knows[peer] - knows[i]), sorted(knows[i] - knows[peer])
            knows[i] |= set(taken)
            knows[peer] |= set(given)
            out, back = 900 + BYTES * len(given), 900 + BYTES * len(taken)
            pairs = [[[x, digest[x]] for x in some] for some in (taken, given)]
            more = {"out": out, "in": back, "taken": pairs[0], "given": pairs[1], "refused": [], "known": len(knows[i])}
            tell(t, name[i], "session", peer=name[peer], seconds=0.1, **more)
            moved[name[i]][0] += out
            moved[name[i]][1] += back
            moved[name[peer]][0] += back
            moved[name[peer]][1] += out
            sessions[name[i]] += 1
            for a, b, some in ((i, peer, taken), (peer, i, given)):
                for x in some:
                    tell(t, name[a], "taken", task=x, digest=digest[x], **{"from": name[b]})
                    if (a, x) in hurt:
                        hurt.remove((a, x))
                        tell(t, name[a], "healed", task=x)
    for i, agent in enumerate(name):
        if up[i]:
            tell(80, agent, "end", knows={x: digest[x] for x in sorted(knows[i])})
    events.sort(key=lambda event: event["t"])
    head = {"event": "scenario", "name": topology, "agents": agents, "seed": seed}
    (folder / "trace.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (head, *events)), encoding="utf-8")
    curve = [[j + 1, 0.97 - 0.005 * j] for j in range(len(task))]
    share = [[20 if i == j else int((i + j) % 7 == 0) for j in range(len(task))] for i in range(len(task))]
    summary = {
        "scenario": topology,
        "seed": seed,
        "virtual_s": 80.0,
        "real_s": 3.2,
        "events": len(events),
        "events_per_s": 61000.0,
        "agents": agents,
        "tasks": len(task),
        "bytes": sum(out for out, _ in moved.values()),
        "memory_mb": 410.0,
        "processes": 2,
        "speedup": 0.94 * len(task),
        "per_agent": {
            a: {
                "board": ("raspberry-pi-4", "jetson-orin-nano")[i % 3 == 0],
                "energy_j": rng.uniform(200, 500),
                "flash_written": rng.uniform(2e6, 9e6),
                "flash_life": rng.uniform(1e-7, 1e-5),
                "out": moved[a][0],
                "in": moved[a][1],
                "knows": len(knows[i]),
                "sessions": sessions[a],
                "faults": 0,
            }
            for i, a in enumerate(name)
        },
        "accuracy": {"joint": curve[-1][1], "oracle": 0.96, "mapper": 0.94, "curve": curve, "confusion": share, "tasks": task},
        "baselines": {
            "one sequential learner": {"joint": curve[-1][1], "curve": curve},
            "one shared head": {"joint": 0.21, "curve": [[j + 1, 0.97 / (1 + 0.25 * j)] for j in range(len(task))]},
            "federated averaging": {"joint": 0.62},
            "no sharing": {"joint": 0.068},
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
