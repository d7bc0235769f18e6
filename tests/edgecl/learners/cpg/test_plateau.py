"""Learning until it gets no better, starting from a file of weights, levels by hand, rare classes, hidden squares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgecl.errors import ConfigError
from edgecl.learners import making
from edgecl.learners.cpg import packnet, piggyback
from edgecl.learners.cpg.cpg import Config, Cpg
from edgecl.learners.cpg.data import epoch, prepare
from edgecl.learners.cpg.learning import released
from edgecl.learners.cpg.packnet import PackNet
from edgecl.learners.cpg.piggyback import Piggyback
from edgecl.learners.cpg.plateau import until_plateau
from edgecl.learners.cpg.settings import Schedule, at
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work, mask_lr
from edgecl.learners.parts.networks.building import build
from edgecl.learners.parts.networks.resnet import resnet
from edgecl.streams.base import Experience

SMALL: dict[str, Any] = {"net": "cnn", "width": 0.25, "batch": 8, "scale": 0.04, "least_train_accuracy": 0.0, "m_max": 1.0}
SHAPE = (16, 16, 3)


class Foreign:
    """What only a pickle could bring back."""


class Scripted(Work):
    """Whose accuracies are written down, and which remembers its rates; what it learns is nothing."""

    accuracies: list[float]
    rates: list[float]

    def accuracy(self, data: Any) -> float:
        return self.accuracies.pop(0)

    def train(self, data: Any, schedule: Schedule, draw: Any, **told: Any) -> float:
        for number in range(schedule.epochs):
            self.rates.append(schedule.lr * 0.1 ** sum(number >= drop for drop in schedule.drops))
            if not told["after_epoch"](number, 0.5):
                break
        return 0.5


def test_the_rate_falls_three_times_and_the_best_epoch_is_kept(tasks: list[Experience]) -> None:
    config = Config(**SMALL)
    learner = Cpg(SHAPE, 9, 0, config)
    data = prepare(tasks[0], config, 0)
    work = Scripted(learner.job.network(1.0), released(learner.job, learner.job.start(), 1, data, 1.0), 1, config)
    work.accuracies, work.rates = [0.1, 0.2, 0.2, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.9, 0.9], []
    state = until_plateau(learner.job, work, data, Schedule(300, 1.0), np.random.default_rng(0), "x", patience=2)
    # Two epochs without a new best: after the 4th, the 7th and the 9th; after the third fall one epoch is left.
    np.testing.assert_allclose(work.rates, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert state.accuracy == 0.9
    work.accuracies, work.rates = [0.5] * 3, []
    until_plateau(learner.job, work, data, Schedule(3, 1.0), np.random.default_rng(0), "x", patience=9)
    assert len(work.rates) == 3, "the schedule's own number of epochs ends it"


def test_picks_fall_to_a_fifth_at_the_first_fall_only() -> None:
    drops: list[int] = []
    schedule = Schedule(300, 1.0, drops, 1e-4)
    rates = []
    for number in range(6):
        if number in (2, 4):
            drops.append(number)
        rates.append(mask_lr(schedule, number, True))
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 2e-5, 2e-5, 2e-5, 2e-5])


def test_a_level_by_hand_is_reached_and_taken_whatever_the_goal(tasks: list[Experience]) -> None:
    config = Config(**SMALL, goals=(0.0, 1.0, 0.0), levels=(0.3, 0.6), chosen=(0.3, 0.6, 0.0), prune_best=True, repick=False)
    learner = Cpg(SHAPE, 9, 0, config)
    for one in tasks:
        learner.learn(one, 1)
        learner.end_task()
    assert [own.level for own in learner.finished] == [0.3, 0.6, 0.0]
    assert learner.state.free == 0, "what is chosen for the last task is to prune nothing"
    assert learner.finished[0].records.keys() == {0.0, 0.3}, "no level beyond the chosen one is tried"
    with pytest.raises(ConfigError, match="one of levels"):
        Config(levels=(0.3,), chosen=(0.5,))


def test_a_margin_is_how_much_of_a_goal_may_lack() -> None:
    learner = Cpg(SHAPE, 9, 0, Config(**SMALL, margin=(0.1, 0.0)))
    assert learner._meets(0.75, 0.8, 1) and not learner._meets(0.75, 0.8, 2) and learner._meets(0.8, 0.8, 2)
    assert not learner._meets(0.5, 0.6, 1), "what misses by just the margin fails, as published"


def test_settings_may_differ_from_task_to_task(tasks: list[Experience]) -> None:
    assert [at((1, 2), task) for task in (1, 2, 3)] == [1, 2, 2] and at(5, 9) == 5
    config = Config(lr=(1e-3, 1e-2), epochs=(3, 4), prune_epochs=(10, 20), prune_lr=(3e-4, 1e-3), batch=(16, 8))
    assert config.learning(1) == Schedule(3, 1e-3, (50, 80), 5e-4, 70) and config.learning(7).lr == 1e-2
    assert config.pruning(1) == Schedule(10, 3e-4) and config.pruning(2) == Schedule(20, 1e-3)
    assert [prepare(tasks[0], config, 0, task).batch for task in (1, 2, 3)] == [16, 8, 8]
    for bad in ({"lr": ()}, {"lr": (0.1, 0.0)}, {"batch": (32, 1)}, {"epochs": 0}, {"normalise": "faces"}, {"margin": -0.1}):
        with pytest.raises(ConfigError):
            Config(**bad)


def test_rare_classes_count_more(tasks: list[Experience]) -> None:
    rows = np.concatenate([np.flatnonzero(tasks[0].train.y == c)[:n] for c, n in ((0, 12), (1, 6), (2, 2))])
    uneven = replace(tasks[0], train=tasks[0].train[rows])
    config = Config(**SMALL, weighted=(2,))
    assert prepare(uneven, config, 0, 1).weights is None
    weights = prepare(uneven, config, 0, 2).weights
    assert weights is not None
    np.testing.assert_allclose(weights, [(20 - 12) / 12, (20 - 6) / 6, (20 - 2) / 2])


def test_a_square_of_each_picture_is_hidden(tasks: list[Experience]) -> None:
    data = prepare(tasks[0], replace(Config(**SMALL), normalise="imagenet"), 0)
    plain, hidden = ([x for x, _ in epoch(data, 8, False, np.random.default_rng(3), side)] for side in (0, 6))
    first, other = torch.cat(plain), torch.cat(hidden)
    gone = (other == 0).all(1)  # of all three colours
    # At a corner a quarter of the square is left.
    assert all(9 <= int(one.sum()) <= 36 for one in gone) and len({one.numpy().tobytes() for one in gone}) > 10
    same = ~gone[:8, None].expand(-1, 3, -1, -1)
    assert (first[:8][same] == other[:8][same]).all(), "what is not hidden is changed"


def a_file(path: Path, classes: int = 3, **changed: Any) -> str:
    """Of the small network, as others would save it."""
    net = build("cnn", 0.25, SHAPE, torch.Generator().manual_seed(7))
    head = torch.randn(classes, net.features, generator=torch.Generator().manual_seed(8))
    values = {**net.module.state_dict(), "fc.weight": head, "fc.bias": torch.ones(classes), **changed}
    if path.suffix == ".safetensors":
        save_file({name: value.clone() for name, value in values.items()}, path)
    else:
        torch.save(values, path)
    return str(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_first_task_is_taken_from_the_file(tasks: list[Experience], tmp_path: Path, suffix: str) -> None:
    path = a_file(tmp_path / f"net.{suffix}")
    cpg = Cpg(SHAPE, 9, 0, Config(**SMALL, goal="none", levels=(), pretrained=path))
    small = {name: value for name, value in SMALL.items() if name not in ("least_train_accuracy", "m_max")}
    others = (
        Piggyback(SHAPE, 9, 0, piggyback.Config(**small, pretrained=path)),
        PackNet(SHAPE, 9, 0, packnet.Config(**small, form="original", tasks=1, pretrained=path)),
    )
    net = build("cnn", 0.25, SHAPE, torch.Generator().manual_seed(7))
    for learner in (cpg, *others):
        learner.learn(tasks[0], 1)
        learner.end_task()
        for name, value in net.weights.items():
            assert (learner.state.weights[name] == value.detach().numpy()).all(), f"{learner.kind} has other weights"
        assert (learner.finished[0].head["bias"] == 1).all()


def test_a_file_that_does_not_fit_is_refused(tasks: list[Experience], tmp_path: Path) -> None:
    def taught(path: str) -> None:
        learner = Cpg(SHAPE, 9, 0, Config(**SMALL, goal="none", pretrained=path))
        learner.learn(tasks[0], 1)
        learner.end_task()

    for name, change, words in (
        ("classes", {"classes": 4}, r"\(4, .*need \(3, "),
        ("nan", {"fc.bias": torch.full((3,), float("nan"))}, "finite"),
        ("shape", {"0.weight": torch.zeros(1, 1)}, "0.weight"),
        ("object", {"0.weight": Foreign()}, "neither safetensors nor"),
        ("number", {"0.weight": 3}, "state dict of plain tensors"),
    ):
        with pytest.raises(ConfigError, match=words):
            taught(a_file(tmp_path / f"{name}.pth", **change))
    lacking = torch.load(a_file(tmp_path / "whole.pth"), weights_only=True)
    del lacking["0.weight"]
    torch.save(lacking, tmp_path / "lacking.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name, words in (
        ("lacking.pth", "lacks '0.weight'"),
        ("text.pth", "neither safetensors"),
        ("none.pth", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            taught(str(tmp_path / name))


def test_states_know_what_was_in_the_file_and_not_where_it_lay(tmp_path: Path) -> None:
    one, other = a_file(tmp_path / "a.pth"), a_file(tmp_path / "b.pth", **{"fc.bias": torch.zeros(3)})
    (tmp_path / "c.pth").write_bytes(Path(one).read_bytes())
    told = [making.told(Config(pretrained=path)) for path in (one, str(tmp_path / "c.pth"), other)]
    assert told[0] == told[1] != told[2]


def test_a_resnet_has_the_names_and_shapes_of_torchvisions() -> None:
    pytest.importorskip("edgecl.rom.torch_compat", reason="ResNets come from timm: pip install 'edgecl[learn]'")
    models = pytest.importorskip("torchvision.models", reason="needs torchvision")
    net = resnet("resnet18", torch.Generator().manual_seed(0))
    theirs = {name: tuple(value.shape) for name, value in models.resnet18().state_dict().items()}
    ours = {name: tuple(value.shape) for group in (net.weights, net.private) for name, value in group.items()}
    assert ours.items() <= theirs.items() and theirs["fc.weight"] == (1000, net.features)


def test_what_a_pruning_keeps_is_its_best_epoch_after_the_last_pruning(tasks: list[Experience]) -> None:
    """The same steps with and without: the kept accuracy is the best of what the epochs show from there on."""
    config = Config(**{**SMALL, "scale": 0.3}, goals=(0.0,), levels=(0.5,), prune_epochs=20, prune_best=True)
    learner = Cpg(SHAPE, 9, 0, config)
    seen: list[float] = []
    original = Work.accuracy

    def remembered(self: Work, data: Any) -> float:
        seen.append(original(self, data))
        return seen[-1]

    learner.learn(tasks[0], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work, "accuracy", remembered)
        learner.end_task()
    # Phase A is judged once; the level has 6 epochs, of which pruning takes 1.2.
    assert len(seen) == 1 + 6 - 1
    state = State.of(learner.job.states.get("001-done"))
    assert state.own(1) == pytest.approx(0.5, abs=0.02)
    assert learner.finished[0].records[0.5] == max(seen[1:])
