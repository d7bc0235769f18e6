"""What is measured with: pictures, synthetic tasks; and one quick run of everything. Nothing here depends on speed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecl.bench import footprint, suite
from edgecl.bench.pictures import made
from edgecl.bench.report import compare, load
from edgecl.bench.suite import exact_search, pillow
from edgecl.bench.synthetic import CLASSES, World, name
from edgecl.mapping.gmmc import Gmmc
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.pictures.decode import decode
from edgecl.rom.preprocess import Preprocess
from edgecl.sharing.bundle import from_bytes


@pytest.fixture(scope="module")
def world() -> World:
    return World(64, ["mahalanobis", "gmmc"])


def test_made_pictures_are_distinct_photograph_like_jpegs():
    pictures = made(20)
    assert pictures == made(20)
    assert len(set(pictures)) == 20
    assert all(50_000 < len(data) < 250_000 for data in pictures)
    image = Image.open(io.BytesIO(pictures[-1]))
    assert (image.format, image.size, image.mode) == ("JPEG", (640, 480), "RGB")


def test_the_decoding_compared_with_shows_the_same_picture():
    data, p = made(1)[0], Preprocess()
    theirs, ours = pillow(data, p), decode(data, p)
    assert theirs.shape == ours.shape
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.9
    assert np.corrcoef(theirs[:, ::-1].ravel(), ours.ravel())[0, 1] < 0.8


@pytest.mark.parametrize("kind", [Mahalanobis, Gmmc])
def test_synthetic_tasks_pass_for_real_ones(world: World, kind: type[Any]):
    bundle = from_bytes(world.bundle(3, "ab" * 32).to_bytes())
    assert bundle.task == name(3)
    mapper = kind(64)
    for task in range(12):
        kind.check(world.anchors(task)[kind.name])
        mapper.add(name(task), world.anchors(task)[kind.name])
    tasks = np.random.default_rng(0).integers(0, 12, 200)
    assert np.mean(mapper.assign(world.pictures(tasks)).task == tasks) > 0.8


def test_synthetic_heads_know_their_own_class_means(world: World):
    head = world.bundle(5, "ab" * 32).head
    assert head.scores(np.square(world.means(5))).argmax(1).tolist() == list(range(CLASSES))


def test_exact_search_lasts_as_long_as_its_block(world: World):
    def build() -> str:
        mapper = Mahalanobis(64)
        for task in range(300):
            mapper.add(name(task), world.anchors(task)["mahalanobis"])
        mapper.assign(world.pictures(np.arange(2)))
        return mapper.search

    with exact_search():
        assert build() == "exact over 3000 rows"
    assert build() == "two-stage over 3000 rows"


def test_bytes_of_files_and_of_this_process(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    assert footprint.on_disk(tmp_path) == 5
    assert footprint.on_disk(tmp_path / "a" / "b") == 5
    assert footprint.on_disk(tmp_path / "nothing") == 0
    assert 1 << 20 < footprint.resident() <= footprint.peak()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One quick run by the command line: where it wrote its report, and what it said."""
    folder = tmp_path_factory.mktemp("bench")
    return folder / "report.json", bench(folder, "--quick", "--json", "--rom", tiny_rom, "-o", folder / "report.json")


def bench(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecl.cli.main", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "EDGECL_HOME": str(home / "home")})


def test_quick_run_measures_everything_and_fits_the_schema(
    quick: tuple[Path, subprocess.CompletedProcess[str]], valid: Callable[[Any], None]
):
    path, done = quick
    assert done.returncode == 0, done.stderr
    raw = json.loads(done.stdout)
    valid(raw)
    assert raw == json.loads(path.read_text())
    figures = {figure["name"]: figure for figure in raw["figures"]}
    compared = {name for name, figure in figures.items() if figure["floor"]}
    assert compared == {
        "decode + resize, a picture", "ROM, batch 1", "ROM, batch 4", "infer, 14 tasks, batch 1", "infer, 14 tasks, batch 4",
        "mixed batch of 64", "infer, 20 tasks, batch 1", "learn, 24 pictures",
    }  # fmt: skip
    assert figures["edgecl infer, fresh process: torch imported"]["value"] == 0
    assert figures["mapper, 20 tasks: agreement with exact search"]["value"] > 0.9
    assert "over 14 heads" in figures["mixed batch of 64"]["note"]
    assert raw["conditions"]["provider"] == "CPUExecutionProvider"


def test_the_users_bank_is_not_touched(quick: tuple[Path, subprocess.CompletedProcess[str]]):
    from edgecl import EdgeDevice

    with EdgeDevice(quick[0].parent / "home") as device:
        assert device.bank.current() == {}


def test_a_run_compared_with_itself_has_not_changed(quick: tuple[Path, subprocess.CompletedProcess[str]]):
    report = load(quick[0])
    changes, warnings = compare(report, report)
    assert len(changes) == len(report.figures)
    assert warnings == []
    assert all(change.ratio in (1.0, None) for change in changes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch", "1,x"), "--batch takes numbers"),
        (("--batch", "0"), "--batch takes numbers"),
        (("--quick", "--targets"), "exclude each other"),
        (("--against", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(tmp_path: Path, arguments: tuple[str, ...], said: str):
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_are_sized_as_the_issue_says():
    s = suite.TARGETS
    assert (s.tasks, s.mapper_tasks, s.learn, suite.FEW, suite.MIXED) == (1000, 10_000, 400, 14, 64)
    assert 1 in s.batches
