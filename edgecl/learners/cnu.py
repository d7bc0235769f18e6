"""Continual neural units as a head: the memory head by the rules of the paper before it.

Keys follow the input before units are read, cosines are compared as they are, and a key just replaced wins at once.
Source: Continual Neural Computation, ECML-PKDD 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecl.learners import memory_head


@dataclass(frozen=True)
class Config(memory_head.Config):
    """The memory head's, with what the paper selects for most of its two-dimensional streams."""

    m: int = 8
    gamma: float = 25.0
    distance: str = "cosine"
    beta: float = 0.01
    tau_alpha: float = 0.95
    tau_mu: float = 50.0
    tau_eta: float = 50.0
    timing: str = "before_blend"
    lr: float = 0.01


class Cnu(memory_head.MemoryHead):
    """A memory head whose defaults are the paper's."""

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: memory_head.Config | None = None) -> None:
        super().__init__(shape, k, seed, config or Config())
