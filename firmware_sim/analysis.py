"""A run folder as figures: what the links carried, what went wrong and what became of it, how well the fleet answers.

A session stands in the trace once, at the agent that called.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError
from edgecl.text import printable
from firmware_sim import trace as traces
from firmware_sim.knowledge import STOPS, Knowledge, check, knowledge, moments, number

_LARGEST = 10 * 2**20  # bytes of a summary


@dataclass(frozen=True)
class Traffic:
    """Bytes that sessions moved, both ways together."""

    links: dict[tuple[str, str], float]  # ends by name, the lower first
    times: NDArray[np.float64]  # (m,) virtual seconds
    total: NDArray[np.float64]  # (m,) bytes until then
    sessions: int
    broken: int


@dataclass
class Trouble:
    """A fault or an attack. came: "" while nothing came of it, else `up`, `healed`, `refused`."""

    t: float
    agent: str  # that it struck
    kind: str
    attack: bool
    came: str = ""
    after: float = math.nan  # seconds until then
    reason: str = ""  # of a refusal


@dataclass(frozen=True)
class Troubles:
    """All that went wrong."""

    faults: list[Trouble]
    attacks: list[Trouble]
    foes: dict[str, float]  # agent -> its first attack
    revoked: list[tuple[float, str, str, int]]  # second, agent, whom it trusts no more, heads that went


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    summary: Mapping[str, Any]
    knowledge: Knowledge
    traffic: Traffic
    troubles: Troubles
    evaluated: dict[str, Mapping[str, Any]]  # agent -> its last judgement
    end: float  # virtual second


def read(folder: Path) -> Run:
    """The run in a folder: `trace.jsonl` and `summary.json`. Raises DataError where they are missing or no such thing."""
    path = folder / "summary.json"
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} cannot be read as the summary of a simulation: {printable(str(error))}") from error
    if not isinstance(found, dict):
        raise DataError(f"{printable(path)} is no summary of a simulation: it holds no object; simulate again")
    per_agent = found.get("per_agent")
    events = list(traces.read(folder / "trace.jsonl"))
    return Run(
        summary=found,
        knowledge=knowledge(events, per_agent if isinstance(per_agent, dict) else ()),
        traffic=traffic(events),
        troubles=faults(events),
        evaluated={event["agent"]: event for event in events if event["event"] == "evaluated" and event.get("last", True)},
        end=max((number(event, "t") or 0.0 for event in events), default=0.0),
    )


def accuracies(run: Run) -> dict[str, tuple[float, list[tuple[float, float]]]]:
    """Who answers how well without a label: name -> (joint accuracy, its curve [tasks known, joint] in order, or []).

    The fleet stands first, as `summary["accuracy"]` says, else as the mean of its `evaluated` events; then the baselines.
    """
    own = run.summary.get("accuracy")
    judged = [found for event in run.evaluated.values() if (found := number(event, "joint")) is not None]
    if not isinstance(own, dict) or number(own, "joint") is None:
        own = {"joint": float(np.mean(judged))} if judged else {}
    others = run.summary.get("baselines")
    given = {"the fleet": own, **(others if isinstance(others, dict) else {})}
    out = {}
    for name, values in given.items():
        joint = number(values, "joint") if isinstance(values, dict) else None
        if joint is not None:
            curve = values.get("curve")
            points = [_point(pair) for pair in curve] if isinstance(curve, list) else []
            out[name] = joint, sorted(point for point in points if point is not None)
    return out


def _point(pair: object) -> tuple[float, float] | None:
    """Two numbers, if that is what it is."""
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    x, y = (number({"": value}, "") for value in pair)
    return None if x is None or y is None else (x, y)


def confusion(run: Run) -> tuple[list[str], NDArray[np.float64]] | None:
    """The mapper's confusion, where it was judged: tasks, and (t, t) shares of a true task's pictures (row) by task found."""
    own = run.summary.get("accuracy")
    try:
        counts = np.asarray(own["confusion"], float) if isinstance(own, dict) else np.empty(0)
    except (KeyError, TypeError, ValueError):
        return None
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size or not np.isfinite(counts).all():
        return None
    names = own.get("tasks") if isinstance(own, dict) else None
    if not isinstance(names, list) or len(names) != len(counts):
        names = range(1, len(counts) + 1)
    return [str(name) for name in names], counts / np.maximum(counts.sum(1, keepdims=True), 1)


def boards(run: Run) -> dict[str, Mapping[str, Any]]:
    """Agent -> what its board spent, as the summary says."""
    found = run.summary.get("per_agent")
    return {name: row for name, row in found.items() if isinstance(row, dict)} if isinstance(found, dict) else {}


def traffic(trace: Iterable[Mapping[str, Any]]) -> Traffic:
    """Bytes per link and over time."""
    links: dict[tuple[str, str], float] = defaultdict(float)
    moved_at: list[tuple[float, float]] = []
    seen: Counter[str] = Counter()
    for event in trace:
        if event["event"] not in ("session", "broken"):
            continue
        check(event)
        seen[event["event"]] += 1
        moved = (number(event, "out") or 0.0) + (number(event, "in") or 0.0)
        peer = event.get("peer")
        if moved and isinstance(peer, str):
            a, b = sorted((event["agent"], peer))
            links[a, b] += moved
            moved_at.append((event["t"], moved))
    steps = np.asarray(sorted(moved_at), float).reshape(-1, 2)
    kept = moments(steps[:, 0])
    return Traffic(
        dict(links),
        kept,
        np.append(0, np.cumsum(steps[:, 1]))[np.searchsorted(steps[:, 0], kept, "right")],
        seen["session"],
        seen["broken"],
    )


def faults(trace: Iterable[Mapping[str, Any]]) -> Troubles:
    """What went wrong, and what became of each."""
    found: list[Trouble] = []
    attacks: list[Trouble] = []
    foes: dict[str, float] = {}
    revoked: list[tuple[float, str, str, int]] = []
    down: dict[str, list[Trouble]] = defaultdict(list)
    hurt: dict[str, list[Trouble]] = defaultdict(list)
    for event in trace:
        name = event["event"]
        if name not in ("fault", "boot", "healed", "attack", "revoked"):
            continue
        check(event)
        t, agent = event["t"], event["agent"]
        if name == "fault":
            trouble = Trouble(t, agent, event["kind"], False)
            found.append(trouble)
            if event["kind"] in STOPS:
                down[agent].append(trouble)
            elif event["kind"] == "corrupt_sector":
                hurt[agent].append(trouble)
        elif name == "attack":
            reason = event.get("refused")
            foes.setdefault(agent, t)
            attack = Trouble(t, event["victim"], event["kind"], True)
            if isinstance(reason, str) and reason:
                attack.came, attack.reason = "refused", reason
            attacks.append(attack)
        elif name == "revoked":
            revoked.append((t, agent, event["peer"], len(event["tasks"])))
        else:
            mended = (down if name == "boot" else hurt).pop(agent, ())
            for trouble in mended:
                trouble.came, trouble.after = "up" if name == "boot" else "healed", t - trouble.t
    return Troubles(found, attacks, foes, revoked)
