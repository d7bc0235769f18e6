"""What must hold exactly in every phase of CPG: three tasks on a small CNN, one growth, decay and momentum on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.heads.parts import masks
from edgecl.learners.cpg.compacting import ramp
from edgecl.learners.cpg.cpg import Config, Cpg
from edgecl.learners.cpg.pae import Config as PaeConfig
from edgecl.learners.cpg.pae import Pae
from edgecl.learners.cpg.shared_net import SharedNet
from edgecl.learners.cpg.state import Finished, State
from edgecl.learners.cpg.states import Kept, States
from edgecl.streams.base import Experience

# The second task has a goal that nothing reaches, so the network grows there and the task prunes at the cap.
GROWS = Config(
    net="cnn",
    width=0.25,
    batch=8,
    scale=0.05,
    goals=(0.0, 1.0, 0.0),
    levels=(0.3, 0.6),
    least_train_accuracy=0.0,
    tasks=4,
    mask_lr=2e-3,  # so that picks turn over within few steps
)


class Remembering(States):
    """States that also remember everything that was ever put, in order."""

    def __init__(self) -> None:
        super().__init__(None, "")
        self.put_so_far: list[tuple[str, State]] = []

    def put(self, name: str, arrays: Any, facts: Any) -> None:
        super().put(name, arrays, facts)
        if any(key.startswith("weight|") for key in arrays):
            self.put_so_far.append((name, State.of(Kept(dict(arrays), facts))))


def teach(learner: SharedNet, tasks: list[Experience]) -> SharedNet:
    for one in tasks:
        learner.begin_task(one.task)
        learner.learn(one, 1)
        learner.end_task()
    return learner


def new(config: Config = GROWS, kind: type[Cpg] = Cpg) -> Cpg:
    return kind((16, 16, 3), 9, 0, config)


@pytest.fixture(scope="module")
def learned(tasks: list[Experience]) -> tuple[Cpg, list[tuple[str, State]], list[bytes]]:
    """The learner, all states in order, and what each task answered when it was finished."""
    learner = new()
    states = learner.job.states = Remembering()
    answers = []
    for one in tasks:
        teach(learner, [one])
        answers.append(learner.logits(learner.finished[-1], one.test.x).tobytes())
    return learner, states.put_so_far, answers


def of_task(states: list[tuple[str, State]]) -> list[tuple[int, str, State]]:
    return [(int(name[:3]), name[4:], state) for name, state in states]


def test_the_run_has_every_phase_and_grows_once(learned: Any) -> None:
    learner, states, _ = learned
    assert {name for name, _ in states} >= {
        *("001-A-1", "001-B-0.3", "001-B-0.6", "001-done"),
        *("002-A-1", "002-A-1.5", "002-B-0.3", "002-C", "003-A-1.5", "003-C", "003-done"),
    }
    assert [own.multiplier for own in learner.finished] == [1.0, 1.5, 1.5]
    assert any(not bits.all() for bits in learner.finished[1].picks.values()), "no pick was ever dropped"


def test_old_answers_stay_bit_identical_after_every_phase(learned: Any, tasks: list[Experience]) -> None:
    learner, states, answers = learned
    for task, name, state in of_task(states):
        for own, before, one in zip(learner.finished[: task - 1], answers, tasks, strict=False):
            net = learner.job.network(own.multiplier)
            shapes = {n: tuple(w.shape) for n, w in net.weights.items()}
            learner._loaded = own.number, {**own.weights(state.weights, state.owners, shapes), **own.private}
            assert learner.logits(own, one.test.x).tobytes() == before, f"task {own.number} after {task}-{name}"
    learner._loaded = None


def test_weights_of_others_never_move_and_owners_change_only_as_they_may(learned: Any) -> None:
    _, states, _ = learned
    done: dict[int, State] = {}
    for task, name, state in of_task(states):
        if task > 1:
            for layer, owner in done[task - 1].owners.items():
                held = owner != masks.FREE
                corner = masks.corner(state.owners[layer], owner.shape)
                assert (corner[held] == owner[held]).all() and set(np.unique(corner[~held])) <= {0, task}
                weight, before = masks.corner(state.weights[layer], owner.shape), done[task - 1].weights[layer]
                assert weight[held].tobytes() == before[held].tobytes(), f"{layer} in {task}-{name}"
        if name == "done":
            done[task] = state


def test_a_task_only_loses_weights_while_it_prunes(learned: Any) -> None:
    _, states, _ = learned
    for (task, _, before), (other, name, after) in pairwise(of_task(states)):
        if task == other and name.startswith("B"):
            for layer, owner in after.owners.items():
                assert not ((owner == task) & (before.owners[layer] != task)).any()


def test_scores_of_what_may_not_be_picked_stay_at_their_start(learned: Any) -> None:
    _, states, _ = learned
    seen = 0
    for task, _, state in of_task(states):
        for layer, scores in state.scores.items():
            others = masks.old(state.owners[layer], task)
            assert (scores[~others] == np.float32(0.01)).all()
            seen += int((scores[others] != np.float32(0.01)).sum())
    assert seen, "no score ever moved"


def test_free_weights_are_zero_and_pruning_reaches_its_rate(learned: Any, tasks: list[Experience]) -> None:
    _, states, _ = learned
    last, every = ramp(GROWS, -(-len(tasks[0].train) // GROWS.batch))
    for task, name, state in of_task(states):
        for layer, owner in state.owners.items():
            weight = state.weights[layer]
            assert (weight[owner == masks.FREE] == 0).all()
            if name.startswith("B"):
                level = float(name[2:])
                start = {0.3: 0.0, 0.6: 0.3}[level]
                rate = masks.rate(masks.events(last, every)[-1], last, start, level)
                free, space = int((owner == 0).sum()), int(((owner == 0) | (owner == task)).sum())
                # Equality, for these weights have no ties; a level that would keep fewer free ones than there are adds none.
                assert free == max(round(rate * space), 0), f"{layer} in {task}-{name}"


def test_growth_keeps_the_leading_corner(learned: Any) -> None:
    learner, states, _ = learned
    before = next(state for name, state in states if name == "001-done")
    after = learner.job.grown(before, 1.5)
    for name, weight in before.weights.items():
        assert masks.corner(after.weights[name], weight.shape).tobytes() == weight.tobytes()
        assert (masks.corner(after.owners[name], weight.shape) == before.owners[name]).all()
        assert int((after.owners[name] != 0).sum()) == int((before.owners[name] != 0).sum()), "what is new is not free"
    for name, value in before.private.items():
        assert masks.corner(after.private[name], value.shape).tobytes() == value.tobytes()
        fresh = 1.0 if name.endswith(("running_var", "weight")) else 0.0
        assert (after.private[name][len(value) :] == fresh).all()


def test_without_learning_picks_it_is_pae_step_for_step(tasks: list[Experience]) -> None:
    """Phases with scores that Adam moves by less than a bit, and PAE, which has no scores."""
    same = {"goals": (0.0, 1.0, 0.0), "m_max": 1.5, "repick": False}
    plain = replace(GROWS, **same, mask_lr=1e-30)
    assert plain.picks and not PaeConfig().picks
    pae = PaeConfig(**{f: getattr(plain, f) for f in ("net", "width", "batch", "scale", "levels", "tasks")}, **same)
    pae = replace(pae, least_train_accuracy=0.0)
    first, second = teach(new(plain), tasks), teach(new(pae, Pae), tasks)
    assert first.finished[2].picks and all(bits.all() for bits in first.finished[2].picks.values())
    assert not second.finished[2].picks
    for layer, weight in first.state.weights.items():
        assert (weight == second.state.weights[layer]).all()
        assert (first.state.owners[layer] == second.state.owners[layer]).all()
    assert first.predict(tasks[2].test.x, 2).tobytes() == second.predict(tasks[2].test.x, 2).tobytes()


def test_packed_bits_bring_the_same_answers_back(learned: Any, tasks: list[Experience], tmp_path: Path) -> None:
    learner, _, answers = learned
    states = States(tmp_path, "key")
    for own, before, one in zip(learner.finished, answers, tasks, strict=True):
        kept = own.to_kept()
        states.put("own", kept.arrays, kept.facts)
        again = Finished.of(states.get("own"))
        learner._loaded = None
        assert learner.logits(again, one.test.x).tobytes() == before
        bits = sum(kept.arrays[name].nbytes for name in kept.arrays if name.startswith("picks|"))
        assert bits == sum(-(-b.size // 8) for b in own.picks.values())


def test_what_is_used_says_as_much_as_owners_and_picks(learned: Any) -> None:
    """The one-bit form of section 12."""
    learner, _, _ = learned
    for own in learner.finished:
        shapes = {n: tuple(w.shape) for n, w in learner.job.network(own.multiplier).weights.items()}
        found = own.weights(learner.state.weights, learner.state.owners, shapes)
        for name, shape in shapes.items():
            owner, weight = masks.corner(learner.state.owners[name], shape), masks.corner(learner.state.weights[name], shape)
            picked = own.picks.get(name, np.ones(shape, bool))
            factor = ((owner >= 1) & (owner <= own.number) & (picked | (owner == own.number))).astype(np.float32)
            assert (found[name] == weight * factor).all()
