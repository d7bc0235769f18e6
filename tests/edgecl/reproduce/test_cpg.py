"""The rows of CPG, dry: on a few pictures, with the short options and a small network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.reproduce import cpg
from edgecl.reproduce.running import run
from edgecl.streams.datasets.cifar100 import SUPERCLASSES


def a_part_of_cifar(folder: Path) -> Path:
    """Two superclasses of two classes, as arrays."""
    arrays = {}
    for part, per_class, seed in (("train", 8, 0), ("test", 5, 1)):
        pictures, labels = synthetic.pictures(4, per_class, 32, seed=seed)
        arrays |= {f"x_{part}": np.stack(pictures), f"y_{part}": labels, f"group_{part}": labels // 2}
    path = folder / "part.npz"
    np.savez(path, classes=["a", "b", "c", "d"], groups=list(SUPERCLASSES)[:2], **arrays)
    return path


def test_every_cell_runs_dry_and_goes_on(tmp_path: Path) -> None:
    data = str(a_part_of_cifar(tmp_path))
    (row,) = cpg.ROWS
    small = replace(row, cells=tuple(replace(c, short={**c.short, "net": "cnn", "width": 0.25}) for c in row.cells))
    stages = list[str]()
    folder = tmp_path / "runs"
    record = run(small, "edgecl reproduce", short=True, data=data, folder=folder)
    again = run(small, "", short=True, data=data, folder=folder, progress=lambda stage, done, total: stages.append(stage))
    assert list(record["cells"]) == [cell.told for cell in row.cells]
    assert all(len(cell["values"]) == 1 and 0 <= cell["values"][0] <= 1 for cell in record["cells"].values())
    assert {name: c["values"] for name, c in again["cells"].items()} == {
        name: c["values"] for name, c in record["cells"].items()
    }
    assert not any("learning a task" in stage for stage in stages), "what was done is done again"
    assert len(list((folder / "states").glob("*/*/002-own.safetensors"))) >= 4, "states lie beside the runs"


def test_a_row_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="cifar-100-python"):
        run(cpg.ROWS[0], "edgecl reproduce")
