"""What a network for several tasks is between two phases, and what is kept of a task that is finished."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgecl.errors import StateError
from edgecl.heads.parts import masks
from edgecl.heads.parts.masks import FIRST_SCORE, FREE, Bits, Owners
from edgecl.learners.cpg.states import Kept
from edgecl.types import Arrays, Floats

_PARTS = ("weight", "owner", "private", "head", "score")


@dataclass(frozen=True)
class State:
    """Between two phases. No array is ever written into: a phase makes new ones.

    multiplier: of the weights, since the network grew.   weights, owners: of each maskable layer, by name.   private: of the
    task that was learned last.   head, scores: of the task under way; scores are empty where it has none.
    accuracy: on the samples that decide.   train_accuracy: over the last epoch.
    """

    multiplier: float
    weights: dict[str, Floats]
    owners: dict[str, Owners]
    private: dict[str, Floats]
    head: dict[str, Floats] = field(default_factory=dict)
    scores: dict[str, Floats] = field(default_factory=dict)
    accuracy: float = 0.0
    train_accuracy: float = 0.0

    def own(self, task: int) -> float:
        """The share of all maskable weights that `task` owns."""
        total = sum(o.size for o in self.owners.values())
        return sum(int((o == task).sum()) for o in self.owners.values()) / total

    @property
    def free(self) -> float:
        """The share of all maskable weights that nobody owns."""
        return self.own(FREE)

    def settled(self) -> State:
        """With free weights at 0, as they are whenever a task is judged."""
        return replace(self, weights={n: masks.effective(w, self.owners[n] != FREE) for n, w in self.weights.items()})

    def fresh_scores(self) -> State:
        """With everything picked."""
        return replace(self, scores={n: np.full(w.shape, FIRST_SCORE, np.float32) for n, w in self.weights.items()})

    def to_kept(self) -> Kept:
        """For `States.put`."""
        groups: tuple[dict[str, Any], ...] = (self.weights, self.owners, self.private, self.head, self.scores)
        arrays = {f"{part}|{n}": a for part, group in zip(_PARTS, groups, strict=True) for n, a in group.items()}
        facts = {"multiplier": self.multiplier, "accuracy": self.accuracy, "train_accuracy": self.train_accuracy}
        return Kept(arrays, facts)

    @staticmethod
    def of(kept: Kept) -> State:
        """The inverse."""
        weights, owners, private, head, scores = _groups(kept.arrays, _PARTS)
        multiplier, accuracy, share = (float(kept.facts[name]) for name in ("multiplier", "accuracy", "train_accuracy"))
        return State(multiplier, weights, owners, private, head, scores, accuracy, share)


@dataclass(frozen=True)
class Finished:
    """What a finished task has of its own: all that it needs beside the shared weights and their owners.

    picks: bits of each layer at the task's width; empty: it picks everything.   turned: bits of the weights that it takes with
    their sign turned (ternary masks); may be empty.   mean, scale: of its inputs.   classes: (k,) numbers in the stream.
    """

    number: int
    multiplier: float
    private: dict[str, Floats]
    head: dict[str, Floats]
    picks: dict[str, Bits]
    turned: dict[str, Bits]
    mean: Floats
    scale: Floats
    classes: Any
    level: float
    goal: float
    accuracy: float
    records: dict[float, float]
    free: float = 0.0
    shared: float = float("nan")

    def weights(self, weights: dict[str, Floats], owners: dict[str, Owners], shapes: dict[str, tuple[int, ...]]) -> Arrays:
        """What it computes with at its own width, new arrays. shapes: of the layers there."""
        found = {}
        for name, shape in shapes.items():
            owner = masks.corner(owners[name], shape)
            use = masks.used(owner, self.number, self.picks.get(name))
            found[name] = masks.effective(masks.corner(weights[name], shape), use)
            if name in self.turned:
                found[name][self.turned[name] & masks.old(owner, self.number)] *= -1
        return found

    @property
    def nbytes(self) -> int:
        """With masks at one bit a weight."""
        floats = sum(a.nbytes for group in (self.private, self.head) for a in group.values())
        bits = sum(masks.packed_bytes(b.size) for group in (self.picks, self.turned) for b in group.values())
        return int(floats + bits + self.mean.nbytes + self.scale.nbytes + self.classes.nbytes)

    def to_kept(self) -> Kept:
        """For `States.put`; masks are packed."""
        bits, floats = {"picks": self.picks, "turned": self.turned}, {"private": self.private, "head": self.head}
        packed = {f"{part}|{n}": masks.pack_bits(b) for part, group in bits.items() for n, b in group.items()}
        plain = {f"{part}|{n}": a for part, group in floats.items() for n, a in group.items()}
        inputs = {"inputs|mean": self.mean, "inputs|scale": self.scale, "inputs|classes": self.classes}
        facts = {
            "number": self.number,
            "multiplier": self.multiplier,
            "shapes": {n: list(b.shape) for n, b in self.picks.items()},
            "level": self.level,
            "goal": self.goal,
            "accuracy": self.accuracy,
            "records": [list(pair) for pair in sorted(self.records.items())],
            "free": self.free,
            "shared": None if np.isnan(self.shared) else self.shared,
        }
        return Kept({**packed, **plain, **inputs}, facts)

    @staticmethod
    def of(kept: Kept) -> Finished:
        """The inverse. Raises BundleError where masks are not what `to_kept` packs."""
        picks, turned, private, head, inputs = _groups(kept.arrays, ("picks", "turned", "private", "head", "inputs"))
        f = kept.facts
        shapes = {n: tuple(shape) for n, shape in f["shapes"].items()}
        return Finished(
            number=int(f["number"]),
            multiplier=float(f["multiplier"]),
            private=private,
            head=head,
            picks={n: masks.unpack_bits(b, shapes[n]) for n, b in picks.items()},
            turned={n: masks.unpack_bits(b, shapes[n]) for n, b in turned.items()},
            mean=inputs["mean"],
            scale=inputs["scale"],
            classes=inputs["classes"],
            level=float(f["level"]),
            goal=float(f["goal"]),
            accuracy=float(f["accuracy"]),
            records={float(level): float(accuracy) for level, accuracy in f["records"]},
            free=float(f["free"]),
            shared=float("nan") if f["shared"] is None else float(f["shared"]),
        )


def _groups(arrays: Arrays, parts: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for name, value in arrays.items():
        part, _, leaf = name.partition("|")
        if part not in found:
            raise StateError(f"a state holds '{name[:80]}', which no state has; start the learning afresh")
        found[part][leaf] = value
    return [found[part] for part in parts]
