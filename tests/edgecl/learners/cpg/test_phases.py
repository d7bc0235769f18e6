"""Learning that is killed and taken up, states that are missing or damaged, and what each relative of CPG keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgecl.errors import ConfigError, MissingDependency, RuntimeUnavailable, StateError
from edgecl.heads.parts import masks
from edgecl.heads.parts.picking import keep_old, keep_own, pick
from edgecl.learners.cpg import goals, independent, packnet, piggyback, plots
from edgecl.learners.cpg.compacting import ramp
from edgecl.learners.cpg.cpg import Config, Cpg
from edgecl.learners.cpg.data import epoch, prepare
from edgecl.learners.cpg.independent import Independent
from edgecl.learners.cpg.packnet import PackNet
from edgecl.learners.cpg.piggyback import Piggyback
from edgecl.learners.cpg.settings import Schedule
from edgecl.learners.cpg.shared_net import SharedNet
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.states import States
from edgecl.learners.cpg.training import Work
from edgecl.streams.base import Experience

SMALL: dict[str, Any] = {"net": "cnn", "width": 0.25, "batch": 8, "scale": 0.04}
CPG = Config(**SMALL, goals=(0.0, 1.0), m_max=1.0, levels=(0.3, 0.6), least_train_accuracy=0.0, tasks=3, mask_lr=2e-3)
SHAPE = (16, 16, 3)


class Killed(Exception):
    """What a power cut is to a process."""


def teach(learner: SharedNet, tasks: list[Experience]) -> SharedNet:
    for one in tasks:
        learner.begin_task(one.task)
        learner.learn(one, 1)
        learner.end_task()
    return learner


def killed_after(epochs: int) -> Callable[[str, int, int], None]:
    left = iter(range(epochs))

    def progress(stage: str, done: int, total: int) -> None:
        if next(left, None) is None:
            raise Killed

    return progress


def answers(learner: SharedNet, tasks: list[Experience]) -> list[bytes]:
    return [learner.predict(one.test.x, one.task).tobytes() for one in tasks]


@pytest.mark.parametrize("epochs", [2, 5, 9, 12])
def test_a_killed_learning_goes_on_to_the_same_bits(epochs: int, tasks: list[Experience], tmp_path: Path) -> None:
    whole = teach(Cpg(SHAPE, 9, 0, CPG), tasks[:2])
    kept = replace(CPG, states=str(tmp_path))
    first = Cpg(SHAPE, 9, 0, kept)
    first.progress = killed_after(epochs)
    with pytest.raises(Killed):
        teach(first, tasks[:2])
    again = Cpg(SHAPE, 9, 0, kept)
    made = list[str]()
    again.progress = lambda stage, done, total: made.append(stage)
    teach(again, tasks[:2])
    assert answers(again, tasks[:2]) == answers(whole, tasks[:2])
    third = Cpg(SHAPE, 9, 0, kept)
    third.progress = killed_after(0)
    assert answers(teach(third, tasks[:2]), tasks[:2]) == answers(whole, tasks[:2]), "what was done is done again"


def test_what_a_finished_task_leaves_is_what_the_next_one_needs(tasks: list[Experience], tmp_path: Path) -> None:
    """A network of millions of weights for each phase would fill any disk."""
    kept = {"states": str(tmp_path)}
    teach(Cpg(SHAPE, 9, 0, replace(CPG, goals=(), goal="scratch", scale=0.01, **kept)), tasks[:1])
    teach(Independent(SHAPE, 9, 0, independent.Config(**{**SMALL, "scale": 0.01}, **kept)), tasks[:1])
    for kind in ("cpg", "independent"):
        left = sorted(path.name for path in tmp_path.glob(f"{kind}-*/*.safetensors"))
        assert left == [f"001-{name}.safetensors" for name in ("done", "own", "samples")], kind


@pytest.mark.parametrize("error", [OSError("no room"), MissingDependency("no matplotlib")])
def test_pictures_that_cannot_be_drawn_cost_no_learning(
    error: Exception, tasks: list[Experience], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(plots, "draw", fails)
    assert len(teach(Cpg(SHAPE, 9, 0, replace(CPG, states=str(tmp_path))), tasks[:1]).finished) == 1


def test_states_of_other_samples_are_refused(tasks: list[Experience], tmp_path: Path) -> None:
    kept = replace(CPG, states=str(tmp_path))
    teach(Cpg(SHAPE, 9, 0, kept), tasks[:1])
    with pytest.raises(StateError, match="other samples"):
        teach(Cpg(SHAPE, 9, 0, kept), tasks[1:2])


def test_a_missing_damaged_or_foreign_state_is_an_error(tmp_path: Path) -> None:
    states = States(tmp_path, "mine")
    states.put("a", {"x": np.arange(3.0)}, {"n": 1})
    assert "a" in states and states.get("a").facts == {"n": 1}
    with pytest.raises(StateError, match="missing"):
        states.get("b")
    with pytest.raises(StateError, match="another folder"):
        States(tmp_path, "yours").get("a")
    path = tmp_path / "a.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StateError, match="damaged"):
        states.get("a")
    path.write_bytes(whole[:40])
    with pytest.raises(StateError, match="cannot be read"):
        states.get("a")
    with pytest.raises(StateError, match="missing"):
        States(None, "mine").get("a")


def test_a_phase_does_not_start_from_nothing() -> None:
    learner = Cpg(SHAPE, 9, 0, CPG)
    with pytest.raises(StateError, match="001-done"):
        learner.job.phase("002-A-1", "001-done", lambda state: state)


def test_every_level_prunes_however_few_steps_there_are() -> None:
    assert ramp(Config(), 79) == (316, 10)
    for steps in range(1, 80):
        last, every = ramp(Config(), steps)
        done = masks.events(last, every)
        assert done and masks.rate(done[-1], last, 0.2, 0.3) > 0.29, f"{steps} steps an epoch give nothing back"


def test_a_step_is_what_the_straight_through_pick_says(tasks: list[Experience]) -> None:
    """The same three steps with `pick`, autograd and masks."""
    config = replace(CPG, augment=False)
    learner = Cpg(SHAPE, 9, 0, config)
    teach(learner, tasks[:1])
    data = prepare(tasks[1], config, 0)
    start = replace(learner.state, owners={n: np.where(o == 0, 2, o).astype(np.uint8) for n, o in learner.state.owners.items()})
    head = {"weight": np.full((3, learner.job.network(1.0).features), 0.1, np.float32), "bias": np.zeros(3, np.float32)}
    start = replace(start, head=head).fresh_scores()
    work = Work(learner.job.network(1.0), start, 2, config)
    work.train(data, Schedule(1, 0.01, (), 2e-3), np.random.default_rng(1))
    found = work.state(0, 0)

    net = learner.job._fresh(1.0)
    net.load({**start.weights, **start.private})
    weights = net.weights
    scores = {n: torch.full(w.shape, 0.01, requires_grad=True) for n, w in weights.items()}
    own = {n: torch.from_numpy(o == 2) for n, o in start.owners.items()}
    mine = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in head.items()}
    private = [v for v in net.private.values() if v.requires_grad]
    sgd = torch.optim.SGD([*weights.values(), *private, *mine.values()], 0.01, momentum=0.9, nesterov=True)
    adam = torch.optim.Adam(list(scores.values()), 2e-3)
    net.module.train()
    for x, y in epoch(data, config.batch, False, np.random.default_rng(1)):
        sgd.zero_grad()
        adam.zero_grad()
        chosen = {n: pick(w, scores[n]) for n, w in weights.items()}
        out = torch.func.functional_call(net.module, chosen, (x,)) @ mine["weight"].T + mine["bias"]
        torch.nn.functional.cross_entropy(out, y).backward()
        for n, w in weights.items():
            keep_own(w.grad, w.detach(), own[n], config.decay)
            keep_old(scores[n].grad, ~own[n])
        sgd.step()
        adam.step()
    for n, w in weights.items():
        np.testing.assert_allclose(found.weights[n], w.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(found.scores[n], scores[n].detach().numpy(), atol=1e-4)


def test_piggyback_leaves_the_backbone_as_it_is(tasks: list[Experience]) -> None:
    for mask in ("binary", "ternary"):
        learner = Piggyback(SHAPE, 9, 0, piggyback.Config(**SMALL, mask=mask, mask_lr=5e-3))
        teach(learner, tasks[:1])
        before, first = learner.state, answers(learner, tasks[:1])
        teach(learner, tasks[1:2])
        for group, after in ((before.weights, learner.state.weights), (before.private, learner.state.private)):
            assert all(value.tobytes() == after[name].tobytes() for name, value in group.items())
        own = learner.finished[1]
        assert answers(learner, tasks[:1]) == first and any(not bits.all() for bits in own.picks.values())
        assert bool(own.turned) == (mask == "ternary")


def test_packnet_prunes_the_share_that_each_form_says(tasks: list[Experience]) -> None:
    study = teach(PackNet(SHAPE, 9, 0, packnet.Config(**SMALL, least_train_accuracy=0.0)), tasks[:2])
    for owner in study.state.owners.values():
        assert abs((owner == 1).mean() - 0.4) < 0.02 and abs((owner == 2).mean() - 0.24) < 0.02
    original = teach(PackNet(SHAPE, 9, 0, packnet.Config(**SMALL, form="original", tasks=2)), tasks[:2])
    for owner in original.state.owners.values():
        assert abs((owner == 1).mean() - 0.5) < 0.02 and (owner == 0).sum() == 0, "the last task is not pruned"
    first, second = (own.private for own in original.finished)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first), "norms move after the first task"


def test_nothing_decays_after_pruning_in_the_original_form(tasks: list[Experience]) -> None:
    """The publication's decay is that of the first task's network alone; in the study's form there is one in both phases."""
    for form, differs in (("original", False), ("study", True)):
        learner = PackNet(SHAPE, 9, 0, packnet.Config(**SMALL, form=form, decay=0.0))
        data = prepare(tasks[0], learner.config, 0)
        learned = learner._learn(learner.job.start(), 1, data)
        other = PackNet(SHAPE, 9, 0, packnet.Config(**SMALL, form=form, decay=0.5))
        pruned, decayed = (one._prune(learned, 1, data, 0.5).weights for one in (learner, other))
        assert any((pruned[name] != decayed[name]).any() for name in pruned) == differs


def test_packnet_keeps_old_answers(tasks: list[Experience]) -> None:
    for form in ("study", "original"):
        learner = PackNet(SHAPE, 9, 0, packnet.Config(**SMALL, form=form))
        teach(learner, tasks[:1])
        first = answers(learner, tasks[:1])
        assert answers(teach(learner, tasks[1:]), tasks[:1]) == first


def test_the_goal_is_what_an_independent_network_reaches(tasks: list[Experience]) -> None:
    config = replace(CPG, goals=(), goal="scratch")
    learner = Cpg(SHAPE, 9, 0, config)
    alone = teach(Independent(SHAPE, 9, 0, independent.Config(**SMALL)), tasks[:1])
    data = prepare(tasks[0], config, 0)
    assert goals.goal_of(learner.job, 1, data, config) == round(alone.finished[0].accuracy, 4)


@pytest.mark.parametrize("right", range(1, 46))
def test_as_many_right_as_the_goals_network_had_meet_the_goal(right: int) -> None:
    """Goals are rounded to four decimals, up as often as down."""
    learner = Cpg(SHAPE, 9, 0, CPG)
    accuracy, goal = right / 45, round(right / 45, goals.DECIMALS)
    assert learner._meets(accuracy, goal, 1) and not learner._meets((right - 1) / 45, goal, 1)


def test_fine_goals_are_the_mean_and_the_best_of_five(tasks: list[Experience]) -> None:
    config = replace(CPG, goals=(), scale=0.01)
    learner = Cpg(SHAPE, 9, 0, config)
    for number, one in enumerate(tasks[:2], 1):
        data = prepare(one, config, 0)
        mean, best = (goals.goal_of(learner.job, number, data, replace(config, goal=g)) for g in ("fine_avg", "fine_max"))
        reached = [State.of(learner.job.states.get(f"{number:03d}-fine-{p}")).accuracy for p in range(goals.PASSES)]
        assert mean == pytest.approx(np.mean(reached), abs=1e-4) and best == pytest.approx(max(reached), abs=1e-4)


def test_decisions_leave_test_samples_alone_unless_they_are_asked_for(tasks: list[Experience]) -> None:
    empty = tasks[0].train[:0]
    without = replace(tasks[0], val=empty)
    data = prepare(without, CPG, 0)
    assert len(data.by_y) + len(data) == len(tasks[0].train) and len(data.by_y) == 3
    assert (prepare(without, replace(CPG, ref_select_on_test=True), 0).by == tasks[0].test.x).all()


def test_validation_samples_of_other_classes_decide_nothing(tasks: list[Experience]) -> None:
    other = replace(tasks[0], val=tasks[1].val)
    assert len(prepare(other, CPG, 0).by_y) == 3, "a part of the training samples, as where there are none"


def test_settings_out_of_range_are_refused(tasks: list[Experience]) -> None:
    nets = ({"net": "vgg"}, {"net": "resnet18"})  # the second cannot grow
    for bad in ({"levels": (0.5, 0.3)}, {"levels": (1.0,)}, {"goal": "best"}, {"m_max": 0.5}, {"tasks": 300}, *nets):
        with pytest.raises(ConfigError):
            Config(**bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="superclasses"):
        prepare(replace(tasks[0], name="cats"), Config(normalise="published"), 0)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeUnavailable, match="no GPU"):
            Cpg(SHAPE, 9, 0, replace(CPG, device="cuda"))
