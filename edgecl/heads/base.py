"""What a head is, whatever method learned it.

A method is a module with five names: `Config` (a frozen dataclass), `learn(task, rom, config, previous) -> Learned`,
`scores(head, features) -> (n, k)` in NumPy, `check(head)`, which refuses arrays that do not belong to the method, and
`width(head)`, the d of its features.
It is found through `registry.HEADS`; the checks in `edgecl.checks.heads` run over every registered one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl import registry
from edgecl.errors import BundleError, RomMismatch
from edgecl.types import Arrays, Floats

MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Head:
    """What one task learned on one ROM. Never changed; learning again makes another head.

    arrays: the method's own, as they are stored.   settings: plain values needed to score, and the method's options.
    """

    method: str
    classes: tuple[str, ...]
    rom_id: str
    arrays: Arrays
    settings: Mapping[str, Any] = field(default_factory=dict)

    def scores(self, features: Floats) -> Floats:
        """Calibrated logits: features (n, d) float32 -> (n, k) float32, whose softmax is the class probability."""
        out: Floats = _method(self.method).scores(self, features)
        return out

    @property
    def width(self) -> int:
        """d of the features that it scores."""
        return int(_method(self.method).width(self))

    @property
    def unknown_below(self) -> float:
        """The `lead` under which a picture is no class of this task; -inf where the head has no such threshold."""
        return float(self.settings.get("unknown_below", -np.inf))

    def knows(self, scores: Floats) -> NDArray[np.bool_]:
        """Which of the scored pictures (n, k) are of one of the classes, (n,); False means "unknown class"."""
        known: NDArray[np.bool_] = lead(scores) >= self.unknown_below
        return known

    def check(self) -> None:
        """Raise BundleError unless the arrays and settings are what the method needs to score."""
        _method(self.method).check(self)

    def require_rom(self, rom_id: str, task: str) -> None:
        """Raise RomMismatch unless the head was learned on that ROM."""
        if self.rom_id != rom_id:
            raise RomMismatch(
                f"head '{task}' was learned on ROM {self.rom_id[:12]}, this device carries {rom_id[:12]}. Ask for a head on "
                f"{rom_id[:12]}, or learn it here: edgecl learn --task {task} --data ..."
            )


def lead(scores: Floats) -> Floats:
    """(n, k) scores -> (n,): the best over the mean one; low for a picture of none of the classes."""
    out: Floats = scores.max(1) - scores.mean(1)
    return out


@dataclass(frozen=True)
class Learned:
    """A fresh head and what is known about it.

    held_out: (n, k) scores of the training pictures, by heads that had not seen them; a recipe that holds out only a part
        returns its own head's scores for the rest.   report: what was measured.
    """

    head: Head
    held_out: Floats
    report: Mapping[str, Any]


def _method(name: str) -> Any:
    return registry.load("head method", registry.HEADS, name)


def checked_classes(classes: Any) -> tuple[str, ...]:
    """Class names from an untrusted card: a list of distinct, printable, not too long names. Raises BundleError."""
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not 2 <= len(classes) <= MAX_CLASSES:
        raise BundleError(f"the bundle is malformed: classes must be a list of 2 to {MAX_CLASSES} names")
    for name in classes:
        if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
            raise BundleError(f"the bundle is malformed: {str(name).encode('unicode_escape')[:60]!r} is no class name")
    if len(set(classes)) != len(classes):
        raise BundleError("the bundle is malformed: a class name occurs twice")
    return tuple(classes)
