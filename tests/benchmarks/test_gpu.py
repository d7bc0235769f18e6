"""The GPU benchmark runs through without a GPU when it is told to, and says why it does not when it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def bench(home: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    changed = {**os.environ, "EDGECL_HOME": str(home), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=changed, timeout=600)


def test_trial_on_the_cpu_measures_every_part(home: Path, tiny_rom: Path, tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    done = bench(home, "--device", "cpu", "--quick", "--methods", "linear", "--rom", tiny_rom, "-o", output)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    for runtime in ("onnxruntime", "pytorch"):
        found = report[runtime]
        assert all(parity["holds"] for parity in found["parity"].values()) and len(found["parity"]) == 3
        assert min(found["throughput"].values()) > 0 and set(found["mixed"]) == {"shift", "shift+kernel"}
        assert min(found["agents"].values()) > 0 and found["title"] in done.stdout
    assert "tensorrt" not in report and report["learn"]["linear"]["seconds"] > 0
    stages = report["roofline"]["stages"]
    assert len(stages) > 3 and all(stage["bound_s"] > 0 and stage["flops"] > 0 for stage in stages.values())
    assert report["conditions"]["cpu"] and report["rom"]["backbone"] == "test_efficientnet"


def test_without_a_gpu_it_says_so_and_ends_with_3(home: Path, tiny_rom: Path) -> None:
    done = bench(home, "--rom", tiny_rom, CUDA_VISIBLE_DEVICES="")
    if done.returncode == 0:
        pytest.skip("the driver shows a GPU that CUDA_VISIBLE_DEVICES does not hide")
    assert done.returncode == 3 and "NVIDIA driver" in done.stderr and "Traceback" not in done.stderr
