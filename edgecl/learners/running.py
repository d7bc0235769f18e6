"""One learner through one stream: what it was right about after each experience, and what that cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.learners.base import Learner
from edgecl.streams.base import Experience, Samples, Stream

Matrix = NDArray[np.float64]
ROWS = 256  # asked for at once when a learner is judged


@dataclass(frozen=True)
class Result:
    """What a run gave.

    accuracy: (N, N), row i after experience i, column j on the test samples of experience j; val: likewise, nan where an
    experience has no validation samples; test_counts: (N,) samples.   curve: (samples seen, accuracy on the test samples of
    all experiences begun so far).   seconds: `learning`, `predicting`.   bytes_held: after each experience, (N,).
    """

    accuracy: Matrix
    val: Matrix
    test_counts: NDArray[np.int64]
    samples: int
    seconds: Mapping[str, float]
    bytes_held: NDArray[np.int64]
    curve: tuple[tuple[int, float], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def run(
    learner: Learner,
    stream: Stream,
    *,
    batch: int = 1,
    every: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Result:
    """Learn the stream once, in its order; after each experience ask about the test samples of all.

    batch: samples a step.   every: also look at the learner after each so many samples (anytime accuracy), where it is online.
    """
    n = len(stream)
    accuracy, val = np.full((n, n), np.nan), np.full((n, n), np.nan)
    held, curve = np.zeros(n, np.int64), []
    learning = predicting = 0.0
    seen = 0
    for i, experience in enumerate(stream):
        task = experience.task if stream.task_given else None
        learner.begin_task(task)
        pieces = [experience]
        if every and learner.online:
            cuts = range(0, len(experience.train), every)
            pieces = [_piece(experience, start, every) for start in cuts]
        for piece in pieces:
            began = clock()
            learner.learn(piece, batch)
            learning += clock() - began
            seen += len(piece.train)
            if piece is not pieces[-1]:
                began = clock()
                curve.append((seen, _begun(learner, stream, i)))
                predicting += clock() - began
        began = clock()
        learner.end_task()
        ended = clock()
        learning += ended - began
        for j, other in enumerate(stream):
            accuracy[i, j] = _accuracy(learner, stream, j, other.test)
            val[i, j] = _accuracy(learner, stream, j, other.val)
        predicting += clock() - ended
        counts = np.array([len(e.test) for e in stream])
        curve.append((seen, float(np.average(accuracy[i, : i + 1], weights=counts[: i + 1]))))
        held[i] = learner.nbytes()
        progress("learning the stream", i + 1, n)
    return Result(
        accuracy=accuracy,
        val=val,
        test_counts=np.array([len(e.test) for e in stream], np.int64),
        samples=seen,
        seconds={"learning": learning, "predicting": predicting},
        bytes_held=held,
        curve=tuple(curve),
    )


def _piece(experience: Experience, start: int, length: int) -> Experience:
    return replace(experience, train=experience.train[start : start + length])


def _accuracy(learner: Learner, stream: Stream, j: int, samples: Samples) -> float:
    """Share of right answers; nan for no samples."""
    if not len(samples):
        return float("nan")
    task = stream[j].task if stream.task_given else None
    right = 0
    for start in range(0, len(samples), ROWS):
        rows = slice(start, start + ROWS)
        right += int((learner.predict(samples.x[rows], task).argmax(1) == samples.y[rows]).sum())
    return right / len(samples)


def _begun(learner: Learner, stream: Stream, i: int) -> float:
    counts = np.array([len(e.test) for e in stream[: i + 1]])
    return float(np.average([_accuracy(learner, stream, j, stream[j].test) for j in range(i + 1)], weights=counts))
