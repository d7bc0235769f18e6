"""A memory head on a stream: one labelled input at a time, no replay, no task label.

Source: Memory Head for Pre-Trained Backbones in Continual Learning, CoLLAs 2024; the layer is
`edgecl.learners.parts.memory_numpy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecl.errors import ConfigError
from edgecl.learners.parts.memory_config import MemoryConfig
from edgecl.learners.parts.memory_numpy import LOSSES, Memory, why_not
from edgecl.learners.parts.task_aware import TaskAware
from edgecl.types import Floats, Ints

OPTIMISERS = ("sgd", "adam", "sparse_sgd", "sparse_adam")
CORES = ("auto", "numpy", "torch")


@dataclass(frozen=True)
class Config(MemoryConfig):
    """The layer's settings, and how it learns."""

    lr: float = 1.0  # per step
    optimiser: str = "sgd"  # the sparse ones leave units alone that have no gradient; plain SGD does so by itself
    momentum: float = 0.0  # of sgd and sparse_sgd
    weight_decay: float = 0.0
    loss: str = "cross_entropy"
    core: str = "auto"  # numpy where it knows the settings, else torch
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("optimiser", OPTIMISERS), ("loss", LOSSES), ("core", CORES), ("dtype", ("float32", "float64"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"lr must be above 0, got {self.lr}")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                f"momentum must lie in [0, 1) and weight_decay not below 0, got {self.momentum}, {self.weight_decay}"
            )
        if self.momentum and not self.optimiser.endswith("sgd"):
            raise ConfigError(f"{self.optimiser} has no momentum to set; leave it at 0, got {self.momentum}")


class MemoryHead(TaskAware):
    """A `Memory` from the inputs, flattened, to the classes. A batch is learned one sample after the other.

    core: "numpy" or "torch", what was taken.   Pictures (h, w, c) are read channel by channel, bytes as 0..1.
    """

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Config | None = None) -> None:
        """Raises ConfigError where the NumPy core is asked for and lacks something, naming it."""
        config = config or Config()
        if config.psi.startswith("resize2d") and not config.picture and len(shape) == 3:
            config = replace(config, picture=(shape[2], *shape[:2]))
        super().__init__(shape, k, seed, config)
        size = math.prod(shape)
        lacking = why_not(config) or self._beyond_numpy(config)
        if config.core == "numpy" and lacking:
            raise ConfigError(f"the NumPy core does not have {lacking}; set core to torch or auto")
        self.core = "torch" if config.core == "torch" or lacking else "numpy"
        self.memory: Any
        if self.core == "numpy":
            self.memory = Memory(config, size, k, lr=config.lr, loss=config.loss, seed=seed, dtype=config.dtype)
        else:
            from edgecl.learners.parts.memory_torch import TorchMemory

            self.memory = TorchMemory(
                config,
                size,
                k,
                lr=config.lr,
                loss=config.loss,
                optimiser=config.optimiser,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                seed=seed,
                dtype=config.dtype,
            )

    @staticmethod
    def _beyond_numpy(config: Config) -> str:
        if not config.optimiser.endswith("sgd"):
            return f"the optimiser {config.optimiser}"
        return "momentum" if config.momentum else "weight decay" if config.weight_decay else ""

    def _observe(self, x: Any, y: Ints) -> None:
        step = self.memory.step
        for one, label in zip(self._flat(x), y.tolist(), strict=True):
            step(one, label)

    def _scores(self, x: Any) -> Floats:
        return np.asarray(self.memory.scores(self._flat(x)), np.float32)

    def _held(self) -> int:
        return int(self.memory.nbytes)

    def _flat(self, x: Any) -> Any:
        x = np.asarray(x)
        if len(self.shape) == 3:
            x = np.moveaxis(x, 3, 1)
        scale = np.dtype(self.config.dtype).type(255) if x.dtype == np.uint8 else None
        x = x.reshape(len(x), math.prod(self.shape))
        return x / scale if scale else x
