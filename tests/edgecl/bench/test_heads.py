"""The bench of heads runs as a whole, and its figures mean what they say. Nothing here depends on speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.bench.heads import HOT, QUICK, HeadSettings, synthetic_plugs
from edgecl.rom.opening import open_rom


def bench(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecl.cli.main", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "EDGECL_HOME": str(home)})


def test_bench_of_heads_measures_everything_and_fits_the_schema(
    tmp_path: Path, tiny_rom: Path, valid: Callable[[Any], None]
) -> None:
    done = bench(tmp_path, "--heads", 3, "--quick", "--json", "--rom", tiny_rom, "--threads", 1)
    assert done.returncode == 0, done.stderr
    raw = json.loads(done.stdout)
    valid(raw)
    figures = {figure["name"]: figure for figure in raw["figures"]}
    assert {name for name, figure in figures.items() if figure["floor"]} == {
        "BB head, batch 1", "CLR head, batch 1", "switching among 3 hot BB heads", "switching among 3 hot CLR heads",
        "mixed batch of 64 over 14 BB heads", "mixed batch of 64 over 14 CLR heads",
    }  # fmt: skip
    kept = [figure for name, figure in figures.items() if name.startswith("kept")]
    assert len(kept) == 4 and all(figure["met"] for figure in kept), "memory is bounded on any machine"
    assert kept[0]["value"] < kept[1]["value"] < kept[2]["value"] > kept[3]["value"]
    assert {"cold BB head, the first", "cold CLR head, a further one"} < set(figures)


def test_synthetic_plugs_fit_and_differ(tiny_rom: Path) -> None:
    with open_rom(tiny_rom, threads=1) as rom:
        made = [synthetic_plugs(rom, seed, kernels) for kernels in (False, True) for seed in range(3)]
        assert len({p.key for p in made}) == 6 and made[0].key == synthetic_plugs(rom, 0).key
        x = np.full((1, 160, 160, 3), 100, np.uint8)
        assert len({rom.features(x, p).tobytes() for p in (None, *made)}) == 7


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--heads", 4, "--tasks", 5), "--heads measures nothing"), (("--heads", 1), "--heads")]
)
def test_wrong_usage_is_refused_before_anything_is_measured(tmp_path: Path, arguments: tuple, said: str) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_sizes_are_those_of_the_issue() -> None:
    assert (HOT, HeadSettings().heads) == (16, 64) and QUICK.openings == 1
