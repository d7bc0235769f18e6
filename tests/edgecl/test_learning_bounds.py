"""Learning plugs within bounds of time and bytes, stopped by hand, cut off by power: a whole head comes of it, or none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl import EdgeDevice
from edgecl.checks import synthetic
from edgecl.errors import BankError, ConfigError
from edgecl.heads import bb
from edgecl.heads.base import Head, Session
from edgecl.heads.parts import crossfit, training
from edgecl.heads.parts.recipe import Recipe
from edgecl.rom.base import Rom
from edgecl.types import Task
from firmware_sim.faults import small_disk

SOCKETS, EPOCHS, REFRESH, PICTURES, TRAIN, VARIANTS = "last:5", 2, 3, 36, 30, 4
BELOW = PICTURES * (VARIANTS + 1)  # passes through the lower half, before the first epoch
OPTIONS = {"method": "clr", "sockets": SOCKETS}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two main epochs in place of fourteen."""
    monkeypatch.setattr(Recipe, "main_epochs", lambda self, pictures: EPOCHS)


@pytest.fixture
def stripes(pictures_task) -> Path:
    return pictures_task["stripes"]


class Stop:
    """A progress that raises once so many pictures have passed through the network."""

    def __init__(self, pictures: int, error: type[BaseException]) -> None:
        self.pictures, self.error = pictures, error

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "learning the plugs" and done >= self.pictures:
            raise self.error


class Cut(Exception):
    """The end of the process, as far as one test can have it."""


def same(a: Head, b: Head) -> bool:
    return a.settings == b.settings and set(a.arrays) == set(b.arrays) and all(
        np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays
    )  # fmt: skip


def threads() -> int:
    """Of PyTorch in this process, which other tests may have set."""
    from edgecl.rom.torch_compat import torch

    return int(torch.get_num_threads())


def left(home: Path) -> list[str]:
    """What a learning has left on disk besides the bank."""
    return sorted(path.name for path in (home / "learning").glob("*"))


# -- refused before the work


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"budget": 1e-3}, r"budget is spent before.*Nothing was changed"),
        ({"max_bytes": 5_000}, r"takes [\d,]+ bytes.*Nothing was changed"),
        ({"max_bytes": 28_000}, r"takes [\d,]+ bytes.*Nothing was changed"),
        ({"budget": 0}, "must be above 0"),
        ({"budget": -5.0}, "must be above 0"),
        ({"budget": float("nan")}, "must be above 0"),
        ({"max_bytes": 0}, "must be above 0"),
    ],
)
@pytest.mark.parametrize("method", ["bb", "clr"])
def test_a_bound_that_cannot_be_kept_is_refused_before_any_learning(
    method: str, bounds: dict, words: str, device, stripes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossfit, "learn", lambda *a, **b: pytest.fail("it began to learn"))
    edge: EdgeDevice = device(threads=1)
    with pytest.raises(ConfigError, match=words):
        edge.learn("stripes", stripes, method=method, sockets=SOCKETS, **bounds)
    assert edge.bank.current() == {} and left(edge.home) == []


def test_a_linear_head_and_auto_that_would_be_too_large_are_refused_too(device, stripes: Path) -> None:
    edge: EdgeDevice = device(threads=1)
    for method in ("linear", "auto"):
        with pytest.raises(ConfigError, match=r"bytes.*Nothing was changed"):
            edge.learn("stripes", stripes, method=method, max_bytes=5_000)
    assert edge.bank.current() == {}


def test_options_that_a_method_does_not_have_are_refused_by_name(device, stripes: Path) -> None:
    edge: EdgeDevice = device(threads=1)
    with pytest.raises(ConfigError, match="sockets"):
        edge.learn("stripes", stripes, method="linear", sockets="all")
    with pytest.raises(ConfigError, match="did you mean 'clr-full'"):
        edge.learn("stripes", stripes, method="clr-ful")
    with pytest.raises(ConfigError, match="recipe 'paper'"):
        edge.learn("stripes", stripes, method="bb", recipe="paper", budget=100)


# -- kept


def test_bounds_that_are_granted_are_kept(device, stripes: Path) -> None:
    told: list[tuple[int, int]] = []
    edge: EdgeDevice = device(threads=1)

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "learning the plugs":
            told.append((done, total))

    report = edge.learn("stripes", stripes, **OPTIONS, budget=600, max_bytes=40_000, progress=progress)
    assert report.method == "clr" and report.bytes == len(edge.export("stripes")) <= 40_000
    assert report.seconds["total"] < 600
    assert told == sorted(told) and told[-1][0] == told[-1][1] == BELOW + EPOCHS * TRAIN + REFRESH * PICTURES
    assert left(edge.home) == []
    stated = edge.bundle(report.digest).report
    assert stated["validation_accuracy"] == report.validation_accuracy
    assert stated["training"]["epochs"] == EPOCHS + REFRESH and not stated["training"]["stopped_early"]


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.pictures_task(rom, 3, 12)


@pytest.fixture
def overrun(rom: Rom, task: Task) -> Callable[[int], object]:
    """Learn with a clock that stands still until so many pictures have passed, and is far beyond the budget from then on."""

    def run(pictures: int) -> object:
        now = [0.0]

        def progress(stage: str, done: int, total: int) -> None:
            now[0] = 1e6 * (done >= pictures)

        session = Session(budget=10, clock=lambda: now[0], progress=progress)
        return bb.learn(task, rom, bb.Config(sockets="last:4"), None, session)

    return run


@pytest.mark.parametrize("kept", [True, False], ids=["views kept", "views computed again"])
@pytest.mark.parametrize("epoch", [1, EPOCHS], ids=["second epoch", "refreshing"])
def test_a_budget_that_runs_out_meanwhile_keeps_what_was_learned(
    epoch: int, kept: bool, overrun, rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:  # every step then passes through the lower half too, and so do the looks at what was learned
        monkeypatch.setattr(training, "VIEW_BYTES", 0)
    each = 1 if kept else 2
    looks = 0 if kept or epoch == 1 else PICTURES
    learned = overrun((BELOW if kept else 0) + each * int((epoch + 0.5) * TRAIN) + looks)
    assert learned.report["training"]["stopped_early"] and learned.report["training"]["epochs"] == epoch
    assert any(value.any() for value in learned.head.plugs.shift.values())
    assert np.isfinite(learned.head.answer(rom, list(task.pictures))).all()


@pytest.mark.parametrize("pictures", [20, BELOW + 16], ids=["at the views", "in the first epoch"])
def test_a_budget_that_runs_out_before_the_first_epoch_is_an_error(pictures: int, overrun) -> None:
    with pytest.raises(ConfigError, match="leaves no time for a first epoch"):
        overrun(pictures)


# -- Ctrl-C


def test_ctrl_c_keeps_the_best_so_far_and_commits_it(device, stripes: Path) -> None:
    said: list[str] = []
    edge: EdgeDevice = device(threads=1, say=said.append)
    report = edge.learn("stripes", stripes, **OPTIONS, progress=Stop(BELOW + TRAIN + 10, KeyboardInterrupt))
    assert (
        edge.bundle(report.digest).report["training"] | {"epochs": 1, "stopped_early": True}
        == (edge.bundle(report.digest).report["training"])
    )
    assert any("best so far is kept" in line for line in said) and left(edge.home) == []
    assert edge.infer([next((stripes / "test").glob("*/*"))])[0].nearest_task == "stripes"


def test_ctrl_c_before_the_first_epoch_leaves_the_bank_as_it_was(device, stripes: Path) -> None:
    edge: EdgeDevice = device(threads=1)
    for moment in (10, BELOW + 10):
        with pytest.raises(KeyboardInterrupt):
            edge.learn("stripes", stripes, **OPTIONS, progress=Stop(moment, KeyboardInterrupt))
    assert edge.bank.current() == {} and left(edge.home) == []


# -- cut off, and gone on with


@pytest.fixture
def whole(device, stripes: Path, tmp_path: Path) -> Head:
    """What a learning that nothing interrupts gives."""
    edge: EdgeDevice = device(tmp_path / "whole", threads=1)
    edge.learn("stripes", stripes, **OPTIONS)
    return edge.head("stripes")


@pytest.mark.parametrize("moment", [BELOW + TRAIN + 10, BELOW + EPOCHS * TRAIN + PICTURES + 10], ids=["main", "refresh"])
def test_a_learning_that_was_cut_off_goes_on_to_the_same_head(moment: int, device, stripes: Path, whole: Head) -> None:
    said: list[str] = []
    edge: EdgeDevice = device(threads=1, say=said.append)
    with pytest.raises(Cut):
        edge.learn("stripes", stripes, **OPTIONS, progress=Stop(moment, Cut))
    assert edge.bank.current() == {} and left(edge.home) == ["stripes.safetensors"]
    edge.learn("stripes", stripes, **OPTIONS, resume=True)
    assert any("going on from the state on disk" in line for line in said)
    assert same(edge.head("stripes"), whole) and left(edge.home) == []


def test_a_state_is_not_taken_up_unasked_nor_for_another_learning(device, stripes: Path, whole: Head) -> None:
    said: list[str] = []
    edge: EdgeDevice = device(threads=1, say=said.append)
    for _ in range(2):
        with pytest.raises(Cut):
            edge.learn("stripes", stripes, **OPTIONS, seed=1, progress=Stop(BELOW + TRAIN + 10, Cut))
    assert any("--resume would have gone on" in line for line in said)
    edge.learn("stripes", stripes, **OPTIONS, resume=True)  # another seed
    assert any("no state on disk to go on from" in line for line in said)
    assert same(edge.head("stripes"), whole)


def test_a_disk_that_is_full_meanwhile_loses_nothing(device, stripes: Path, pictures_task, whole: Head) -> None:
    edge: EdgeDevice = device(threads=1)
    edge.learn("old", pictures_task["colours"])
    before = edge.bank.current()
    place = edge.home / "learning"
    place.mkdir(exist_ok=True)
    with small_disk(place, 1 << 14) as how:
        if how != "tmpfs":
            pytest.skip("a small disk needs the right to mount one")
        with pytest.raises(BankError, match=r"cannot be kept.*space"):
            edge.learn("stripes", stripes, **OPTIONS)
        assert edge.bank.current() == before and left(edge.home) == []
        assert edge.infer([next((pictures_task["colours"] / "test").glob("*/*"))])[0].nearest_task == "old"
    edge.learn("stripes", stripes, **OPTIONS)  # there is room again
    assert same(edge.head("stripes"), whole)


CHILD = f"""
import os, signal, sys
from edgecl import EdgeDevice
from edgecl.heads.parts.recipe import Recipe
from firmware_sim import faults
home, rom, data, kind, moment = sys.argv[1:]
Recipe.main_epochs = lambda self, pictures: {EPOCHS}
device = EdgeDevice(home, rom=rom, threads=1, feature_cache_mb=0)
device.rom
import edgecl.heads.parts.training
armed = []
def progress(stage, done, total):
    if kind == "byte" and stage == "learning the plugs" and not armed:  # the caches are written before that
        armed.append(faults.cut_at_byte(int(moment)).arm())
    if kind == "kill" and stage == "learning the plugs" and done >= int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
device.learn("stripes", data, method="clr", sockets="{SOCKETS}", progress=progress)
"""


@pytest.mark.parametrize(
    ("kind", "moment", "signalled"),
    [("kill", BELOW + TRAIN + 10, signal.SIGKILL), ("byte", 30_000, signal.SIGXFSZ)],
    ids=["in the second epoch", "while the state is written"],
)
def test_a_process_that_is_killed_loses_at_most_an_epoch(
    kind: str, moment: int, signalled: signal.Signals, device, home: Path, tiny_rom: Path, stripes: Path, whole: Head
) -> None:
    """A torn state never takes the place of a whole one; the learning goes on to the same bits, in another process."""
    EdgeDevice(home, rom=tiny_rom).close()
    arguments = [str(home), str(tiny_rom), str(stripes), kind, str(moment)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": str(threads())},  # a state belongs to its number of threads
    )
    assert done.returncode == -signalled, done.stderr
    (state,) = left(home)
    assert re.fullmatch({"kill": r"stripes\.safetensors", "byte": r"\.stripes\.safetensors-\w+\.part"}[kind], state)
    said: list[str] = []
    edge: EdgeDevice = device(threads=1, say=said.append)
    assert edge.bank.current() == {}
    edge.learn("stripes", stripes, **OPTIONS, resume=True)
    assert any(("going on" if kind == "kill" else "fresh start") in line for line in said)
    assert same(edge.head("stripes"), whole) and left(home) == []


def test_auto_tells_in_the_bundle_what_it_tried_and_why(device, stripes: Path) -> None:
    edge: EdgeDevice = device(threads=1)
    report = edge.learn("stripes", stripes, method="auto", sockets=SOCKETS, budget=600)
    chosen = edge.bundle(report.digest).report["chosen"]
    assert {"linear", "clr"} <= set(chosen["tried"]) and chosen["skipped"] == {}  # bb only where clr does not convince
    assert report.method in chosen["tried"] and chosen["why"].startswith(f"{report.method}: ")
    assert left(edge.home) == []
