"""`edgecl stream` and `edgecl reproduce` as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecl import registry
from edgecl.learners import making
from edgecl.learners.running import run
from edgecl.metrics.continual import average_accuracy
from edgecl.streams.datasets import modes
from edgecl.streams.scenarios.making import make

Done = subprocess.CompletedProcess[str]


def edgecl(tmp_path: Path, *arguments: object) -> Done:
    """Run the command; a traceback is never acceptable."""
    done = subprocess.run(
        [sys.executable, "-m", "edgecl.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "EDGECL_HOME": str(tmp_path / "home"), "COLUMNS": "120"},
        timeout=120,
    )
    assert "Traceback" not in done.stderr + done.stdout and done.returncode != 70, done.stderr
    return done


STREAM = ("stream", "run", "--data", "modes", "--scenario", "cdi")


def test_json_is_what_python_gives(tmp_path: Path) -> None:
    done = edgecl(tmp_path, *STREAM, "--learner", "ncm,memory_head", "--seeds", "7,9", "--set", "memory_head.m=12", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    config = making.config("memory_head", {"m": 12})
    stream = make("cdi", modes.load(), 9)
    expected = run(making.make("memory_head", (2,), 4, 9, config), stream)
    assert np.array_equal(found["runs"]["memory_head"][1]["accuracy"], expected.accuracy)
    each = [average_accuracy(np.array(one["accuracy"])) for one in found["runs"]["memory_head"]]
    assert found["figures"]["memory_head"]["accuracy"]["mean"] == pytest.approx(np.mean(each))
    assert found["plan"]["seeds"] == [7, 9] and found["conditions"]["versions"]["numpy"] == np.__version__


def test_a_table_for_people_and_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[many]\nlearner = "memory_head"\nm = 16\n[scenario]\ntasks = 3\n')
    out = tmp_path / "out"
    words = ("--learner", "ncm,many", "--seeds", 2, "--config", tmp_path / "plan.toml", "-o", out)
    done = edgecl(tmp_path, *STREAM, *words)
    assert done.returncode == 0, done.stderr
    assert "±" in done.stdout and "many" in done.stdout and f"wrote {out / 'report.md'}" in done.stderr
    results = json.loads((out / "results.json").read_text())
    assert len(results["runs"]["many"][0]["experiences"]) == 3 and len((out / "runs.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--learner", "nmc"), "did you mean 'ncm'"),
        (("--learner", "ncm", "--seeds", "x"), "--seeds takes how many"),
        (("--learner", "ncm", "--seeds", "0"), "--seeds takes how many"),
        (("--learner", "ncm", "--set", "space=plain"), "LEARNER.NAME=VALUE"),
        (("--learner", "memory_head", "--set", "memory_head.m=many"), "memory_head: m must be int"),
        (("--learner", "ncm", "--batch", "3", "--every", "4"), "multiple of the batch"),
        (("--learner", "ncm", "--rom", "nowhere"), "no"),
    ],
)
def test_wrong_words_are_one_sentence(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    done = edgecl(tmp_path, *STREAM, *words)
    assert done.returncode in (2, 5) and why in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_ls_lists_all_and_loads_no_method(tmp_path: Path) -> None:
    done = edgecl(tmp_path, "stream", "ls", "--json")
    found = json.loads(done.stdout)
    assert set(found["learners"]) == set(registry.LEARNERS) and set(found["scenarios"]) == set(registry.SCENARIOS)
    assert all(found["learners"].values()) and all(found["scenarios"].values())


def test_reproduce_lists_runs_and_refuses(tmp_path: Path) -> None:
    assert "memory-head/modes-cdi" in edgecl(tmp_path, "reproduce", "ls").stdout
    done = edgecl(tmp_path, "reproduce", "memory-head/modes-cdi", "--short", "-o", tmp_path / "docs")
    assert done.returncode == 0 and "agrees (short)" in done.stdout, done.stderr
    assert not (tmp_path / "docs" / "reproduction.json").exists()  # a short run is no record
    refused = edgecl(tmp_path, "reproduce", "features/14-tasks")
    assert refused.returncode == 2 and "needs the folder of the 14 tasks" in refused.stderr


def test_reproduce_says_how_long_it_would_take(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")
    done = edgecl(tmp_path, "reproduce", "cpg/cifar100-20", "--short", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)}
    independent = found["independent networks"]
    assert independent["phases"] == {"learning": 20 * 2} and independent["steps"] == 20 * 2 * 79
    assert independent["hours"] > 0 and independent["device"] in ("cpu", "cuda")
