"""Heads with plugs as a whole: their report, their bounds in bytes, and heads from outside that cannot be."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl.checks import synthetic
from edgecl.errors import BundleError, ConfigError, DataError, RomError
from edgecl.heads import bb, clr
from edgecl.heads.base import Head, Learned, Session
from edgecl.heads.parts import plugged, recipe, training
from edgecl.heads.parts.recipe import hold_out, read_pixels
from edgecl.rom.base import Rom
from edgecl.types import Task

CONFIG = clr.Config(epochs=1, sockets="last:5")


@pytest.fixture(scope="module")
def task(rom: Rom) -> Task:
    return synthetic.pictures_task(rom, 3, 20)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def learned(rom: Rom, task: Task, said: list[str]) -> Learned:
    return clr.learn(task, rom, CONFIG, None, Session(say=said.append))


def test_the_report_says_what_was_measured(learned: Learned, task: Task, said: list[str]) -> None:
    report, held = learned.report, hold_out(task.labels, 0)
    assert report["validation_pictures"] == held.sum() == 12
    right = learned.held_out.argmax(1) == task.labels
    assert report["validation_accuracy"] == round(float(right[held].mean()), 4)
    assert 0 <= report["linear_validation_accuracy"] <= 1 and report["validation_log_loss"] >= 0
    assert report["plugs"]["sockets"] == 5 and report["plugs"]["form"] in ("int8", "float16", "float32")
    assert max(report["plugs"]["mean_score_change"], report["map"]["mean_score_change"]) <= plugged.SCORE_BOUND
    training_report = report["training"]
    assert training_report["epochs"] == 1 + 3 and len(training_report["loss"]) == 4 and not training_report["stopped_early"]
    assert training_report["estimated_seconds"] > 0
    (line,) = said  # before the work: how long, how much memory
    assert "5 of 17 sockets" in line and " s and " in line and "GB" in line


def test_learning_keeps_to_the_threads_of_the_rom(rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = training.torch.get_num_threads(), set()
    monkeypatch.setattr(rom, "threads", before + 1)
    session = Session(progress=lambda *step: seen.add(training.torch.get_num_threads()))
    bb.learn(task, rom, bb.Config(epochs=1, sockets="last:1"), None, session)
    assert seen == {before + 1} and training.torch.get_num_threads() == before


def test_a_head_with_plugs_cannot_do_without_the_second_look(learned: Learned, rom: Rom, task: Task) -> None:
    with pytest.raises(RomError, match=r"features of the ROM with its plugs.*Head.answer"):
        learned.head.scores(task.features)
    pixels = read_pixels(task, rom)
    assert np.array_equal(learned.head.answer(rom, pixels), learned.head.answer(rom, pixels, task.features))


def test_a_task_without_its_pictures_is_refused(rom: Rom, task: Task) -> None:
    with pytest.raises(DataError, match="pictures themselves"):
        bb.learn(dataclasses.replace(task, pictures=()), rom, bb.Config())


def test_a_picture_that_has_gone_since_it_was_first_read_is_named(rom: Rom, task: Task, tmp_path: Path) -> None:
    gone = dataclasses.replace(task, pictures=(tmp_path / "gone.png", *task.pictures[1:]))
    with pytest.raises(DataError, match=r"second time.*gone\.png"):
        bb.learn(gone, rom, bb.Config())


# -- bounds


def test_many_pictures_go_to_the_disk_and_teach_the_same(rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = read_pixels(task, rom)
    config = bb.Config(epochs=1, sockets="last:1")
    expected = bb.learn(task, rom, config).head
    monkeypatch.setattr(recipe, "PIXEL_BYTES", kept.nbytes - 1)
    paged = read_pixels(task, rom)
    assert isinstance(paged, np.memmap) and not isinstance(kept, np.memmap) and np.array_equal(paged, kept)
    found = bb.learn(task, rom, config).head
    assert all(np.array_equal(found.arrays[name], value) for name, value in expected.arrays.items())
    monkeypatch.setattr(recipe.os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"no room .*TMPDIR"):
        read_pixels(task, rom)


def full(*rest: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("method", ["bb", "clr"])
def test_bytes_are_kept_or_refused_before_the_work(method: str, rom: Rom, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asks for is enough for the smallest form, and a byte less is refused."""
    module, config = (bb, bb.Config(epochs=1, sockets="last:4")) if method == "bb" else (clr, CONFIG)
    with pytest.raises(ConfigError, match=r"takes [\d,]+ bytes, 10 are left.*--sockets") as caught:
        module.learn(task, rom, config, None, Session(head_bytes=10))
    asked = int(str(caught.value).split(" takes ")[1].split(" ")[0].replace(",", ""))
    head = module.learn(task, rom, config, None, Session(head_bytes=asked)).head
    assert asked * 0.95 - 1_000 <= head.nbytes <= asked  # the thousand: what the card says about ten sockets
    monkeypatch.setattr(training, "run", lambda *rest: pytest.fail("it began to learn"))
    with pytest.raises(ConfigError):
        module.learn(task, rom, config, None, Session(head_bytes=asked - 1))


def test_with_few_held_out_pictures_weight_and_temperature_stay_at_their_defaults() -> None:
    scores, y = np.eye(3)[np.arange(30) % 3], np.arange(30) % 3
    assert plugged._blend(scores, scores, y, np.arange(30) < 11) == (0.6, 1.0)


def test_the_better_map_gets_the_weight() -> None:
    rng, y = np.random.default_rng(0), np.arange(200) % 4
    good, bad = 5 * np.eye(4)[y] + rng.normal(size=(200, 4)), 5 * rng.normal(size=(200, 4))
    held = np.ones(200, bool)
    assert plugged._blend(bad, good, y, held)[0] > 0.6 > plugged._blend(good, bad, y, held)[0]


def test_a_map_is_stored_in_the_smallest_form_that_its_scores_allow() -> None:
    rng = np.random.default_rng(0)
    w, z = rng.normal(size=(4, 64)), rng.normal(size=(50, 64)).astype(np.float32)
    forms = [plugged._smallest_map(w * scale, z, smallest=False)[1] for scale in (1, 30, 1e5)]
    assert forms == ["int8", "float16", "float32"]
    assert plugged._smallest_map(w * 1e2, z, smallest=True)[1] == "int8"


# -- heads from outside

Change = Callable[[Head], dict[str, Any]]
HOSTILE: dict[str, Change] = {
    "no plugs in its settings": lambda h: {"settings": {k: v for k, v in h.settings.items() if k != "plugs"}},
    "plugs as text": lambda h: {"settings": {**h.settings, "plugs": "shift"}},
    "empty plugs": lambda h: {"settings": {**h.settings, "plugs": {}}},
    "plugs described and not there": lambda h: {"arrays": {n: a for n, a in h.arrays.items() if not n.startswith("shift")}},
    "plugs there and not described": lambda h: {
        "settings": {**h.settings, "plugs": {k: v for k, v in h.settings["plugs"].items() if k != "kernel"}}
    },
    "it reads something unknown": lambda h: {"settings": {**h.settings, "reads": "pixels"}},
    "it reads a list": lambda h: {"settings": {**h.settings, "reads": ["both"]}},
    "it reads both without roots": lambda h: {"settings": {**h.settings, "phi": "identity"}},
    "a map of odd width": lambda h: {"arrays": {**h.arrays, "w": h.arrays["w"][:, 1:]}},
    "a map without columns": lambda h: {"arrays": {**h.arrays, "w": h.arrays["w"][:, :0]}},
    "a map in float64": lambda h: {"arrays": {**h.arrays, "w": h.arrays["w"].astype(np.float64)}},
    "offsets in half precision": lambda h: {"arrays": {**h.arrays, "b": h.arrays["b"].astype(np.float16)}},
    "an offset that is no number": lambda h: {"arrays": {**h.arrays, "b": h.arrays["b"] * np.float32(np.nan)}},
    "an offset that overflows": lambda h: {"arrays": {**h.arrays, "b": h.arrays["b"] * 0 + np.float32(1e30)}},
    "a threshold that is no number": lambda h: {"settings": {**h.settings, "unknown_below": float("nan")}},
    "true for a threshold": lambda h: {"settings": {**h.settings, "unknown_below": True}},
    "text for a threshold": lambda h: {"settings": {**h.settings, "unknown_below": "1"}},
    "steps for a map that has none": lambda h: {"arrays": {**h.arrays, "b_step": h.arrays["b"]}},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_head_that_cannot_be_is_refused(change: Change, learned: Learned) -> None:
    with pytest.raises(BundleError) as caught:
        dataclasses.replace(learned.head, **change(learned.head)).check()
    assert str(caught.value)
