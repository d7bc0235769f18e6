"""CPG over the ROM: a task as a set of picked ROM weights, and a few weights of its own in places that the ROM left free.

Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning, NeurIPS 2019. The ROM is the first task. A
head holds one bit for each weight of the convolutions it acts in, its own weights where the ROM was compacted (`edgecl
export --free`), and the convolutions' batch norms, which fold into a factor and a shift per channel. A score per weight starts
above the threshold and learns with the gradient straight through it; own weights start at 0, as many as the head's size does
not allow are given back by magnitude, layer by layer, and the others go on learning.
We depart in what scores and weights descend (`parts.crossfit`), in the map on top, which is in closed form and also reads the
plain features (`parts.plugged`), in that the norms' statistics stay the ROM's, and in that heads are overlays: each carries
what it puts into the free places, so that two heads may fill the same ones, and none depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecl.errors import ConfigError
from edgecl.heads.base import QUIET, Head, Learned, Session
from edgecl.heads.parts import plugged
from edgecl.heads.parts.overlays import PICKS
from edgecl.heads.parts.plugged import check, plugs, scores, width
from edgecl.heads.parts.recipe import Recipe, choose
from edgecl.rom.base import Rom
from edgecl.types import Task

__all__ = ["Config", "check", "learn", "plugs", "scores", "width"]


@dataclass(frozen=True)
class Config:
    recipe: str = "default"
    seed: int = 0
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    sockets: str = "deep"  # all, last:N, or deep: the deepest seven tenths
    epochs: int = 0  # at most; 0: the recipe's own number
    size: int = 700_000  # bytes of the head, at most: what is left beside map and picks goes to own weights

    def __post_init__(self) -> None:
        if self.recipe != "default":
            raise ConfigError(f"cpg has no recipe '{self.recipe}', only default; the published runs are learners of streams")
        if not 0 < self.false_reject < 0.5 or self.epochs < 0 or self.size < 1:
            raise ConfigError("cpg: false_reject must lie between 0 and 0.5, epochs must not be negative, and size above 0")
        Recipe(sockets=self.sockets)


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """Learn picks, own weights and a map; `previous` is ignored, each task starts from the plain ROM."""
    room = config.size if session.head_bytes is None else min(config.size, session.head_bytes)
    sides = {socket.name: PICKS for socket in choose(rom.image.sockets, config.sockets)}
    free = sum(int(rom.image.free[name].sum()) for name in sides)
    left = room - plugged.smallest(len(task.classes), rom, sides)
    own = min(1.0, max(0, left) / free) if free else 0.0
    recipe = Recipe(sockets=config.sockets, epochs=config.epochs, own=own)
    return plugged.learn(task, rom, "cpg", recipe, sides, config.seed, config.false_reject, replace(session, head_bytes=room))
