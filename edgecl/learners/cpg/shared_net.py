"""What learners with one network for many tasks do alike: they take in a task, develop it in phases, keep what is its own."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecl.errors import MissingDependency
from edgecl.heads.parts import masks
from edgecl.heads.parts.masks import Bits
from edgecl.learners.base import Learner
from edgecl.learners.cpg import plots
from edgecl.learners.cpg.data import TaskData, prepare, tensor
from edgecl.learners.cpg.job import Job
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import Finished, State
from edgecl.learners.cpg.training import ROWS, embedded, scores_of
from edgecl.learners.parts.networks.base import Network, torch
from edgecl.streams.base import Experience, Samples
from edgecl.types import Arrays, Floats, Ints


@dataclass(frozen=True)
class Developed:
    """What a method's phases give for one task. picks, turned: as in `Finished`."""

    state: State
    picks: dict[str, Bits]
    turned: dict[str, Bits]
    goal: float = 0.0
    level: float = 0.0
    records: dict[float, float] | None = None


class SharedNet(Learner):
    """A leaf implements `_develop`. It learns when an experience ends, for it needs epochs; each is a task with its own head.

    Where the stream does not give the task, the answer is that of the head that is surest of it.
    """

    online: ClassVar[bool] = False
    reads_files: ClassVar[bool] = True
    kind: ClassVar[str]

    def __init__(self, shape: tuple[int, ...], k: int, seed: int, config: Any) -> None:
        super().__init__(shape, k, seed, config)
        self.sees_test = config.ref_select_on_test
        self.job = Job(self.kind, shape, k, seed, config)
        self.state = self.job.start()
        self.finished: list[Finished] = []
        self._given: int | None = None
        self._head_of: dict[int, int] = {}
        self._seen: list[Experience] = []
        self._loaded: tuple[int, Arrays] | None = None

    def begin_task(self, task: int | None) -> None:
        self._given, self._seen = task, []

    def observe(self, x: Any, y: Ints) -> None:
        samples = Samples.of(np.array(x), np.array(y))
        self._seen.append(Experience("", 0, samples, samples[:0], samples[:0]))

    def learn(self, experience: Experience, batch: int) -> None:
        """Keeps the samples for the epochs; `batch` is the stream's, the settings have their own."""
        self._seen.append(experience)

    def end_task(self) -> None:
        if not self._seen:
            return
        task = len(self.finished) + 1
        data, self._seen = prepare(_joined(self._seen), self.config, self.seed, task), []
        self.job.progress = self.progress
        masks.check_task(task)
        self._develop_or_resume(task, data)
        if self._given is not None:
            self._head_of[self._given] = task - 1
        self._loaded = None
        if self.config.states:
            self._draw()

    def _develop_or_resume(self, task: int, data: TaskData) -> None:
        states, done, own = self.job.states, f"{task:03d}-done", f"{task:03d}-own"
        self.job.check_samples(task, data.digest)
        if own not in states:
            found = self._develop(task, data)
            after = found.state.settled()
            bare = State(after.multiplier, after.weights, after.owners, after.private)
            kept, finished = bare.to_kept(), self._finish(task, data, found).to_kept()
            states.put(done, kept.arrays, kept.facts)
            states.put(own, finished.arrays, finished.facts)
        # Phases of this task are needed no longer; the state after it is, for the next one may grow and begin again.
        self.state = State.of(states.get(done))
        self.finished.append(Finished.of(states.get(own)))
        for name in self._phases(task):
            states.drop(name)

    @classmethod
    @abstractmethod
    def stages(cls, config: Any, task: int) -> list[Stage]:
        """What it does for the task, counted from 1, at most."""

    @abstractmethod
    def _develop(self, task: int, data: TaskData) -> Developed:
        """All phases of the task, counted from 1; they start from the state after the one before (`before`)."""

    def _phases(self, task: int) -> list[str]:
        """Names of states that nobody needs once the task is done."""
        return []

    @staticmethod
    def before(task: int) -> str | None:
        """Name of the state from which the task starts."""
        return None if task == 1 else f"{task - 1:03d}-done"

    def _finish(self, task: int, data: TaskData, found: Developed) -> Finished:
        state = found.state
        shared = float("nan")
        if found.picks:
            order = list(state.owners)
            shared = masks.shared_share([state.owners[n] for n in order], [found.picks[n] for n in order], task)
        return Finished(
            number=task,
            multiplier=state.multiplier,
            private=state.private,
            head=state.head,
            picks=found.picks,
            turned=found.turned,
            mean=data.mean,
            scale=data.scale,
            classes=data.classes,
            level=found.level,
            goal=found.goal,
            accuracy=state.accuracy,
            records=found.records or {},
            free=state.free,
            shared=shared,
        )

    def predict(self, x: Any, task: int | None = None) -> Floats:
        if not len(x) or not self.finished:
            return np.zeros((len(x), self.k), np.float32)
        if task in self._head_of:
            own = self.finished[self._head_of[task]]
            return _spread(self.logits(own, x), own.classes, self.k)
        best = np.full((len(x), self.k), -np.inf, np.float32)
        for own in self.finished:
            sure = torch.log_softmax(torch.from_numpy(self.logits(own, x)), 1).numpy()
            best[:, own.classes] = np.maximum(best[:, own.classes], sure)
        low = best[np.isfinite(best)].min() - 1
        return np.where(np.isfinite(best), best, low).astype(np.float32)

    def logits(self, own: Finished, x: Any) -> Floats:
        """(n, classes of the task), at the task's own width, with all that is its own."""
        net = self._network(own)
        device = next(net.module.parameters()).device
        head = {name: torch.from_numpy(value).to(device) for name, value in own.head.items()}
        out = np.empty((len(x), len(own.classes)), np.float32)
        with torch.no_grad():
            for start in range(0, len(x), ROWS):
                part = tensor(x[start : start + ROWS], own.mean, own.scale).to(device)
                out[start : start + ROWS] = scores_of(net.module(part), head).cpu().numpy()
        return out

    def embed(self, x: Any, task: int | None = None) -> Floats:
        """By the network of the task; of a task that it was not told, or has not learned, by that of the last one."""
        if not self.finished:
            return np.zeros((len(x), 1), np.float32)
        own = self.finished[self._head_of.get(task, -1) if task is not None else -1]
        return embedded(self._network(own), x, own.mean, own.scale)

    def _network(self, own: Finished) -> Network:
        """As the task left it."""
        net = self.job.network(own.multiplier)
        if self._loaded is None or self._loaded[0] != own.number:
            shapes = {name: tuple(weight.shape) for name, weight in net.weights.items()}
            self._loaded = own.number, {**self._weights(own, shapes), **own.private}
        net.load(self._loaded[1])
        net.module.eval()
        return net

    def _weights(self, own: Finished, shapes: dict[str, tuple[int, ...]]) -> Arrays:
        return own.weights(self.state.weights, self.state.owners, shapes)

    def nbytes(self) -> int:
        """Shared weights in float32, owner maps and masks packed, and what each task has of its own."""
        weights = sum(w.size for w in self.state.weights.values())
        shared = masks.stored_bytes(weights, 0, owners=max(len(self.finished), 1))
        return shared + sum(own.nbytes for own in self.finished)

    def _draw(self) -> None:
        """Plots beside the states, where matplotlib is installed; a disk without room for them costs no learning."""
        folder = Path(self.config.states) / f"{self.kind}-{self.job.key[:16]}"
        with contextlib.suppress(MissingDependency, OSError):
            plots.draw(self.finished, folder)


def _joined(seen: list[Experience]) -> Experience:
    if len(seen) == 1:
        return seen[0]
    first = seen[0]
    join = partial(_concatenated, seen)
    return replace(first, train=join("train"), val=join("val"), test=join("test"))


def _concatenated(seen: list[Experience], part: str) -> Samples:
    parts = [getattr(one, part) for one in seen]
    y, group = (np.concatenate([getattr(p, name) for p in parts]) for name in ("y", "group"))
    return Samples(np.concatenate([np.asarray(p.x[:]) for p in parts]), y, group)


def _spread(logits: Floats, classes: Ints, k: int) -> Floats:
    """(n, k): classes that are not the task's lie behind its own."""
    out = np.repeat(logits.min(1, keepdims=True) - 1, k, axis=1)
    out[:, classes] = logits
    return out.astype(np.float32)
