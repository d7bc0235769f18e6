"""PackNet: each task takes what is free, prunes at once, and uses all that older tasks own. In two forms.

study: as the baseline on CIFAR-100 of Hung et al., NeurIPS 2019: every task prunes the same share of the space that it has, and
has batch norm and biases of its own. original: Mallya and Lazebnik, PackNet, CVPR 2018: the share is of the task's own weights,
batch norm and biases stay as the first task left them, the last task is not pruned, the best epoch counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from edgecl.learners.cpg import compacting
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.goals import ALONE
from edgecl.learners.cpg.learning import learn, released
from edgecl.learners.cpg.settings import Base, Schedule
from edgecl.learners.cpg.shared_net import Developed, SharedNet
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import State
from edgecl.learners.cpg.training import Work
from edgecl.learners.parts.settings import one_of, real, whole

FIRST = ALONE  # the study's for every task
LATER = Schedule(20, 1e-3, (10,))  # the original's
_PHASE = 1


@dataclass(frozen=True)
class Config(Base):
    """The published settings of either form."""

    form: str = "study"  # or original
    share: float = 0.6  # pruned, study
    first_share: float = 0.5  # pruned of the first task's weights, original
    later_share: float = 0.75  # of later tasks' own weights, original
    tasks: int = 20  # original: the last is not pruned
    least_train_accuracy: float = 0.97  # study: below it after pruning, the task stays unpruned

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("form", self.form, ("study", "original"))
        for name in ("share", "first_share", "later_share", "least_train_accuracy"):
            real(name, getattr(self, name), 0, 1)
        whole("tasks", self.tasks, 1)


class PackNet(SharedNet):
    """Two phases a task: learning, and pruning with what follows it."""

    kind: ClassVar[str] = "packnet"
    config: Config

    @classmethod
    def stages(cls, config: Any, task: int) -> list[Stage]:
        study, first = config.form == "study", task == 1
        found = []
        if not (first and config.pretrained):
            schedule = FIRST if study or first else LATER
            found.append(Stage("learning", schedule.scaled(config.scale).epochs, judged=not (study or first)))
        if study or task < config.tasks:
            found.append(Stage("after pruning", _after(study, task).scaled(config.scale).epochs, judged=not study))
        return found

    def _develop(self, task: int, data: TaskData) -> Developed:
        learned, pruned = f"{task:03d}-A-1", f"{task:03d}-B"
        study = self.config.form == "study"
        state = self.job.phase(learned, self.before(task), lambda before: self._learn(before, task, data))
        records = {0.0: state.accuracy}
        level = self.config.share if study else self.config.first_share if task == 1 else self.config.later_share
        if (study or task < self.config.tasks) and state.own(task) > 0:
            after = self.job.phase(pruned, learned, lambda before: self._prune(before, task, data, level))
            records[level] = after.accuracy
            if not study or after.train_accuracy > self.config.least_train_accuracy:
                return Developed(after, {}, {}, level=level, records=records)
        return Developed(state, {}, {}, records=records)

    def _learn(self, before: State, task: int, data: TaskData) -> State:
        config = self.config
        if config.form == "study" or task == 1:
            schedule = FIRST.scaled(config.scale)
            return learn(self.job, before, task, data, before.multiplier, schedule, picks=False)
        schedule = LATER.scaled(config.scale)
        state = released(self.job, before, task, data, before.multiplier)
        work = Work(self.job.network(before.multiplier), state, task, replace(config, decay=0.0), train_private=False)
        draw = self.job.numpy(_PHASE, task)
        return compacting.trained(self.job, work, data, schedule, draw, "learning a task", best_from=0)

    def _prune(self, before: State, task: int, data: TaskData, share: float) -> State:
        study = self.config.form == "study"
        schedule = _after(study, task)
        return compacting.at_once(
            self.job,
            before,
            task,
            data,
            schedule.scaled(self.config.scale),
            share,
            own_pool=not study,
            train_private=study or task == 1,
            keep_best=not study,
            decay=self.config.decay if study else 0.0,
        )

    def _phases(self, task: int) -> list[str]:
        return [f"{task:03d}-A-1", f"{task:03d}-B"]


def _after(study: bool, task: int) -> Schedule:
    return Schedule(30, 1e-3, (25,)) if study else Schedule(10, 1e-4, (5,) if task == 1 else ())
