"""CLR, channel-wise lightweight reprogramming: a small kernel per channel behind the convolutions of the frozen network.

Ge et al., CLR: Channel-wise Lightweight Reprogramming for Continual Learning, ICCV 2023. Variants:

    default   3x3 kernels behind convolutions that are not 1x1
    full      3x3 kernels behind every convolution
    mixed     3x3 behind those that are not 1x1, one factor per channel behind the 1x1 ones
    gated     paper only: y = x + A (.) (G (*) x) behind every convolution, A starts at zero

The published method also learns each batch norm's gain, shift and statistics per task. Folded (`sockets.fold`), those are a
factor in the kernel and a shift, so here a shift is learned behind every convolution in use, and the norms' statistics stay the
ROM's: with a few hundred pictures, statistics of batches only add noise (measured: docs/benchmarks.md). How plugs and map are
learned: `parts.crossfit`, `parts.plugged`. `recipe="paper"` learns as published, batch statistics, penalty and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecl.errors import ConfigError
from edgecl.heads.base import QUIET, Head, Learned, Session
from edgecl.heads.parts import plugged
from edgecl.heads.parts.plugged import check, plugs, scores, width
from edgecl.heads.parts.recipe import Recipe, choose
from edgecl.rom.base import Rom
from edgecl.rom.sockets import Socket
from edgecl.types import Task

__all__ = ["Config", "check", "count", "kernel_sides", "learn", "plugs", "scores", "width"]

VARIANTS = ("default", "full", "mixed", "gated")


@dataclass(frozen=True)
class Config:
    recipe: str = "default"  # or "paper"
    seed: int = 0
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    sockets: str = "deep"  # all, last:N, or deep: the deepest seven tenths
    variant: str = "default"
    epochs: int = 0  # at most; 0: the recipe's own number

    def __post_init__(self) -> None:
        if self.recipe not in ("default", "paper"):
            raise ConfigError(f"clr has no recipe '{self.recipe}'; known are default and paper")
        if self.variant not in VARIANTS:
            raise ConfigError(f"clr has no variant '{self.variant}'; known are {', '.join(VARIANTS)}")
        if self.variant == "gated" and self.recipe != "paper":
            raise ConfigError("clr: the gated variant belongs to the recipe 'paper'; add --recipe paper")
        if not 0 < self.false_reject < 0.5 or self.epochs < 0:
            raise ConfigError("clr: false_reject must lie between 0 and 0.5, and epochs must not be negative")
        Recipe(sockets=self.sockets)


def kernel_sides(sockets: Sequence[Socket], variant: str) -> dict[str, int]:
    """Socket name -> side of the kernel that the variant learns there; 0 for none."""
    on_pointwise = {"default": 0, "mixed": 1, "full": 3, "gated": 3}[variant]
    return {socket.name: on_pointwise if socket.side == 1 else 3 for socket in sockets}


def count(sockets: Sequence[Socket], variant: str) -> dict[str, int]:
    """Numbers that the published method learns per task on these sockets: kernels, norms' affine parts, their statistics."""
    sides = kernel_sides(sockets, variant)
    kernels = sum(s.channels * sides[s.name] ** 2 for s in sockets)
    norms = 2 * sum(s.channels for s in sockets if s.norm)
    return {"kernels": kernels, "affine": norms, "statistics": norms}


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """Learn kernels, shifts and a map; `previous` is ignored, each task starts from the plain ROM."""
    if config.recipe == "paper":
        from edgecl.heads.parts.paper import learn_clr

        sides = kernel_sides(rom.image.sockets, config.variant)
        return learn_clr(task, rom, config.seed, config.false_reject, config.epochs, config.variant, sides, session)
    used = choose(rom.image.sockets, config.sockets)
    sides = {s.name: side for s, side in zip(used, kernel_sides(used, config.variant).values(), strict=True)}
    sides = {s.name: sides[s.name] for s in used if sides[s.name] or not s.feeds}
    recipe = Recipe(sockets=config.sockets, epochs=config.epochs)
    return plugged.learn(task, rom, "clr", recipe, sides, config.seed, config.false_reject, session)
