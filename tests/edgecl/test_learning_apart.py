"""Tasks learned by several workers are what one device learns by itself, to the bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.evaluate import FINETUNE, Evaluation, evaluate
from edgecl.learning_apart import fitted, learn_apart, learners
from edgecl.sharing.bundle import Bundle, from_bytes
from edgecl.streams.base import TaskPictures
from edgecl.streams.folders import find_tasks

Make = Callable[..., EdgeDevice]


def learned(device: EdgeDevice) -> dict[str, tuple[bytes, int]]:
    """Task -> digest of all but who signed it and how long it took, and its sequence number."""

    def bare(bundle: Bundle) -> bytes:
        report = {key: value for key, value in bundle.report.items() if key != "seconds"}
        return replace(bundle, report=report, signer="", sequence=0).unsigned_digest()

    bundles = {task: from_bytes(device.export(task)) for task in device.tasks}
    return {task: (bare(bundle), bundle.sequence) for task, bundle in bundles.items()}


def figures(result: Evaluation) -> dict[str, Any]:
    """All but times; and but bytes, which hold the times in decimal digits."""
    timed = ("learn_seconds", "seconds", "bytes", "bytes_per_task")

    def bare(value: Any) -> Any:
        return {k: bare(v) for k, v in value.items() if k not in timed} if isinstance(value, dict) else value

    found: dict[str, Any] = bare(result.to_dict())
    return found


@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_learned_apart_is_learned_alike(kind: str, device: Make, tmp_path: Path, pictures_task: Mapping[str, Path]) -> None:
    if kind == "ray" and find_spec("ray") is None:
        pytest.skip("work on a Ray cluster needs the extra: pip install 'edgecl[fleet]'")
    tasks = find_tasks(pictures_task["colours"].parent)
    alone, together = device(tmp_path / "alone", threads=1), device(tmp_path / "together", threads=1)
    expected = evaluate(alone, tasks, seed=3)
    with learners(kind, together.config, workers=2) as pool:
        found = evaluate(together, tasks, seed=3, pool=pool)
    assert figures(found) == figures(expected)
    assert learned(together) == learned(alone)
    for task, digest in alone.bank.current().items():
        assert together.bank.sketch(together.bank.current()[task]) == alone.bank.sketch(digest)


def test_a_learner_that_is_killed_is_replaced(device: Make, tmp_path: Path, pictures_task: Mapping[str, Path]) -> None:
    tasks = find_tasks(pictures_task["colours"].parent)
    alone, together = device(tmp_path / "alone", threads=1), device(tmp_path / "together", threads=1)
    with learners("processes", together.config, workers=1) as pool:
        (first,) = pool.pids
        os.kill(first, signal.SIGSTOP)  # so that no task is done before the next line but one
        handed = learn_apart(pool, tasks, "linear", "default", 0)
        os.kill(first, signal.SIGKILL)
        for done in handed:
            together.keep(fitted(done))
        assert pool.pids != [first]
    for task in tasks:
        alone.learn_pictures(task.name, task.train, task.train_labels, task.classes)
    assert learned(together) == learned(alone)


def test_what_cannot_be_sent_is_refused(device: Make, pictures_task: Mapping[str, Path]) -> None:
    one = device(threads=1)
    array = TaskPictures("arrays", ("a", "b"), (np.zeros((8, 8, 3), np.uint8),), (0,), (), ())
    with learners("local", one.config) as pool:
        with pytest.raises(ConfigError, match="no files"):
            learn_apart(pool, [array], "linear", "default", 0)
        with pytest.raises(ConfigError, match="--ray"):
            evaluate(one, find_tasks(pictures_task["colours"].parent), method=FINETUNE, pool=pool)
