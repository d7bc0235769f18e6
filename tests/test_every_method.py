"""Each registered name x each check that fits its kind; and all of them together on a device, on pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecl import registry
from edgecl.checks import heads, mappers, roms
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom

OPTIONS = {  # recipes of a method that are checked like methods of their own
    "linear": ({}, {"recipe": "paper", "epochs": 60, "learning_rate": 3e-2}),
    "bb": ({"epochs": 1, "sockets": "last:4"},),
    "cpg": ({"epochs": 1, "sockets": "last:5"},),
    "clr": ({"epochs": 1, "sockets": "last:5"},),  # the fifth from the end has a 3x3 kernel
}
SHORT = {  # an epoch of a long recipe: too little to be right with
    "bb": ({"recipe": "paper", "epochs": 1},),
    "clr": ({"recipe": "paper", "epochs": 1}, {"epochs": 1, "sockets": "last:5", "variant": "mixed"}),
}
MONOTONE = ("gmmc", "gmmc-paper")  # Mahalanobis is not: its covariance is everyone's


def ids(value: object) -> str | None:
    return getattr(value, "__name__", None) or str(value)


@pytest.fixture(scope="module")
def reference(tiny_rom: Path) -> Rom:
    with open_rom(tiny_rom, "pytorch", threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "options", "check"),
    [(n, o, check) for n in registry.HEADS for o in OPTIONS.get(n, ({},)) for check in heads.CHECKS + heads.ACCURATE]
    + [(n, o, check) for n, some in SHORT.items() for o in some for check in heads.CHECKS],
    ids=ids,
)
def test_head_method(name: str, options: dict, check: heads.Check, rom: Rom) -> None:
    check(registry.load("head method", registry.HEADS, name), rom, options)


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in registry.MAPPERS for check in mappers.CHECKS]
    + [(name, check) for name in registry.DEFAULT_MAPPERS for check in mappers.CALIBRATED]
    + [(name, check) for name in MONOTONE for check in mappers.MONOTONE],
    ids=ids,
)
def test_mapper(name: str, check: mappers.Check) -> None:
    check(registry.load("mapper", registry.MAPPERS, name))


@pytest.mark.parametrize("check", roms.CHECKS, ids=ids)
@pytest.mark.parametrize(
    ("name", "on"),
    [(name, "cpu") for name in registry.RUNTIMES if name not in registry.CUDA_ONLY]
    + [pytest.param(name, "cuda", marks=pytest.mark.gpu) for name in registry.RUNTIMES],
)
def test_runtime(
    name: str, on: str, check: roms.Check, tiny_rom: Path, reference: Rom, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp() / f"sessions-{name}-{on}"  # opening again must not build again
    check(lambda: open_rom(tiny_rom, name, on, threads=1, cache=cache), reference)


def test_every_check_is_listed() -> None:
    for module, listed in (
        (heads, heads.CHECKS + heads.ACCURATE),
        (mappers, mappers.CHECKS + mappers.CALIBRATED + mappers.MONOTONE),
        (roms, roms.CHECKS),
    ):
        assert {name for name in vars(module) if name.startswith("check_")} == {check.__name__ for check in listed}


@pytest.mark.parametrize("mapper", registry.MAPPERS)
def test_device_answers_for_real_pictures_with_each_mapper(mapper: str, device, pictures_task) -> None:
    """Three tasks learned from JPEG and PNG; then test pictures, without saying which task they are of."""
    edge = device(mapper=mapper, threads=1, false_reject=0.02)
    for task, folder in pictures_task.items():
        edge.learn(task, folder)
    files = [path for folder in pictures_task.values() for path in sorted((folder / "test").glob("*/*"))]
    answers = edge.infer(files)
    assert np.mean([a.nearest_task == path.parents[2].name for a, path in zip(answers, files, strict=True)]) == 1
    assert np.mean([a.nearest_label == path.parent.name for a, path in zip(answers, files, strict=True)]) > 0.9
    assert np.mean([a.unknown is None for a in answers]) > 0.7
