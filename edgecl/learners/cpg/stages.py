"""What a method does for a task, before it is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One phase, or several alike. epochs: at most.   picks: pick scores learn.   judged: after each epoch.   wide: the
    multiplier of the weights."""

    name: str
    epochs: int
    picks: bool = False
    judged: bool = False
    wide: float = 1.0
