"""The demo as a user runs it, on real pictures; the tiny random network answers badly, but forgets nothing either."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl import demo
from edgecl.config import DeviceConfig
from edgecl.errors import ConfigError, EdgeclError, MissingDependency
from edgecl.heads.base import Head
from edgecl.streams.base import TaskPictures

LEARNED, UNSEEN = ["faces", "mnist", "textures"], ["snapshots", "digits"]


def edgecl(*arguments: str, home: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGECL_HOME": str(home), "EDGECL_TRACEBACK": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "edgecl.cli.main", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    try:
        demo.learned(quick=True), demo.unseen(quick=True)
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kept(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One quick run in words, with its device kept: the folder, and what was printed."""
    root = tmp_path_factory.mktemp("demo")
    done = edgecl("demo", "--quick", "--rom", str(tiny_rom), "--keep", str(root / "a home"), home=root / "own")
    assert done.returncode == 0, done.stderr
    assert not (root / "own").exists()  # the user's own device was not even made
    return root / "a home", done.stdout


@pytest.fixture(scope="module")
def result(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """One quick run with --json."""
    done = edgecl("demo", "--quick", "--json", "--rom", str(tiny_rom), home=tmp_path_factory.mktemp("own"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1  # the story goes to stderr
    parsed: Mapping[str, Any] = json.loads(done.stdout)
    return parsed


def test_json_has_a_row_for_every_task(result: Mapping[str, Any]) -> None:
    assert [row["task"] for row in result["rows"]] == LEARNED
    assert [row["task"] for row in result["unseen"]] == UNSEEN
    for row in result["rows"]:
        assert row["right"] + row["unknown"] + row["wrong"] == pytest.approx(1)
        assert row["right"] <= row["joint"] <= min(row["oracle"], row["mapper"]) + 1e-9
        assert min(row["train"], row["test"], row["seconds"], row["bytes"]) > 0
    for row in result["unseen"]:
        assert row["unknown"] + row["wrong"] == pytest.approx(1)
        assert sum(row["taken_for"].values()) == round(row["wrong"] * row["test"])


def test_even_a_random_network_is_better_than_chance(result: Mapping[str, Any]) -> None:
    for row in result["rows"]:
        assert row["oracle"] > 1 / row["classes"] + 0.1, row["task"]
        assert row["mapper"] > 1 / len(LEARNED) + 0.1, row["task"]


def test_every_earlier_score_was_compared_and_held(result: Mapping[str, Any]) -> None:
    assert result["held"] is True
    assert [step["after"] for step in result["steps"]] == ["faces", "mnist", "the power cut", "textures"]
    assert [sorted(step["digests"]) for step in result["steps"]] == [
        [],
        ["faces"],
        ["faces", "mnist"],
        ["faces", "mnist"],
    ]
    for step in result["steps"]:
        assert (step["identical"], step["unchanged"], step["problems"]) == (True, True, [])
    faces = {step["digests"]["faces"] for step in result["steps"][1:]}
    assert len(faces) == 1


def test_the_process_was_killed_in_the_middle(result: Mapping[str, Any]) -> None:
    assert result["conditions"]["killed_while"] == "learning the head"


def test_words_fit_a_page_and_carry_no_control_codes(kept: tuple[Path, str]) -> None:
    told = kept[1].partition("Play on")[0]  # what comes after has the user's own paths
    foreign = r"It lives in|The device stays in|One frozen network|  \S+\.png:"  # as long as what they name
    assert [line for line in told.splitlines() if len(line) > 80 and not re.match(foreign, line)] == []
    assert len(told.splitlines()) < 60
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", told)
    for name in LEARNED + UNSEEN:
        assert name in told


def test_the_commands_printed_at_the_end_run_as_written(kept: tuple[Path, str], tmp_path: Path) -> None:
    home, told = kept
    commands = [line.strip() for line in told.partition("Play on:")[2].splitlines() if " --home " in line]
    assert len(commands) == 4
    environment = {**os.environ, "EDGECL_HOME": str(tmp_path / "other")}
    done = [
        subprocess.run(command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        for command in commands
    ]
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    assert len(done[0].stdout.splitlines()) == 2 * len(LEARNED + UNSEEN)
    assert "learned 'digits'" in done[2].stdout
    assert shlex.quote(str(home)) in commands[0]


def test_a_folder_in_use_is_refused_before_anything_is_done(tiny_rom: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    done = edgecl("demo", "--quick", "--rom", str(tiny_rom), "--keep", str(tmp_path / "used"), home=tmp_path / "own")
    assert done.returncode == ConfigError.exit_code
    assert "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def drawn(name: str, seed: int) -> TaskPictures:
    """Two classes, dark and bright noise."""
    rng = np.random.default_rng(seed)
    labels = tuple(i % 2 for i in range(24))
    pictures = tuple((rng.integers(0, 100, (16, 16)) + 150 * label).astype(np.uint8) for label in labels)
    return TaskPictures(name, ("dark", "bright"), pictures[:16], labels[:16], pictures[16:], labels[16:])


def test_a_head_that_changes_is_noticed(tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo would be worthless if it said "bit-identical" whatever happened."""
    scores = Head.scores
    calls: list[str] = []

    def drifting(self: Head, features: Any, plugged: Any = None) -> Any:
        calls.append("")
        out = scores(self, features, plugged)
        return out if len(calls) < 3 else np.nextafter(out, np.float32(np.inf), dtype=np.float32)

    monkeypatch.setattr(Head, "scores", drifting)
    demo.prepare(tmp_path / "home", DeviceConfig(rom=str(tiny_rom)))
    told: list[str] = []
    found = demo.run(tmp_path / "home", [drawn(n, i) for i, n in enumerate("abc")], [drawn("d", 9)], tell=told.append)
    assert not found.held
    assert any("NOT ALL BIT-IDENTICAL" in line for line in told)


def test_a_bundle_that_changes_is_noticed(tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo._Memory, "add", _spoiling(demo._Memory.add))
    demo.prepare(tmp_path / "home", DeviceConfig(rom=str(tiny_rom)))
    found = demo.run(tmp_path / "home", [drawn(n, i) for i, n in enumerate("abc")], [drawn("d", 9)])
    assert not found.held
    assert not any(step.unchanged for step in found.steps[1:])


def _spoiling(add: Any) -> Any:
    def spoiled(self: Any, *arguments: Any) -> None:
        add(self, *arguments)
        self._bundles = dict.fromkeys(self._bundles, "0" * 64)

    return spoiled


def test_a_child_that_fails_by_itself_is_not_called_killed(tmp_path: Path) -> None:
    with pytest.raises(EdgeclError, match="ended by itself while starting"):
        demo._cut(tmp_path / "home", "task", tmp_path / "no such folder", lambda stage, done, total: None)
