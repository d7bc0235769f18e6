"""One learner's run with one seed, and how it is kept: a JSON value, a line of a file."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import EdgeclError
from edgecl.learners.base import Learner
from edgecl.learners.running import Result
from edgecl.streams.base import Stream

RUNS = "runs.jsonl"
SIDE = 200  # points along each side of a map of answers
_MARGIN = 0.08  # around the test points, as a share of their range
_MATRICES, _COUNTS = ("accuracy", "val"), ("test_counts", "train_counts", "bytes_held")


@dataclass(frozen=True)
class Regions:
    """What a learner answers over the plane. low, high: (2,) corners.   labels: (SIDE, SIDE) uint8, rows upwards."""

    low: tuple[float, float]
    high: tuple[float, float]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Run:
    """What came of it. experiences: their names.   regions: where the inputs are points of a plane."""

    label: str
    seed: int
    experiences: tuple[str, ...]
    result: Result
    regions: Regions | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `run_of`; None stands for what is no number."""
        r, found = self.result, self.regions
        regions = found and {
            "low": found.low,
            "high": found.high,
            "labels": base64.b64encode(found.labels.tobytes()).decode(),
        }
        return {
            "label": self.label,
            "seed": self.seed,
            "experiences": list(self.experiences),
            **{name: _plain(getattr(r, name)) for name in _MATRICES},
            "untrained": _plain(r.untrained),
            "top5": _plain(r.top5),
            **{name: getattr(r, name).tolist() for name in _COUNTS},
            "seconds": dict(r.seconds),
            "peak_memory": r.peak_memory,
            "curve": [list(point) for point in r.curve],
            "regions": regions,
        }


def run_of(values: Mapping[str, Any]) -> Run:
    """What `to_dict` gave. Raises ValueError, TypeError or KeyError for anything else."""
    names = tuple(map(str, values["experiences"]))
    n = len(names)
    accuracy, val = (_numbers(values[name], (n, n)) for name in _MATRICES)
    tests, trains, held = (_numbers(values[name], (n,)).astype(np.int64) for name in _COUNTS)
    curve = _numbers(values["curve"], (len(values["curve"]), 2))
    result = Result(
        accuracy=accuracy,
        val=val,
        top5=_numbers(values["top5"], (n,)),
        test_counts=tests,
        train_counts=trains,
        bytes_held=held,
        untrained=_numbers(values["untrained"], (n,)),
        seconds={name: float(values["seconds"][name]) for name in ("learning", "predicting")},
        peak_memory=int(values["peak_memory"]),
        curve=tuple((int(seen), float(accuracy)) for seen, accuracy in curve),
    )
    regions = None
    if (found := values["regions"]) is not None:
        low, high = (tuple(_numbers(found[end], (2,)).tolist()) for end in ("low", "high"))
        labels = np.frombuffer(base64.b64decode(found["labels"], validate=True), np.uint8).reshape(SIDE, SIDE)
        regions = Regions((low[0], low[1]), (high[0], high[1]), labels)
    return Run(str(values["label"]), int(values["seed"]), names, result, regions)


def answers(learner: Learner, stream: Stream) -> Regions | None:
    """What the learner says all over the plane; None where inputs are no points of one, or it must be told the task."""
    if stream.shape != (2,) or stream.task_given or len(stream.classes) > 256:
        return None
    points = np.concatenate([np.asarray(e.test.x, np.float64) for e in stream])
    low, high = points.min(0), points.max(0)
    low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
    axes = [np.linspace(a, b, SIDE) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), 2).reshape(-1, 2).astype(np.asarray(stream[0].test.x).dtype)
    labels = learner.predict(grid).argmax(1).astype(np.uint8).reshape(SIDE, SIDE)
    return Regions((float(low[0]), float(low[1])), (float(high[0]), float(high[1])), labels)


class Kept:
    """Runs that are done, in a file of lines: an interrupted comparison goes on from there. None of a folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / RUNS if folder else None
        self._runs: dict[str, Run] = {}
        if self._path:
            with _writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                text = self._path.read_text(encoding="utf-8", errors="replace") if self._path.exists() else ""
                if text and not text.endswith("\n"):  # a line that a power cut has broken off
                    self._path.write_text(text + "\n", encoding="utf-8")
            for line in text.splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                    entry = json.loads(line)
                    self._runs[str(entry["key"])] = run_of(entry["run"])

    def get(self, key: str) -> Run | None:
        """The run of that key, if it is done."""
        return self._runs.get(key)

    def put(self, key: str, run: Run) -> None:
        """Keep it. Raises EdgeclError where the file cannot be written."""
        if self._path:
            with _writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "run": run.to_dict()}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(path: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise EdgeclError(f"runs cannot be kept in {path}: {error.strerror}") from error


def _plain(values: NDArray[Any]) -> Any:
    """As lists, None for what is no number."""
    return np.where(np.isnan(values), np.array(None), values).tolist()


def _numbers(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    found = np.array(values, np.float64)  # None becomes nan
    if found.shape != shape:
        raise ValueError(f"expected shape {shape}, got {found.shape}")
    return found
