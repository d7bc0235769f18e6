"""Independent networks: one for each task, from scratch. What sharing is held against."""

from __future__ import annotations

from typing import Any, ClassVar

from edgecl.learners.cpg import goals
from edgecl.learners.cpg.data import TaskData
from edgecl.learners.cpg.settings import Base
from edgecl.learners.cpg.shared_net import Developed, SharedNet
from edgecl.learners.cpg.stages import Stage
from edgecl.learners.cpg.state import Finished, State
from edgecl.types import Arrays

Config = Base


class Independent(SharedNet):
    """A network a task, trained as CPG's goal "scratch" is."""

    kind: ClassVar[str] = "independent"

    @classmethod
    def stages(cls, config: Any, task: int) -> list[Stage]:
        return [Stage("learning", goals.ALONE.scaled(config.scale).epochs)]

    def _develop(self, task: int, data: TaskData) -> Developed:
        return Developed(goals.alone(self.job, task, data, self.config), {}, {})

    def _weights(self, own: Finished, shapes: dict[str, tuple[int, ...]]) -> Arrays:
        return State.of(self.job.states.get(f"{own.number:03d}-done")).weights

    def _phases(self, task: int) -> list[str]:
        return [f"{task:03d}-scratch"]

    def nbytes(self) -> int:
        weights = sum(w.nbytes for w in self.state.weights.values())
        return max(len(self.finished), 1) * weights + sum(own.nbytes for own in self.finished)

    def _draw(self) -> None:
        """Nothing: no weight is shared, pruned or free."""
