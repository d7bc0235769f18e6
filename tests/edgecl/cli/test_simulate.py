"""`edgecl simulate`, as a person types it: a fleet on real pictures, its report, its replay, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def simulate(home: Path, *words: object, cwd: Path, module: str = "edgecl") -> subprocess.CompletedProcess[str]:
    verb = ["simulate"] if module == "edgecl" else []
    environment = {**os.environ, "EDGECL_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *verb, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_a_fleet_learns_shares_answers_and_is_told_of(
    tmp_path: Path, tiny_rom: Path, pictures_task: Mapping[str, Path]
) -> None:
    home, tasks = tmp_path / "home", pictures_task["shapes"].parent
    done = simulate(home, "mesh", "--agents", 4, "--tasks", tasks, "--rom", tiny_rom, "--seed", 7, "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("All 4 live agents know all 3 tasks, each head bit-identical to its author's"), done.stdout
    folder = tmp_path / "run"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["identical"] and summary["violations"] == [] and summary["accuracy"]["joint"] > 0.8
    assert summary["accuracy"]["joint"] == summary["accuracy"]["lowest"], "what one can do, all can"
    assert {"report.md", "report.html", "trace.jsonl", "homes"} <= {path.name for path in folder.iterdir()}

    heads = subprocess.run(
        [sys.executable, "-m", "edgecl", "--home", str(folder / "homes" / "agent-002"), "heads", "verify"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert heads.returncode == 0 and "3" in heads.stdout, "an agent's home is a device's home, its ROM named in it"

    again = simulate(home, "--replay", "run/trace.jsonl", "--until", "1s", "--rom", tiny_rom, "-o", "then", cwd=tmp_path)
    assert again.returncode == 0 and "a device as it was then" in again.stderr, again.stderr
    over = simulate(home, "--replay", "run/trace.jsonl", "--rom", tiny_rom, "-o", "run", cwd=tmp_path)
    assert over.returncode == 2 and "name another folder" in over.stderr


def test_the_scenarios_are_listed_and_the_module_does_the_same(tmp_path: Path) -> None:
    for module in ("edgecl", "firmware_sim"):
        done = simulate(tmp_path / "home", "--list", cwd=tmp_path, module=module)
        assert done.returncode == 0 and "ring " in done.stdout and "hostile_peer" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a scenario"),
        (["ring", "--replay", "x.jsonl"], "name a scenario"),
        (["rnig"], "did you mean 'ring'"),
        (["ring"], "something to learn"),
        (["ring", "--tasks", "."], "no sub-folder"),
        (["scale", "--until", "soon"], "virtual time such as"),
        (["scale", "--board", "raspberry-pi-44"], "did you mean"),
        (["scale", "--agents", "0"], "agents must lie"),
        (["scale", "-o", "full"], "something else"),
        (["--replay", "none.jsonl"], "cannot be read as a trace"),
        (["broken.toml"], "unknown key 'agent'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, tiny_rom: Path, words: list[str], says: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "broken.toml").write_text("agent = 3\n")
    done = simulate(tmp_path / "home", *words, "--rom", tiny_rom, cwd=tmp_path)
    assert done.returncode in (2, 4) and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "full" / "thesis.txt").exists()
