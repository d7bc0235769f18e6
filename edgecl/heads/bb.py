"""BB, beneficial biases: one number per channel behind the convolutions of the frozen network.

Ge et al., Lightweight Learner for Shared Knowledge Lifelong Learning, TMLR 2023. A bias before a batch norm is a shift after
it, so it is learned, stored and run as one; a bias whose only reader is a 1x1 convolution moves on through it exactly
(`sockets.onward`), so those sockets are left out. We depart in how the biases are learned (`parts.crossfit`) and in the map
on top, which is in closed form and also reads the plain features (`parts.plugged`). `recipe="paper"` learns as published.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecl.errors import ConfigError
from edgecl.heads.base import QUIET, Head, Learned, Session
from edgecl.heads.parts import plugged
from edgecl.heads.parts.plugged import check, plugs, scores, width
from edgecl.heads.parts.recipe import Recipe, choose
from edgecl.rom.base import Rom
from edgecl.types import Task

__all__ = ["Config", "check", "learn", "plugs", "scores", "width"]


@dataclass(frozen=True)
class Config:
    recipe: str = "default"  # or "paper"
    seed: int = 0
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    sockets: str = "deep"  # all, last:N, or deep: the deepest seven tenths
    scrambled: bool = False  # paper: the bias layout of the reference code; runs on PyTorch only
    epochs: int = 0  # at most; 0: the recipe's own number

    def __post_init__(self) -> None:
        if self.recipe not in ("default", "paper"):
            raise ConfigError(f"bb has no recipe '{self.recipe}'; known are default and paper")
        if not 0 < self.false_reject < 0.5 or self.epochs < 0:
            raise ConfigError("bb: false_reject must lie between 0 and 0.5, and epochs must not be negative")
        if self.scrambled and self.recipe != "paper":
            raise ConfigError("bb: the scrambled layout belongs to the recipe 'paper'; add --recipe paper")
        Recipe(sockets=self.sockets)


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """Learn biases and a map; `previous` is ignored, each task starts from the plain ROM."""
    if config.recipe == "paper":
        from edgecl.heads.parts.paper import learn_bb

        return learn_bb(task, rom, config.seed, config.false_reject, config.epochs, config.scrambled, session)
    used = choose(rom.image.sockets, config.sockets)
    sides = {socket.name: 0 for socket in used if not socket.feeds}
    recipe = Recipe(sockets=config.sockets, epochs=config.epochs)
    return plugged.learn(task, rom, "bb", recipe, sides, config.seed, config.false_reject, session)
