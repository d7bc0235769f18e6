"""What we claim ourselves: defaults better than the published ones, and memory heads on the features of a ROM.

The defaults were chosen by the validation parts alone; what is held against the bounds are the test parts.
"""

from __future__ import annotations

from edgecl.reproduce.base import TEN_SEEDS, Cell, Claim, Row

_TASKS = "the folder of the 14 tasks, by --data, and a ROM image by --rom"
_SEEDS = (0, 1, 2)


def _features(name: str, learner: str, claim: Claim | None, seeds: tuple[int, ...] = _SEEDS) -> Cell:
    return Cell(name, learner, {}, "", "class", claim, seeds, figure="last")


def _beforehand(value: float) -> Claim:
    return Claim(value, "measured on the same features beforehand", "at least", 0.01)


ROWS = (
    Row(
        "memory-head/defaults",
        "One default configuration for both, ten seeds",
        tuple(
            Cell(f"{name}, {data.upper()} CDI", learner, {}, data, "cdi", Claim(least, "our target", "at least"), TEN_SEEDS)
            for name, learner in (("layer", "memory_head"), ("device's head", "memory"))
            for data, least in (("modes", 0.95), ("moons", 0.75))
        ),
    ),
    Row(
        "features/14-tasks",
        "14 tasks as one class-incremental stream of 142 classes: one pass, batch 1, features of the ROM, no task label",
        (
            _features("the device's memory head", "memory", Claim(0.80, "our target", "at least")),
            _features("nearest class mean", "ncm", _beforehand(0.758)),
            _features("streaming LDA", "slda", _beforehand(0.836)),
            _features("RanPAC", "ranpac", _beforehand(0.831)),
            _features("joint", "joint", _beforehand(0.825), (0,)),
            _features("the published layer", "memory_head", None, (0,)),
            _features("fine-tuned online", "finetune", None, (0,)),
            _features("experience replay", "er", None, (0,)),
        ),
        needs=_TASKS,
    ),
    Row(
        "memory-head/ns-imagenet",
        "Non-stationary mini-ImageNet: three domains of 100 classes, features of an ImageNet ResNet-18",
        (Cell("memory head", "memory", {}, "", "cdi", None),),
        needs="mini-ImageNet, 100 classes of 600 pictures, as --data ns:FOLDER, and a ROM of ResNet-18 by --rom; there was no "
        "figure of it to hold ours against",
    ),
)
