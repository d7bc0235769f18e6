"""The accuracy that docs/benchmarks.md states, on the real tasks and the default ROM. Runs with --slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecl import EdgeDevice
from edgecl.evaluate import evaluate
from edgecl.rom.opening import ensure_default
from edgecl.streams.folders import find_tasks


@pytest.fixture(scope="module")
def default_rom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_default(tmp_path_factory.mktemp("default") / "rom", print)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by both mappers, so that the pictures are read once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize(("mapper", "found", "joint"), [("mahalanobis", 0.985, 0.845), ("gmmc", 0.975, 0.84)])
def test_fourteen_real_tasks_without_a_task_label(
    shared_tasks: Path, default_rom: Path, cache: Path, tmp_path: Path, mapper: str, found: float, joint: float
) -> None:
    with EdgeDevice(tmp_path / "home", rom=default_rom, cache=cache, mapper=mapper) as device:
        summary = evaluate(device, find_tasks(shared_tasks)).summary
    assert summary["oracle"] >= 0.855
    assert summary["mapper"] >= found
    assert summary["joint"] >= joint
    assert summary["unknown_auroc"] >= (0.95 if mapper == "mahalanobis" else 0.93)
    assert 0.03 <= summary["false_reject"] <= 0.07
    assert summary["forgetting"] == 0
    assert summary["old_answers_bit_identical"] == 1
