"""Automatic choice of a head method: keeps what wins on held-out pictures, within the budget, and says why.

CLR is tried first; where its gain over the linear head is not convincing, BB is tried as well. All are judged on the same
held-out pictures, on which none has learned (only weight and temperature of two maps are set there). There are few of those, so
an observed difference is weighed against what is expected of the method: the posterior mean of two normals. A method that is
seen to be worse than linear by more than chance is not kept, whatever is expected of it.

What is expected was read off the benchmark's tasks (docs/benchmarks.md), so the figures for `auto` there flatter it a little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecl.errors import ConfigError, MissingDependency
from edgecl.heads import bb, clr, linear
from edgecl.heads.base import QUIET, Head, Learned, Session
from edgecl.heads.parts.recipe import hold_out
from edgecl.rom.base import Rom
from edgecl.types import Ints, Task

# Gain in accuracy over the linear head that is expected of each method, and how firmly: a spread.
_EXPECTED: Mapping[str, tuple[float, float]] = {"bb": (0.03, 0.02), "clr": (0.045, 0.02)}
CONVINCING = 0.03  # gain at which nothing else is tried
_CHANCE = 2.0  # standard errors


@dataclass(frozen=True)
class Config:
    recipe: str = "default"
    seed: int = 0
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    sockets: str = "deep"  # all, last:N, or deep: the deepest seven tenths

    def __post_init__(self) -> None:
        if self.recipe != "default":
            raise ConfigError(f"auto has no recipe '{self.recipe}', only default; name a method to choose one of its recipes")
        self.candidates()

    def candidates(self) -> dict[str, Any]:
        """Method -> its configuration, in the order of trying."""
        own = {"seed": self.seed, "false_reject": self.false_reject}
        return {"clr": clr.Config(sockets=self.sockets, **own), "bb": bb.Config(sockets=self.sockets, **own)}  # type: ignore[arg-type]


_MODULES: Mapping[str, Any] = {"bb": bb, "clr": clr}


@dataclass(frozen=True)
class Choice:
    """Which method is kept and why. gain: expected over linear.   rows: per method tried, what speaks for it."""

    winner: str
    gain: float
    why: str
    rows: Mapping[str, Mapping[str, Any]]


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """The winner, as that method learned it; its report says in `chosen` what was tried and why this one is kept."""
    started = session.clock()
    plain = linear.learn(task, rom, linear.Config(seed=config.seed, false_reject=config.false_reject), None, session)
    tried: dict[str, Learned] = {"linear": plain}
    skipped: dict[str, str] = {}
    for name, own in config.candidates().items():
        left = None if session.budget is None else session.budget - (session.clock() - started)
        place = session.checkpoint.with_name(f"{session.checkpoint.name}.{name}") if session.checkpoint else None
        try:
            found = _MODULES[name].learn(task, rom, own, None, replace(session, budget=left, checkpoint=place))
        except (ConfigError, MissingDependency) as error:  # too long, too large, no torch, no sockets: known before the work
            skipped[name] = str(error)
            session.say(f"{name} is not tried: {error}")
            continue
        except KeyboardInterrupt:
            skipped[name] = "stopped before its first epoch was done"
            break
        tried[name] = found
        if found.report["training"]["stopped_early"] or choose(tried, task.labels, config.seed).gain >= CONVINCING:
            break
    choice = choose(tried, task.labels, config.seed)
    session.say(f"'{task.name}': kept {choice.why}")
    best = tried[choice.winner]
    return replace(best, report={**best.report, "chosen": {"why": choice.why, "tried": choice.rows, "skipped": skipped}})


def choose(tried: Mapping[str, Learned], labels: Ints, seed: int) -> Choice:
    """Judge heads learned on the same pictures with the same seed; "linear" is among them."""
    held = hold_out(labels, seed)
    judged = held if held.any() else np.ones_like(held)
    right = {name: (found.held_out.argmax(1) == labels)[judged] for name, found in tried.items()}
    gain = {name: _weighed(right[name], right["linear"], *_EXPECTED[name]) if name in _EXPECTED else 0.0 for name in tried}
    winner = max(gain, key=lambda name: gain[name])
    rows = {
        name: {
            "validation_accuracy": round(float(right[name].mean()), 4),
            "expected_gain": round(gain[name], 4) if np.isfinite(gain[name]) else None,
            "bytes": found.head.nbytes,
            "seconds": found.report.get("training", {}).get("seconds"),
        }
        for name, found in tried.items()
    }
    why = (
        f"{winner}: right for {right[winner].mean():.3f} of {int(judged.sum())} held-out pictures, linear for "
        f"{right['linear'].mean():.3f}; with what is expected of the method, a gain of {100 * gain[winner]:+.1f} points"
    )
    return Choice(winner, gain[winner], why, rows)


def _weighed(right: Any, base: Any, mean: float, spread: float) -> float:
    """Posterior mean of the gain: observed on pictures, a normal of `mean` and `spread` before; -inf if seen to be worse."""
    difference = right.astype(float) - base
    n = len(difference)
    noise = (np.square(difference).sum() + 1) / n**2  # one disagreement more than seen: none seen proves little
    if difference.mean() < -_CHANCE * np.sqrt(noise):
        return -np.inf
    return float((mean / spread**2 + difference.mean() / noise) / (1 / spread**2 + 1 / noise))
