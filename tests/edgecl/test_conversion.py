"""Heads on another precision: learned again, or carried over with what that changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgecl.cli.main import app
from edgecl.conversion import Bounds, Change, _learned_by, convert, relearn, require_convertible
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError, DataError, RomMismatch, UnknownTask
from edgecl.heads.base import Head
from edgecl.rom.base import Rom
from edgecl.rom.image import RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.sockets import Plugs
from edgecl.sharing.bundle import from_bytes


@pytest.fixture(scope="module")
def half(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ROM in half precision."""
    pytest.importorskip("onnx", reason="making an FP16 ROM needs onnx: pip install 'edgecl[learn]'")
    from export import gate
    from export.reduce import reduce

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "SHARE", 3)
        return reduce(RomImage.open(tiny_rom), tmp_path_factory.mktemp("half") / "rom", "fp16").folder


@pytest.fixture
def to(half: Path) -> Iterator[Rom]:
    with open_rom(half) as rom:
        yield rom


@pytest.fixture
def learned(device, pictures_task) -> EdgeDevice:
    edge = device()
    for task in ("colours", "shapes"):
        edge.learn(task, pictures_task[task])
    return edge


def test_carried_over_keeps_the_arrays_and_says_what_changed(learned: EdgeDevice, to: Rom, pictures_task) -> None:
    bundles, changes = convert(learned, to, pictures=pictures_task["colours"].parent)
    assert set(bundles) == set(changes) == {"colours", "shapes"}
    for task, bundle in bundles.items():
        old, change = from_bytes(learned.export(task)), changes[task]
        assert bundle.head.rom_id == to.rom_id and from_bytes(bundle.to_bytes()).head.rom_id == to.rom_id
        assert all(np.array_equal(bundle.head.arrays[n], v) for n, v in old.head.arrays.items())
        assert change.labels > 0.95 and change.mapper > 0.95 and change.largest < 0.2 and change.pictures >= 8
        told = bundle.provenance["converted"]
        assert (
            told["how"] == "carried over" and told["from_rom"] == old.head.rom_id and told["labels"] == round(change.labels, 5)
        )


def test_learned_again_is_what_learning_there_gives(learned: EdgeDevice, to: Rom, half: Path, pictures_task, tmp_path) -> None:
    bundles, changes = convert(learned, to, ["colours"], data=pictures_task["colours"].parent)
    with EdgeDevice(tmp_path / "other", rom=half) as other:
        other.learn("colours", pictures_task["colours"])
        expected = other.head("colours").arrays
    assert changes == {} and bundles["colours"].provenance["converted"]["how"] == "learned again"
    assert all(np.array_equal(bundles["colours"].head.arrays[n], v) for n, v in expected.items())
    alone, _ = convert(learned, to, ["colours"], data=pictures_task["colours"])
    assert alone["colours"].head.arrays.keys() == expected.keys(), "the folder of the one task will do"


def test_a_head_with_plugs_is_learned_again_by_its_own_method_and_options(device, to: Rom, pictures_task) -> None:
    pytest.importorskip("torch", reason="plugs learn in PyTorch; pip install 'edgecl[learn]'")
    edge = device()
    edge.learn("colours", pictures_task["colours"], method="clr-mixed", seed=3, sockets="last:2")
    old = from_bytes(edge.export("colours"))
    bundles, _ = convert(edge, to, data=pictures_task["colours"])
    new = bundles["colours"]
    assert new.head.rom_id == to.rom_id and new.provenance["seed"] == 3
    assert new.provenance["learned_by"] == old.provenance["learned_by"]
    assert new.head.plugs.kernel.keys() == old.head.plugs.kernel.keys() != set(), "the variant's kernels, behind 1x1 too"
    assert new.head.plugs.shift.keys() == old.head.plugs.shift.keys()


def test_what_a_bundle_says_of_its_learning_is_not_trusted(learned: EdgeDevice, to: Rom, pictures_task) -> None:
    bundle = from_bytes(learned.export("colours"))
    plain = {"method": "linear", "seed": 0}
    for said in (
        None,
        7,
        {},
        {"asked": "bb", "seed": "1"},
        {"asked": ["linear"], "seed": True},
        {"asked": "none", "sockets": 3},
    ):
        assert _learned_by(dataclasses.replace(bundle, provenance={"learned_by": said})) == plain
    for said, words in (({"recipe": "cake"}, "recipe 'cake'"), ({"seed": -1}, "seed")):
        with pytest.raises(ConfigError, match=words):
            strange = dataclasses.replace(bundle, provenance={"learned_by": said})
            relearn(strange, pictures_task["colours"], to, learned.config)


def test_too_much_change_is_refused_unless_forced(learned: EdgeDevice, to: Rom, pictures_task) -> None:
    absurd = Bounds(labels=1.1)
    with pytest.raises(RomMismatch, match=r"'colours': .* pictures get the same label, asked 110 %"):
        convert(learned, to, pictures=pictures_task["colours"], bounds=absurd)
    bundles, _ = convert(learned, to, pictures=pictures_task["colours"], bounds=absurd, force=True)
    assert len(bundles) == 2


def test_change_is_held_against_its_bounds() -> None:
    good = Change(40, 0.96, 0.99, 1.0, 0.2, 0.01)
    assert good.failures(Bounds()) == []
    assert len(dataclasses.replace(good, labels=0.5, mapper=float("nan")).failures(Bounds())) == 2


def test_what_cannot_be_converted_is_refused(learned: EdgeDevice, to: Rom, pictures_task, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        convert(learned, to)
    with pytest.raises(UnknownTask):
        convert(learned, to, ["birds"], pictures=pictures_task["colours"])
    with pytest.raises(DataError, match="no pictures of 'colours'"):
        convert(learned, to, data=tmp_path)
    with pytest.raises(DataError, match="other classes than 'colours'"):
        convert(learned, to, ["colours"], data=pictures_task["shapes"])
    assert convert(learned, learned.rom, pictures=pictures_task["colours"]) == ({}, {}), "they are on that ROM already"


def test_head_inside_the_network_is_refused_for_int8(learned: EdgeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    int8: Any = SimpleNamespace(image=SimpleNamespace(precision="int8"))
    require_convertible(from_bytes(learned.export("colours")), int8)
    monkeypatch.setattr(Head, "plugs", Plugs({"conv_stem": np.zeros(4, np.float32)}))
    with pytest.raises(RomMismatch, match="acts inside the network, and an INT8 ROM has no sockets"):
        require_convertible(from_bytes(learned.export("colours")), int8)


def test_command_puts_a_generation_that_answers_there_and_rolls_back(
    learned: EdgeDevice, half: Path, tiny_rom: Path, pictures_task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (learned.home / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    pictures = str(pictures_task["colours"].parent)
    run = CliRunner()
    done = run.invoke(app, ["heads", "convert", "--to", str(half), "--pictures", pictures])
    assert done.exit_code == 0, done.output
    assert "'colours' is generation 2" in done.output and "keep their label" in done.output
    with EdgeDevice(learned.home, rom=half) as there:
        assert there.tasks == ("colours", "shapes")
        assert there.infer(sorted((pictures_task["colours"] / "test" / "red").iterdir()))[0].nearest_task == "colours"
        there.bank.rollback("colours")
        assert there.tasks == ("shapes",)
    file = tmp_path / "one.bundle"
    done = run.invoke(app, ["heads", "convert", "colours", "--to", str(half), "--pictures", pictures, "-o", str(file)])
    assert done.exit_code == 0 and from_bytes(file.read_bytes()).head.rom_id == RomImage.open(half).rom_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--to ROM"),
        (["--to", "nowhere"], "no ROM image at nowhere"),
        (["--to", "{half}"], "--pictures"),
        (["--to", "{half}", "-o", "file"], "one bundle"),
        (["--to", "{half}", "--pictures", "nowhere"], "nowhere"),
    ],
)
def test_command_refuses_with_a_sentence(arguments, words: str, learned: EdgeDevice, half: Path, tiny_rom: Path) -> None:
    (learned.home / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    done = CliRunner().invoke(app, ["heads", "convert", *(a.format(half=half) for a in arguments)])
    assert done.exit_code and words in (done.output + str(done.exception)) and "Traceback" not in done.output
