"""What is drawn of a learning says what its owner maps say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.heads.parts import masks
from edgecl.learners.cpg import plots
from edgecl.learners.cpg.independent import Config as Alone
from edgecl.learners.cpg.independent import Independent
from edgecl.learners.cpg.packnet import Config, PackNet
from edgecl.streams.base import Experience


def teach(learner: Any, tasks: list[Experience]) -> Any:
    for one in tasks:
        learner.begin_task(one.task)
        learner.learn(one, 1)
        learner.end_task()
    return learner


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return {"net": "cnn", "width": 0.25, "batch": 8, "scale": 0.02}


def test_capacity_is_what_the_owner_maps_count(small: dict[str, Any], tasks: list[Experience], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install 'edgecl[report]'")
    learner = PackNet((16, 16, 3), 9, 0, Config(**small, least_train_accuracy=0.0, states=str(tmp_path)))
    found = plots.capacity(teach(learner, tasks).finished)
    owners = np.concatenate([owner.ravel() for owner in learner.state.owners.values()])
    assert found["its own"] == pytest.approx([(owners == task).mean() for task in (1, 2, 3)])
    assert found["free"][-1] == pytest.approx((owners == masks.FREE).mean())
    assert found["older, picked"] == pytest.approx([(np.isin(owners, range(1, task))).mean() for task in (1, 2, 3)])
    assert found["older, not picked"] == [0, 0, 0], "PackNet uses all that is older"
    assert {path.name for path in tmp_path.glob("*/*.png")} == {"capacity.png", "levels.png"}


def test_networks_of_their_own_have_no_capacity_to_draw(small: dict[str, Any], tasks: list[Experience], tmp_path: Path) -> None:
    teach(Independent((16, 16, 3), 9, 0, Alone(**small, states=str(tmp_path))), tasks[:1])
    assert not list(tmp_path.glob("*/*.png"))
