"""One learner through one stream: what it was right about after each experience, and what that cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, DataError
from edgecl.learners.base import Learner
from edgecl.metrics import verification
from edgecl.metrics.accuracy import among_best
from edgecl.metrics.memory import PeakMemory
from edgecl.streams.base import Experience, Samples, Stream

Matrix = NDArray[np.float64]
ROWS = 512  # asked for at once when a learner is judged
TOP = 5
CLASSES_FOR_TOP = 10  # with fewer classes to choose from, one of five is no answer


@dataclass(frozen=True)
class Result:
    """What a run gave.

    accuracy: (N, N), row i after experience i, column j on the test samples of experience j; val: likewise, nan where an
    experience has no validation samples.   top5: (N,) at the end, share with the class among the five best; nan for fewer than
    ten classes to choose from.   untrained: (N,) accuracy before the first sample.   test_counts, train_counts: (N,) samples.
    curve: (samples seen, accuracy on the test samples of all experiences begun so far).   seconds: `learning`, `predicting`.
    bytes_held: (N,) after each experience.
    peak_memory: bytes that the process grew by (`PeakMemory`), learning and judging.
    """

    accuracy: Matrix
    val: Matrix
    test_counts: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    seconds: Mapping[str, float]
    bytes_held: NDArray[np.int64]
    untrained: NDArray[np.float64]
    top5: NDArray[np.float64]
    peak_memory: int
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def samples(self) -> int:
        """Learned in all."""
        return int(self.train_counts.sum())


def run(
    learner: Learner,
    stream: Stream,
    *,
    batch: int = 1,
    every: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Result:
    """Learn the stream once, in its order; before the first and after each experience ask about the test samples of all.

    batch: samples a step.   every: also look at the learner after each so many samples of an experience (anytime accuracy), a
    multiple of `batch`. One that is not online answers, until the experience is over, as it did before it.
    Raises ConfigError for other numbers, DataError for a stream that cannot be judged.
    """
    _check(stream, batch, every)
    if not learner.reads_files and not all(isinstance(e.train.x, np.ndarray) for e in stream):
        raise ConfigError(
            f"{type(learner).__name__} learns from arrays; the pictures of {stream.name} stay on the disk, where cpg, packnet, "
            "piggyback, pae and independent read them: use one of these, or a data set that fits in memory"
        )
    n = len(stream)
    accuracy, val = np.full((n, n), np.nan), np.full((n, n), np.nan)
    among = max(len(e.classes) for e in stream) if stream.task_given else len(stream.classes)
    top5, tops = np.full(n, np.nan), (1, TOP) if among >= CLASSES_FOR_TOP else (1,)
    held, curve = np.zeros(n, np.int64), list[tuple[int, float]]()
    counts = np.array([len(e.test) for e in stream], np.int64)
    learning = 0.0
    seen = 0
    started = clock()
    with PeakMemory() as memory:
        untrained = np.array([_right(learner, stream, e, e.test)[0] for e in stream])
        for i, experience in enumerate(stream):
            begun = np.arange(n) <= i
            looks = list(range(every, len(experience.train), every)) if every else []
            if not learner.online:
                before = untrained if i == 0 else accuracy[i - 1]
                curve += [(seen + at, float(np.average(before, weights=counts * begun))) for at in looks]
                looks = []
            began = clock()
            task = experience.task if stream.task_given else None
            learner.begin_task(task)
            # Of an experience a learner sees no more than it would on a device: nothing that it is judged on.
            test = experience.test if learner.sees_test else experience.test[:0]
            shown = replace(experience, task=task or 0, val=experience.val[:0], test=test)
            for start, end in _between(looks, len(experience.train)):
                learner.learn(replace(shown, train=experience.train[start:end]), batch)
                if end < len(experience.train):
                    learning += clock() - began
                    now = [_right(learner, stream, e, e.test)[0] for e in stream[: i + 1]]
                    curve.append((seen + end, float(np.average(now, weights=counts[: i + 1]))))
                    began = clock()
            learner.end_task()
            learning += clock() - began
            seen += len(experience.train)
            for j, other in enumerate(stream):
                accuracy[i, j], *five = _right(learner, stream, other, other.test, tops if i == n - 1 else (1,))
                val[i, j] = _right(learner, stream, other, other.val)[0]
                if five:
                    top5[j] = five[0]
            curve.append((seen, float(np.average(accuracy[i], weights=counts * begun))))
            held[i] = learner.nbytes()
            progress("learning the stream", i + 1, n)
    return Result(
        accuracy=accuracy,
        val=val,
        test_counts=counts,
        train_counts=np.array([len(e.train) for e in stream], np.int64),
        seconds={"learning": learning, "predicting": clock() - started - learning},
        bytes_held=held,
        untrained=untrained,
        top5=top5,
        peak_memory=memory.growth,
        curve=tuple(curve),
    )


def _check(stream: Stream, batch: int, every: int | None) -> None:
    if batch < 1:
        raise ConfigError(f"a batch has at least 1 sample, got {batch}")
    if every is not None and (every < 1 or every % batch):
        raise ConfigError(f"every must be a multiple of the batch, {batch}, or the looks would cut batches; got {every}")
    if not len(stream):
        raise DataError(f"the stream '{stream.name}' has no experience; nothing can be learned from it")
    if empty := [e.name for e in stream if not len(e.test)]:
        raise DataError(f"the experience '{empty[0]}' has no test samples; what was learned from it cannot be judged")


def _between(cuts: list[int], end: int) -> list[tuple[int, int]]:
    """Pieces of 0..end that are cut at `cuts`."""
    return list(zip([0, *cuts], [*cuts, end], strict=True))


def _right(
    learner: Learner, stream: Stream, experience: Experience, samples: Samples, tops: tuple[int, ...] = (1,)
) -> list[float]:
    """For each of `tops`, the share of the samples with their class among so many best; nan for no samples."""
    task = experience.task if stream.task_given else None
    if experience.pairs:
        return [_verified(learner, samples, task)] + [float("nan")] * (len(tops) - 1)
    right = [0] * len(tops)
    for start in range(0, len(samples), ROWS):
        y = samples.y[start : start + ROWS]
        scores = learner.predict(samples.x[start : start + ROWS], task)
        right = [so_far + int(among_best(scores, y, top).sum()) for so_far, top in zip(right, tops, strict=True)]
    return [count / len(samples) if len(samples) else float("nan") for count in right]


def _verified(learner: Learner, samples: Samples, task: int | None) -> float:
    """The share of pairs that the learner's features tell apart; nan for none."""
    if not len(samples):
        return float("nan")
    parts = [learner.embed(samples.x[i : i + ROWS], task) for i in range(0, len(samples), ROWS)]
    return verification.accuracy(verification.similarity(np.concatenate(parts)), samples.y[::2] == 1)
