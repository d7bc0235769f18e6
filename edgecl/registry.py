"""Names of methods, mappers and runtimes -> the code behind them, loaded on first use.

Listing the names loads nothing, so `edgecl --help` stays quick and a board without torch can still say what exists.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from edgecl.errors import UnknownName
from edgecl.text import printable

HEADS: Mapping[str, str] = {
    "linear": "edgecl.heads.linear",
    "bb": "edgecl.heads.bb",
    "clr": "edgecl.heads.clr",
    "cpg": "edgecl.heads.cpg",
    "memory": "edgecl.heads.memory_head",
}
# What can be asked to learn: the head methods, variants of them (method, options), and what chooses among them.
METHODS: Mapping[str, tuple[str, Mapping[str, str | bool]]] = {
    **{name: (module, {}) for name, module in HEADS.items()},
    "clr-full": (HEADS["clr"], {"variant": "full"}),
    "clr-mixed": (HEADS["clr"], {"variant": "mixed"}),
    "clr-gated": (HEADS["clr"], {"variant": "gated", "recipe": "paper"}),
    "bb-scrambled": (HEADS["bb"], {"scrambled": True, "recipe": "paper"}),
    "auto": ("edgecl.heads.auto", {}),
}
# Continual-learning methods, judged on streams.
LEARNERS: Mapping[str, str] = {
    "memory": "edgecl.learners.memory:MemoryLearner",
    "memory_head": "edgecl.learners.memory_head:MemoryHead",
    "cnu": "edgecl.learners.cnu:Cnu",
    "finetune": "edgecl.learners.baselines.finetune:FineTune",
    "joint": "edgecl.learners.baselines.joint:Joint",
    "er": "edgecl.learners.baselines.er:Er",
    "er_random": "edgecl.learners.baselines.er_random:ErRandom",
    "mir": "edgecl.learners.baselines.mir:Mir",
    "agem": "edgecl.learners.baselines.agem:Agem",
    "gdumb": "edgecl.learners.baselines.gdumb:Gdumb",
    "ensemble": "edgecl.learners.baselines.ensemble:Ensemble",
    "ncm": "edgecl.learners.baselines.ncm:Ncm",
    "slda": "edgecl.learners.baselines.slda:Slda",
    "ranpac": "edgecl.learners.baselines.ranpac:Ranpac",
    "cpg": "edgecl.learners.cpg.cpg:Cpg",
    "packnet": "edgecl.learners.cpg.packnet:PackNet",
    "piggyback": "edgecl.learners.cpg.piggyback:Piggyback",
    "pae": "edgecl.learners.cpg.pae:Pae",
    "independent": "edgecl.learners.cpg.independent:Independent",
}
# The orders that a data set's samples may come in: (dataset, seed, options) -> Stream.
SCENARIOS: Mapping[str, str] = {
    "iid": "edgecl.streams.scenarios.iid:iid",
    "ci": "edgecl.streams.scenarios.ci:ci",
    "cdi": "edgecl.streams.scenarios.cdi:cdi",
    "cdid": "edgecl.streams.scenarios.cdid:cdid",
    "class": "edgecl.streams.scenarios.class_incremental:class_incremental",
    "domain": "edgecl.streams.scenarios.domain_incremental:domain_incremental",
    "task": "edgecl.streams.scenarios.task_incremental:task_incremental",
    "superclass": "edgecl.streams.scenarios.superclass:superclass",
    "blurry": "edgecl.streams.scenarios.blurry:blurry",
    "drift": "edgecl.streams.scenarios.drift:drift",
    "permuted": "edgecl.streams.scenarios.permuted:permuted",
    "rotated": "edgecl.streams.scenarios.rotated:rotated",
}
MAPPERS: Mapping[str, str] = {
    "mahalanobis": "edgecl.mapping.mahalanobis:Mahalanobis",
    "gmmc": "edgecl.mapping.gmmc:Gmmc",
    "mahalanobis-paper": "edgecl.mapping.paper:MahalanobisPaper",
    "gmmc-paper": "edgecl.mapping.paper:GmmcPaper",
}
DEFAULT_MAPPERS = ("mahalanobis", "gmmc")  # every bundle carries an anchor for each, so that any device can use it
RUNTIMES: Mapping[str, str] = {
    "onnxruntime": "edgecl.rom.ort:OrtRom",
    "pytorch": "edgecl.rom.pytorch:PytorchRom",
    "tensorrt": "edgecl.rom.trt:TrtRom",
}
CUDA_ONLY = ("tensorrt",)  # runtimes without a CPU side


def check(kind: str, names: Collection[str], name: str) -> None:
    """Raise UnknownName unless `name` is one of `names`; the message lists them and the nearest match. Loads nothing.

    kind: the word for the message, such as "head method".
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UnknownName(f"there is no {kind} '{printable(name, 60)}'{hint} Known: {', '.join(sorted(names))}")


def load(kind: str, names: Mapping[str, str], name: str) -> Any:
    """The module or class behind `name`. Raises UnknownName as `check` does."""
    check(kind, names, name)
    module, _, attribute = names[name].partition(":")
    loaded: ModuleType = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
