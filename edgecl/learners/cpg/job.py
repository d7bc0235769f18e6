"""What all phases of one learning work with: its settings, its states by name, networks of each width, and draws by seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecl.errors import RuntimeUnavailable, StateError
from edgecl.heads.parts import masks
from edgecl.learners import making
from edgecl.learners.cpg.settings import Base
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.states import States
from edgecl.learners.parts.networks import building
from edgecl.learners.parts.networks.base import Network, numbers, torch

Progress = Callable[[str, int, int], None]
Epoch = Callable[[int, float], bool]


class Job:
    """One learning. kind: the method's name, part of the states' key."""

    def __init__(self, kind: str, shape: tuple[int, ...], k: int, seed: int, config: Base) -> None:
        self.config, self.shape, self.seed = config, shape, seed
        self.progress: Progress = lambda stage, done, total: None
        self._net = building.auto(shape) if config.net == "auto" else config.net
        self._networks: dict[float, Network] = {}
        self.device = config.device
        if config.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailable("device=cuda was asked for, and PyTorch sees no GPU here; leave it out")
        told = making.told(config)
        parts = json.dumps([kind, list(shape), k, seed, told], sort_keys=True, default=str)
        self.key = hashlib.sha256(parts.encode()).hexdigest()
        self.states = States(Path(config.states) / f"{kind}-{self.key[:16]}" if config.states else None, self.key)

    def numpy(self, *what: int) -> np.random.Generator:
        """Draws of one phase, the same whenever it is run."""
        return np.random.default_rng([self.seed, *what])

    def torch(self, *what: int) -> Any:
        """Likewise, as a torch.Generator."""
        return torch.Generator().manual_seed(int(np.random.default_rng([self.seed, 6, *what]).integers(2**62)))

    def network(self, multiplier: float) -> Network:
        """The network of that width. Its values are whatever the last phase left there."""
        if multiplier not in self._networks:
            self._networks = {multiplier: self._fresh(multiplier)}  # one at a time: a wide one is large
            self._networks[multiplier].module.to(self.device)
        return self._networks[multiplier]

    def _fresh(self, multiplier: float) -> Network:
        return building.build(self._net, self.config.width * multiplier, self.shape, self.torch(round(multiplier * 1000)))

    def start(self) -> State:
        """Before the first task: fresh weights, all of them free."""
        net = self._fresh(1.0)
        weights = numbers(net.weights)
        return State(1.0, weights, {n: np.zeros(w.shape, np.uint8) for n, w in weights.items()}, numbers(net.private))

    def grown(self, state: State, multiplier: float) -> State:
        """The state in the leading corners of a fresh network of that width; what is new is free."""
        if multiplier == state.multiplier:
            return state
        net = self._fresh(multiplier)
        weights, private = numbers(net.weights), numbers(net.private)
        return replace(
            state,
            multiplier=multiplier,
            weights={n: masks.grown(state.weights[n], fresh) for n, fresh in weights.items()},
            owners={n: masks.grown(state.owners[n], np.zeros(w.shape, np.uint8)) for n, w in weights.items()},
            private={n: masks.grown(state.private[n], fresh) for n, fresh in private.items()},
        )

    def phase(self, name: str, before: str | None, run: Callable[[State], State]) -> State:
        """The state `name`, which `run` makes of the state `before` unless it was kept already.

        before: None starts from fresh weights.   Raises StateError where `before` is missing.
        """
        if name in self.states:
            return State.of(self.states.get(name))
        start = self.start() if before is None else State.of(self.states.get(before))
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):  # a GPU, too, gives the same bits
            made = run(start)
        kept = made.to_kept()
        self.states.put(name, kept.arrays, kept.facts)
        return made

    def check_samples(self, task: int, digest: str) -> None:
        """Raise StateError where states of this task were made of other samples."""
        name = f"{task:03d}-samples"
        if name not in self.states:
            self.states.put(name, {}, {"digest": digest})
        if self.states.get(name).facts["digest"] != digest:
            raise StateError(f"the states of task {task} in {self.config.states} are of other samples; choose another folder")

    def epochs(self, stage: str, total: int, then: Epoch = lambda epoch, share: True) -> Epoch:
        """For `Work.train`: tells the progress, then asks `then` whether to go on."""

        def after(at: int, share: float) -> bool:
            self.progress(stage, at + 1, total)
            return then(at, share)

        return after
