"""CPG: a task picks older weights, fills free ones, gives back what it does not need; the network grows where it must.

Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning, NeurIPS 2019. Departures: decisions are by
held-out samples (`ref_select_on_test`), accuracies are compared as goals are rounded (`ref_float32_goal`), picking again must
beat the chosen level (`ref_repick_baseline`), the width never passes `m_max`, and a missing state is an error.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from edgecl.heads.parts import masks
from edgecl.learners.cpg import compacting, goals
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.learning import learn
from edgecl.learners.cpg.repicking import repick
from edgecl.learners.cpg.settings import Config, at
from edgecl.learners.cpg.shared_net import Developed, SharedNet
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import State

__all__ = ["Config", "Cpg"]


class Cpg(SharedNet):
    """Phases A, B and C with growth in between; each is kept when it is done."""

    kind: ClassVar[str] = "cpg"
    config: Config

    @classmethod
    def stages(cls, config: Any, task: int) -> list[Stage]:
        found = goals.stages(config, task)
        picks = config.picks and task > 1
        if task > 1 or not config.pretrained:
            for wide in _widths(config):
                found.append(Stage("learning", config.learning(task).epochs, picks, config.plateau > 0, wide))
        by_hand = config.chosen[task - 1] if task <= len(config.chosen) else 1.0
        levels = sum(level <= by_hand for level in config.levels)
        found.append(Stage("pruning", levels * config.pruning(task).epochs, False, config.prune_best, config.m_max))
        if picks and config.repick:
            found.append(Stage("picking again", config.repicking.epochs, True, True, config.m_max))
        return found

    def _develop(self, task: int, data: TaskData) -> Developed:
        goal = goals.goal_of(self.job, task, data, self.config)
        learned_name, learned = self._learn_until_wide_enough(task, data, goal)
        at_cap = not self._meets(learned.accuracy, goal, task)
        records, names = {0.0: learned.accuracy}, {0.0: learned_name}
        owns = learned.own(task) > 0
        if owns:
            self._compact(task, data, at_cap, records, names)
        level = self._level(task, records, goal, at_cap)
        state = State.of(self.job.states.get(names[level]))
        if task > 1 and owns and self.config.repick and self.config.picks:
            name = f"{task:03d}-C"
            state = self.job.phase(name, names[level], lambda before: repick(self.job, before, task, data, self.config))
        picks = {name: masks.picked(scores) for name, scores in state.scores.items()}
        return Developed(state, picks, {}, goal, level, records)

    def _level(self, task: int, records: dict[float, float], goal: float, at_cap: bool) -> float:
        if task <= len(self.config.chosen):
            return max(level for level in records if level <= self.config.chosen[task - 1])
        met = {level: self._with_margin(accuracy, task) for level, accuracy in records.items()}
        return masks.choose_level(met, goal, at_cap)

    def _learn_until_wide_enough(self, task: int, data: TaskData, goal: float) -> tuple[str, State]:
        """Phase A, each attempt from the state after the task before; the last one counts."""
        config = self.config
        multiplier = self.state.multiplier
        while True:
            name = f"{task:03d}-A-{multiplier:g}"
            phase = partial(
                learn,
                self.job,
                task=task,
                data=data,
                multiplier=multiplier,
                schedule=config.learning(task),
                picks=config.picks,
                patience=config.plateau,
            )
            state = self.job.phase(name, self.before(task), phase)
            reached = self._is_learned(state) and self._meets(state.accuracy, goal, task)
            if reached or multiplier >= config.m_max:
                return name, state
            multiplier = min(multiplier + config.grow, config.m_max)

    def _compact(self, task: int, data: TaskData, at_cap: bool, records: dict[float, float], names: dict[float, str]) -> None:
        """Phase B: adds to `records` and `names` what each level reached, as long as the task stays learned."""
        config = self.config
        must = masks.must_free(task, max(config.tasks, task))
        by_hand = config.chosen[task - 1] if task <= len(config.chosen) else None
        for start, end in pairwise((0.0, *config.levels)):
            if start >= by_hand if by_hand is not None else at_cap and start >= must:
                return
            names[end] = f"{task:03d}-B-{end:g}"
            phase = partial(compacting.to_level, self.job, task=task, data=data, config=config, start=start, end=end)
            state = self.job.phase(names[end], names[start], phase)
            if not self._is_learned(state):
                return
            records[end] = state.accuracy

    def _is_learned(self, state: State) -> bool:
        least = self.config.least_train_accuracy
        return not least or state.train_accuracy > least

    def _meets(self, accuracy: float, goal: float, task: int) -> bool:
        return self._with_margin(accuracy, task) >= goal

    def _with_margin(self, accuracy: float, task: int) -> float:
        """What is held against a goal; an accuracy that misses it by exactly the margin fails, as published."""
        margin = at(self.config.margin, task)
        return self._seen_as(accuracy) + margin * (1 - 1e-9) if margin else self._seen_as(accuracy)

    def _seen_as(self, accuracy: float) -> float:
        """As goals have it: rounded like them, or 30 of 45, 0.66667, would miss a goal of 30 of 45, 0.6667."""
        return float(np.float32(accuracy)) if self.config.ref_float32_goal else round(accuracy, goals.DECIMALS)

    def _phases(self, task: int) -> list[str]:
        steps = [f"B-{level:g}" for level in self.config.levels]
        return [f"{task:03d}-{step}" for step in ("scratch", *(f"A-{m:g}" for m in _widths(self.config)), *steps, "C")]


def _widths(config: Config) -> list[float]:
    """All multipliers that it may come to."""
    widths = [1.0]
    while widths[-1] < config.m_max:
        widths.append(min(widths[-1] + config.grow, config.m_max))
    return widths
