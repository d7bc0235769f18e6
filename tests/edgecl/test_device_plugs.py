"""A device whose heads act inside the ROM: mixed batches, old tasks untouched, and heads that do not fit its ROM."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")

from edgecl import EdgeDevice
from edgecl.errors import BundleError, ConfigError, Reason, RomError, RomMismatch
from edgecl.evaluate import evaluate
from edgecl.heads.parts.recipe import Recipe
from edgecl.pictures.decode import decode
from edgecl.rom.image import MANIFEST
from edgecl.sharing.bundle import Bundle, from_bytes
from edgecl.sharing.trust import Peer
from edgecl.streams.folders import find_tasks

METHODS = {"colours": "linear", "shapes": "bb", "stripes": "clr"}


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    """One main epoch in place of fourteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "main_epochs", lambda self, pictures: 1)
        yield


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path, pictures_task) -> Iterator[EdgeDevice]:
    """Three tasks, by three methods. Read only."""
    with EdgeDevice(tmp_path_factory.mktemp("plugs") / "home", rom=tiny_rom, threads=1) as edge:
        for task, method in METHODS.items():
            edge.learn(task, pictures_task[task], method=method, sockets=None if method == "linear" else "last:5")
        yield edge


@pytest.fixture(scope="module")
def files(pictures_task) -> list[Path]:
    """Test pictures, one task after the other and in turn."""
    rows = [sorted((pictures_task[task] / "test").glob("*/*"))[::3] for task in METHODS]
    return [path for triple in zip(*rows, strict=False) for path in triple]


@pytest.fixture(scope="module")
def pixels(learned: EdgeDevice, files: list[Path]) -> list[np.ndarray]:
    return [decode(path, learned.rom.preprocess) for path in files]


@pytest.fixture
def own(learned: EdgeDevice, tmp_path: Path, tiny_rom: Path) -> Iterator[EdgeDevice]:
    """The same device in a copy of its home, which a test may change."""
    shutil.copytree(learned.home, tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    with EdgeDevice(tmp_path / "home", rom=tiny_rom, threads=1) as edge:
        yield edge


def scores(edge: EdgeDevice, task: str, pixels: list[np.ndarray]) -> np.ndarray:
    return edge.head(task).answer(edge.rom, pixels)


# -- answering


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_a_mixed_batch_answers_as_one_by_one(
    runtime: str, learned: EdgeDevice, tiny_rom: Path, files: list[Path], pixels: list[np.ndarray]
) -> None:
    with EdgeDevice(learned.home, rom=tiny_rom, threads=1, runtime=runtime) as edge:
        together = edge.answer(pixels)
        assert {a.nearest_task for a in together} == set(METHODS)
        assert np.mean([a.nearest_task == f.parents[2].name for a, f in zip(together, files, strict=True)]) == 1
        for one, answer in zip(pixels, together, strict=True):
            (alone,) = edge.answer([one])
            assert (alone.task, alone.label, alone.unknown) == (answer.task, answer.label, answer.unknown)
            assert alone.confidence == pytest.approx(answer.confidence, abs=1e-4)
        for task in METHODS:  # told the task, and asked with its pictures only: another grouping
            mine = [i for i, a in enumerate(together) if a.nearest_task == task]
            told = edge.answer([pixels[i] for i in mine], task)
            assert [a.nearest_label for a in told] == [together[i].nearest_label for i in mine]


def test_features_alone_do_not_do_for_a_head_with_plugs(learned: EdgeDevice, pixels: list[np.ndarray]) -> None:
    features = learned.rom.features(pixels)
    assert len(learned.answer_features(features, "colours")) == len(pixels)
    with pytest.raises(RomError, match=r"needs the pictures.*answer"):
        learned.answer_features(features, "shapes")
    assert learned.answer_features(features[:0], "shapes") == []


def test_a_picture_that_cannot_be_read_does_not_shift_the_others(learned: EdgeDevice, files: list[Path]) -> None:
    answers = learned.infer([files[0], "no such file.png", *files[1:]])
    assert answers[1].error and [a.nearest_task for a in answers[2:]] == [a.nearest_task for a in learned.infer(files[1:])]


# -- what was learned stays


@pytest.mark.parametrize("method", ["linear", "bb", "clr"])
def test_old_tasks_answer_bit_for_bit_after_any_learning(
    method: str, own: EdgeDevice, pictures_task, pixels: list[np.ndarray]
) -> None:
    before = {task: (own.bank.current()[task], scores(own, task, pixels)) for task in METHODS}
    own.learn("more", pictures_task["shapes"], method=method, seed=3, sockets=None if method == "linear" else "last:3")
    with EdgeDevice(own.home, rom=own.config.rom, threads=1) as again:
        for edge in (own, again):
            for task, (digest, answers) in before.items():
                assert edge.bank.current()[task] == digest
                np.testing.assert_array_equal(scores(edge, task, pixels), answers)


def test_the_order_in_which_tasks_are_learned_does_not_matter(learned: EdgeDevice, device, pictures_task) -> None:
    other: EdgeDevice = device(threads=1)
    for task, method in reversed(METHODS.items()):
        other.learn(task, pictures_task[task], method=method, sockets=None if method == "linear" else "last:5")
    for task in METHODS:
        a, b = learned.head(task), other.head(task)
        assert a.settings == b.settings
        assert all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)


@pytest.mark.parametrize("oracle", [False, True])
def test_evaluate_reports_methods_with_plugs(oracle: bool, device, pictures_task) -> None:
    root = next(iter(pictures_task.values())).parent
    tasks = [task for task in find_tasks(root) if task.name != "colours"]
    result = evaluate(device(threads=1), tasks, method="bb", oracle=oracle, unknown_classes=not oracle)
    assert result.summary["old_answers_bit_identical"] == 1 and result.summary["forgetting"] == 0
    assert all(row["method"] == "bb" for row in result.tasks.values()) and result.summary["oracle"] > 0.6
    assert result.summary["joint"] <= min(result.summary["mapper"], result.summary["oracle"]) + 1e-9
    assert ("class_unknown_auroc" in result.summary) is not oracle


# -- heads that do not fit


def renamed(layout: Mapping[str, list], **changes: object) -> dict[str, list]:
    return {kind: [[*entries[0]], *entries[1:]] for kind, entries in layout.items()} | changes


def misfits(edge: EdgeDevice) -> dict[str, bytes]:
    """Bundles of `shapes`, well-formed and for this ROM as they say, whose plugs no socket of it takes."""
    bundle = from_bytes(edge.export("shapes"))
    layout, arrays = bundle.head.settings["plugs"], bundle.head.arrays

    def with_plugs(changed: list, more: Mapping[str, np.ndarray]) -> bytes:
        settings = {**bundle.head.settings, "plugs": {**layout, "shift": changed}}
        return dataclasses.replace(
            bundle,
            head=dataclasses.replace(bundle.head, settings=settings, arrays={**arrays, **more}),
            signer="",
            sequence=0,
            signature="",
        ).to_bytes()

    first, *rest = layout["shift"]
    ghost = with_plugs([["blocks.99.conv", *first[1:]], *rest], {})
    shift = arrays["shift1"]
    narrow = with_plugs([[first[0], first[1] - 1, 1], *rest], {"shift1": shift[1:]})
    step = arrays.get("shift1_step", np.ones(len(layout["shift"]), np.float16))
    huge = {"shift1": np.full(len(shift), 127, np.int8), "shift1_step": np.full(len(step), 5e4, np.float16)}
    return {"blocks.99.conv": ghost, "has shape": narrow, "out of range": with_plugs(layout["shift"], huge)}


@pytest.mark.parametrize("words", ["blocks.99.conv", "has shape", "out of range"])
def test_plugs_that_no_socket_takes_are_refused_on_import(words: str, own: EdgeDevice) -> None:
    data, before = misfits(own)[words], own.bank.current()
    with pytest.raises(RomError, match=words):
        own.import_bundle(data, unsigned=True)
    assert own.bank.current() == before


def test_such_a_head_in_the_bank_is_left_out_and_named(own: EdgeDevice, pixels: list[np.ndarray]) -> None:
    """A bank may have been written by another program."""
    bad = misfits(own)["has shape"]
    said: list[str] = []
    own.bank.put("shapes", bad, "import")
    with EdgeDevice(own.home, rom=own.config.rom, threads=1, say=said.append) as edge:
        assert edge.tasks == ("colours", "stripes")
        assert len(edge.answer(pixels)) == len(pixels)
        assert any("'shapes' is left out" in line and "has shape" in line for line in said)
        assert [problem.startswith("'shapes': ") for problem in edge.verify()] == [True]


def test_on_an_image_without_sockets_heads_with_plugs_are_left_out_and_others_answer(
    own: EdgeDevice, tmp_path: Path, files: list[Path], pictures_task
) -> None:
    """An image of format 1 has the same rom_id: sockets change nothing that the plain ROM computes."""
    old = Path(shutil.copytree(own.config.rom, tmp_path / "old-rom"))
    manifest = json.loads((old / MANIFEST).read_text()) | {"format": 1}
    del manifest["sockets"]
    (old / MANIFEST).write_text(json.dumps(manifest))
    said: list[str] = []
    data = own.export("shapes")
    with EdgeDevice(own.home, rom=old, threads=1, say=said.append) as edge:
        assert edge.rom.rom_id == own.rom.rom_id and edge.tasks == ("colours",)
        assert {a.nearest_task for a in edge.infer(files)} == {"colours"}
        for task in ("shapes", "stripes"):
            assert any(f"'{task}' is left out" in line and "Export the ROM again" in line for line in said)
        with pytest.raises(RomMismatch, match="Export the ROM again"):
            edge.import_bundle(data)
        with pytest.raises(ConfigError, match="no sockets"):
            edge.learn("more", pictures_task["shapes"], method="clr")
        assert edge.learn("more", pictures_task["shapes"], method="auto").method == "linear"


def test_a_head_with_plugs_travels_to_another_device(own: EdgeDevice, device, pixels: list[np.ndarray], tmp_path: Path) -> None:
    other: EdgeDevice = device(tmp_path / "other", threads=1)
    with pytest.raises(BundleError, match=r"does not know.*peers trust") as raised:
        other.import_bundle(own.export("stripes"))
    assert raised.value.reason is Reason.UNKNOWN_SIGNER and other.bank.current() == {}
    other.trust.trust(Peer("own", own.trust.signer.key))
    other.import_bundle(own.export("stripes"))
    np.testing.assert_array_equal(scores(other, "stripes", pixels), scores(own, "stripes", pixels))
    assert isinstance(from_bytes(other.export("stripes")), Bundle) and other.export("stripes") == own.export("stripes")
