"""The rows of CPG, dry: on a few pictures in the published folders, with the short options and a small network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

import torch

from edgecl.checks import synthetic
from edgecl.errors import ConfigError
from edgecl.learners.cpg.cpg import Cpg
from edgecl.learners.cpg.states import States
from edgecl.learners.parts.networks.building import build
from edgecl.reproduce import cpg
from edgecl.reproduce.base import Row
from edgecl.reproduce.projecting import project
from edgecl.reproduce.rows import ROWS
from edgecl.reproduce.running import options, run
from edgecl.streaming.plan import Entry
from edgecl.streams.datasets import face_tasks
from edgecl.streams.datasets import finegrained as finegrained_data
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
    row = cpg.ROWS[0]
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


def of_a_small_network(row: Row) -> Row:
    """And the published settings in all else, but for the number of epochs."""
    return replace(
        row,
        cells=tuple(replace(c, short={**c.short, "net": "cnn", "width": 0.25, "batch": 4, "scale": 0.007}) for c in row.cells),
    )


def weights_of_a_small_network(path: Path, classes: int) -> str:
    """A state dict as torchvision saves one, of the network that `of_a_small_network` asks for."""
    net = build("cnn", 0.25, (32, 32, 3), torch.Generator().manual_seed(0))
    head = {
        "fc.weight": torch.randn(classes, net.features, generator=torch.Generator().manual_seed(1)),
        "fc.bias": torch.zeros(classes),
    }
    torch.save({**net.module.state_dict(), **head}, path)
    return str(path)


def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the published folders, so that seconds do."""
    monkeypatch.setattr(finegrained_data, "SIDE", 32)
    monkeypatch.setattr(face_tasks, "SIDE", 32)


@pytest.mark.slow
def test_the_fine_grained_row_runs_dry(finegrained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    row = of_a_small_network(ROWS["cpg/finegrained"])
    weights = weights_of_a_small_network(tmp_path / "net.pth", 2)
    data = f"finegrained:{finegrained_folder}"
    record = run(row, "", short=True, data=data, weights=weights, folder=tmp_path / "runs")
    assert list(record["cells"]) == [cell.told for cell in row.cells] and len(record["weights"]) == 12
    values = {name: cell["values"][0] for name, cell in record["cells"].items()}
    assert all(0 <= value <= 1 and (value * 8).is_integer() for name, value in values.items() if name != "PAE")
    again = run(row, "", short=True, data=data, weights=weights, folder=tmp_path / "runs")
    assert {name: cell["values"] for name, cell in again["cells"].items()} == {name: [value] for name, value in values.items()}
    learner = Cpg((32, 32, 3), 12, 0, _config(row, "CPG", weights))
    assert learner.sees_test and learner.config.plateau == 5 and learner.config.prune_best


def test_the_row_of_faces_runs_dry(faces_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    row = of_a_small_network(ROWS["cpg/faces"])
    record = run(row, "", short=True, data=f"faces:{faces_folder}", folder=tmp_path / "runs")
    names = ["face_verification", "gender", "emotion", "age"]
    assert list(record["cells"]) == [f"CPG ({name})" for name in names]
    assert all(0 <= cell["values"][0] <= 1 for cell in record["cells"].values())
    (states,) = (tmp_path / "runs" / "states").glob("*/cpg-*")
    levels = [States(states, _key(states)).get(f"{task:03d}-own").facts["level"] for task in (1, 2, 3)]
    assert levels == [0.5, 0.1, 0.2]


def test_a_row_that_was_killed_goes_on_between_phases(
    finegrained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second task's pruning: what was kept is not made again; figures are those of a run that was not killed."""
    small_pictures(monkeypatch)
    whole = of_a_small_network(ROWS["cpg/finegrained"])
    row = replace(whole, cells=tuple(cell for cell in whole.cells if cell.name == "CPG"))
    given: dict[str, Any] = {
        "short": True,
        "data": f"finegrained:{finegrained_folder}",
        "weights": weights_of_a_small_network(tmp_path / "a.pth", 2),
    }
    seen = list[str]()

    def killing(stage: str, done: int, total: int) -> None:
        seen.append(stage)
        if "learning a task" in seen and stage == "pruning a level":  # the first task is not learned
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(row, "", folder=tmp_path / "killed", progress=killing, **given)
    after = list[str]()
    again = run(row, "", folder=tmp_path / "killed", progress=lambda stage, done, total: after.append(stage), **given)
    all_at_once = list[str]()
    alone = run(row, "", folder=tmp_path / "whole", progress=lambda stage, done, total: all_at_once.append(stage), **given)
    assert {n: c["values"] for n, c in again["cells"].items()} == {n: c["values"] for n, c in alone["cells"].items()}
    assert 0 < after.count("learning a task") < all_at_once.count("learning a task")


def test_weights_are_asked_for_where_a_row_starts_from_them(finegrained_folder: Path, tmp_path: Path) -> None:
    data = f"finegrained:{finegrained_folder}"
    with pytest.raises(ConfigError, match="starts from torchvision's ResNet-50"):
        run(ROWS["cpg/finegrained"], "", data=data)
    with pytest.raises(ConfigError, match="leave out --weights"):
        run(ROWS["cpg/cifar100-20"], "", data=data, weights="a.pth")
    with pytest.raises(ConfigError, match="cannot be read"):
        run(ROWS["cpg/finegrained"], "", data=data, weights=str(tmp_path / "none.pth"))


def test_a_projection_counts_the_published_epochs() -> None:
    """PackNet: ImageNet from a file, 10 epochs after pruning it; then 20 and 10; the last is not pruned."""
    row = ROWS["cpg/finegrained"]
    small = replace(row, cells=tuple(replace(c, short={"net": "cnn"}) for c in row.cells if c.name in ("PackNet", "CPG")))
    cpg_runs, packnet = project(replace(small, shape=(32, 32, 3)), short=True)
    assert packnet.phases == {"after pruning": 10 + 4 * 10, "learning": 5 * 20} and packnet.seeds == 1
    steps = [-(-size.train // 32) for size in row.sizes]
    assert packnet.steps == 10 * steps[0] + 30 * sum(steps[1:5]) + 20 * steps[5]
    assert cpg_runs.phases == {"learning": 5 * 300, "pruning": 10 * 10 + 5 * 10 * 20}
    assert packnet.hours and packnet.step > 0 and packnet.device in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="run it"):
        project(ROWS["mlp/adam"])


def _config(row: Row, name: str, weights: str) -> Any:
    cell = next(cell for cell in row.cells if cell.name == name)
    return Entry(name, cell.learner, {**options(cell, weights), **cell.short}).config


def _key(states: Path) -> str:
    with safe_open(next(states.glob("*-own.safetensors")), framework="np") as file:
        return str(file.metadata()["key"])


def test_a_row_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="cifar-100-python"):
        run(cpg.ROWS[0], "edgecl reproduce")
