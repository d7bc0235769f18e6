"""CPG, PAE, PackNet and independent networks on the twenty superclasses of CIFAR-100, decisions by test samples as published.

The published runs are one each; their standard error is near 1.8 points a task, so the mean of twenty is judged within 1 point.
A full run takes days without a GPU (one is used where it is there); it goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecl.reproduce.base import Cell, Claim, Row

SOURCE = "Hung et al., NeurIPS 2019, Table 1"
_PUBLISHED = {"net": "vgg16_bn", "normalise": "published", "ref_select_on_test": True, "device": "auto"}
_SHORT = {"width": 0.0625, "scale": 0.02}  # so few epochs teach next to nothing: that it runs is all they show


def _cell(name: str, learner: str, options: Mapping[str, Any], accuracy: float, short: Mapping[str, Any]) -> Cell:
    claim = Claim(accuracy, SOURCE, within=0.01)
    return Cell(name, learner, {**_PUBLISHED, **options}, "", "superclass", claim, (0,), short={**_SHORT, **short})


_UNJUDGED = {"least_train_accuracy": 0.0}

ROWS = (
    Row(
        "cpg/cifar100-20",
        "Twenty superclasses of CIFAR-100, VGG16 with batch norm",
        (
            _cell("CPG, goals fine-Avg", "cpg", {"goal": "fine_avg"}, 0.809, {**_UNJUDGED, "goal": "scratch"}),
            _cell("CPG, goals fine-Max", "cpg", {"goal": "fine_max"}, 0.812, {**_UNJUDGED, "goal": "scratch"}),
            _cell("PAE", "pae", {}, 0.771, {**_UNJUDGED, "goal": "scratch"}),
            _cell("PackNet, 60 % pruned", "packnet", {}, 0.675, _UNJUDGED),
            _cell("independent networks", "independent", {}, 0.788, {}),
        ),
        needs="all of CIFAR-100: --data cifar100:FOLDER, where cifar-100-python/ lies in FOLDER",
    ),
)
