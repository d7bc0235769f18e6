"""A ROM image is whole, as it was sealed, or refused with the file named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from edgecl.checks.roms import pictures
from edgecl.errors import EdgeclError, MissingDependency, RomError, RomTampered, RuntimeUnavailable
from edgecl.rom import image as rom_image
from edgecl.rom.image import GRAPH, MANIFEST, WEIGHTS, RomImage, compute_rom_id, weights_digest
from edgecl.rom.opening import ensure_default, open_rom
from edgecl.rom.preprocess import Preprocess

SMALL = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float16)}


@pytest.fixture
def rom(tiny_rom: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_rom, tmp_path / "rom"))


def write(folder: Path, weights: dict = SMALL, **changes: Any) -> RomImage:
    """An image of nothing in particular: no runtime is asked to open it."""
    fields: dict[str, Any] = {
        "backbone": "none",
        "features": 3,
        "preprocess": Preprocess(size=16),
        "precision": "fp32",
        "graph": b"graph",
        "weights": weights,
        "parity": {},
        "made_with": {"x": "1"},
    }
    return rom_image.write(folder, **{**fields, **changes})


def edit(folder: Path, change: Callable[[dict], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest = change(manifest) or manifest
    (folder / MANIFEST).write_text(json.dumps(manifest))


def resealed(manifest: dict) -> None:
    """The rom_id that belongs to the other fields."""
    preprocess = Preprocess.from_dict(manifest["preprocess"])
    manifest["rom_id"] = compute_rom_id(
        manifest["backbone"], manifest["features"], preprocess, manifest["precision"], manifest["weights"]
    )


# -- what was sealed


def test_sealed_image_is_sound_and_describes_itself(tiny_rom: Path) -> None:
    image = RomImage.open(tiny_rom)
    image.verify()
    assert (image.backbone, image.features, image.preprocess.size, image.precision) == ("test_efficientnet", 256, 160, "fp32")
    assert image.parity["cosine"] > 0.99999 and set(image.made_with) == {"torch", "timm", "onnx"}
    assert set(image.files) == {GRAPH, WEIGHTS} == {p.name for p in tiny_rom.iterdir()} - {MANIFEST}


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "empty", "remove", "folder"])
def test_damaged_file_is_named(rom: Path, name: str, damage: str) -> None:
    path = rom / name
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "remove":
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes({"flip": flipped, "truncate": data[:-1], "extend": data + b"\0", "empty": b""}[damage])
    image = RomImage.open(rom)
    with pytest.raises(RomError, match=name):
        image.verify()
    runtime = "onnxruntime" if name == GRAPH else "pytorch"
    with pytest.raises(RomError, match=name):
        open_rom(rom, runtime)


def test_missing_image_says_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(RomError, match="edgecl export -o"):
            RomImage.open(folder)


def test_manifest_that_cannot_be_read_is_named(rom: Path) -> None:
    (rom / MANIFEST).unlink()
    (rom / MANIFEST).mkdir()
    with pytest.raises(RomError, match=MANIFEST):
        RomImage.open(rom)


# -- a manifest is untrusted


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format":1}',
        b" " * (2 << 20),
        b"\0" * 100,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_garbage_for_a_manifest_is_refused(rom: Path, text: bytes) -> None:
    (rom / MANIFEST).write_bytes(text)
    with pytest.raises(RomError, match=MANIFEST) as caught:
        RomImage.open(rom)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [4, 0, "1", None, [1], 10**100])
def test_other_format_is_refused_with_advice(rom: Path, value: object) -> None:
    edit(rom, lambda m: m.update(format=value))
    with pytest.raises(RomError, match="update edgecl"):
        RomImage.open(rom)


@pytest.mark.parametrize(
    "key", ["rom_id", "backbone", "features", "preprocess", "precision", "weights", "files", "parity", "made_with"]
)
def test_missing_or_foreign_field_is_refused(rom: Path, key: str) -> None:
    for value in (None, [], 3, "x", {}, [[]], 1e400, -1e400, 10**5000 if key == "features" else True):
        if (key, value) in (("parity", []), ("parity", {}), ("made_with", {}), ("parity", [[]])):
            continue  # sound, or read as empty: notes that nothing depends on
        original = (rom / MANIFEST).read_bytes()
        try:
            edit(rom, lambda m, value=value: m.update({key: value}))
        except ValueError:  # a number that Python does not write
            (rom / MANIFEST).write_bytes(original.replace(b'"features": 256', b'"features": ' + b"9" * 5000))
        with pytest.raises(RomError):
            RomImage.open(rom)
        (rom / MANIFEST).write_bytes(original)
    edit(rom, lambda m: m.pop(key) and None)
    with pytest.raises(RomError, match=key):
        RomImage.open(rom)


@pytest.mark.parametrize(
    "change",
    [{"backbone": "other"}, {"features": 255}, {"precision": "fp16"}, {"weights": "0" * 64}, {"rom_id": "0" * 64}],
    ids=str,
)
def test_edited_manifest_contradicts_its_rom_id(rom: Path, change: dict) -> None:
    edit(rom, lambda m: m.update(change))
    with pytest.raises(RomTampered, match="was changed"):
        RomImage.open(rom)


def test_edited_preprocessing_contradicts_its_rom_id(rom: Path) -> None:
    edit(rom, lambda m: m["preprocess"].update(crop=0.5))
    with pytest.raises(RomTampered, match="was changed"):
        RomImage.open(rom)


@pytest.mark.parametrize("width", [0, -1, 1 << 20])
def test_width_out_of_range_is_refused(rom: Path, width: int) -> None:
    edit(rom, lambda m: (m.update(features=width), resealed(m))[1])
    with pytest.raises(RomError, match="width"):
        RomImage.open(rom)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "/dev/zero", "a/b", "", ".", "..", "x\0", "x\n"])
def test_file_outside_the_image_is_refused(rom: Path, name: str) -> None:
    """Else a check of the image could be made to read any file, or without end."""
    edit(rom, lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))
    with pytest.raises(RomError, match="own folder"):
        RomImage.open(rom)


def test_image_without_one_of_its_files_listed_is_refused(rom: Path) -> None:
    edit(rom, lambda m: m["files"].pop(GRAPH) and None)
    with pytest.raises(RomError, match=GRAPH):
        RomImage.open(rom)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["format", "rom_id", "features", "preprocess", "files", "parity", "made_with", "weights"]), JSON)
def test_any_json_in_a_manifest_raises_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "rom"
    write(folder)
    edit(folder, lambda m: m.update({key: value}))
    try:
        RomImage.open(folder)
    except EdgeclError:
        return
    assert key in ("parity", "made_with")


# -- files that are as listed, and still not what rom_id speaks of


def listed_anew(folder: Path, name: str, data: bytes) -> None:
    import hashlib

    (folder / name).write_bytes(data)
    edit(folder, lambda m: m["files"].update({name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}))


def test_other_weights_under_the_same_rom_id_are_found_by_verify(rom: Path) -> None:
    weights = {name: value.copy() for name, value in load((rom / WEIGHTS).read_bytes()).items()}
    next(iter(weights.values())).flat[0] += 1
    listed_anew(rom, WEIGHTS, save(weights))
    with pytest.raises(RomTampered, match="other weights"):
        RomImage.open(rom).verify()


@pytest.mark.parametrize("how", ["another shape", "one missing", "no file of tensors"])
def test_weights_that_do_not_fit_the_network_are_refused_by_pytorch(rom: Path, how: str) -> None:
    weights = dict(load((rom / WEIGHTS).read_bytes()))
    name = sorted(weights)[-1]
    if how == "another shape":
        weights[name] = np.zeros((3, 3), np.float32)
    else:
        del weights[name]
    listed_anew(rom, WEIGHTS, b"nothing" if how == "no file of tensors" else save(weights))
    with pytest.raises(RomError, match=WEIGHTS):
        open_rom(rom, "pytorch")


def test_graph_of_another_kind_is_refused_by_onnxruntime(rom: Path) -> None:
    listed_anew(rom, GRAPH, b"no graph at all")
    with pytest.raises(RomError, match=GRAPH):
        open_rom(rom)


def test_graph_of_another_width_than_the_manifests_is_refused(rom: Path) -> None:
    edit(rom, lambda m: (m.update(features=17), resealed(m))[1])
    with pytest.raises(RomError, match="17"):
        open_rom(rom)


# -- identity


def test_second_export_gives_the_same_rom_id_and_another_seed_another(tiny_rom: Path, tmp_path: Path) -> None:
    """Without the graph: what the id is made of is the network's weights and what it wants to see."""
    from export import backbones

    first = RomImage.open(tiny_rom)
    ids = []
    for backbone, seed in (("test_efficientnet", 0), ("test_efficientnet", 1), ("test_resnet", 0)):
        network, preprocess = backbones.load(backbone, "random", seed)
        state = {name: value.numpy() for name, value in network.state_dict().items()}
        ids.append(compute_rom_id(backbone, network.num_features, preprocess, "fp32", weights_digest(state)))
    assert ids[0] == first.rom_id and len(set(ids)) == 3


def test_weights_digest_speaks_of_values_names_shapes_and_types() -> None:
    def digest(**changes: Any) -> str:
        return weights_digest({**SMALL, **changes})

    base = weights_digest(SMALL)
    assert weights_digest(dict(reversed(SMALL.items()))) == base == digest(b=np.asfortranarray(SMALL["b"]))
    others = (
        digest(a=SMALL["a"] * 2),
        digest(b=SMALL["b"].reshape(3, 2)),
        digest(a=SMALL["a"].astype(np.float32)),
        digest(c=SMALL["a"]),
    )
    assert len({base, *others}) == 5


def test_rom_id_speaks_of_all_that_determines_the_outputs(tmp_path: Path) -> None:
    ids = [
        write(tmp_path / str(i), **change).rom_id
        for i, change in enumerate(
            (
                {},
                {"backbone": "x"},
                {"features": 4},
                {"preprocess": Preprocess(size=17)},
                {"precision": "fp16"},
                {"weights": {"a": SMALL["a"]}},
            )
        )
    ]
    assert len(set(ids)) == len(ids)
    assert write(tmp_path / "again", graph=b"by a newer exporter", parity={"x": 1}, made_with={}).rom_id == ids[0]


# -- writing


def test_written_again_the_image_is_kept_and_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "rom"
    first = write(folder)
    before = (folder / MANIFEST).stat().st_mtime_ns
    assert write(folder, graph=b"another").rom_id == first.rom_id
    assert (folder / MANIFEST).stat().st_mtime_ns == before
    with pytest.raises(RomError, match="already holds ROM"):
        write(folder, features=4)
    RomImage.open(folder).verify()


def test_writing_over_a_damaged_image_says_to_remove_it(tmp_path: Path) -> None:
    folder = tmp_path / "rom"
    write(folder)
    (folder / GRAPH).write_bytes(b"x")
    with pytest.raises(RomTampered, match="remove it"):
        write(folder)
    (folder / MANIFEST).write_bytes(b"{")
    with pytest.raises(RomError, match="remove it"):
        write(folder)


def test_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rom").mkdir()
    (tmp_path / "rom" / "holiday.jpg").write_bytes(b"dear to someone")
    with pytest.raises(RomError, match="empty or a new folder"):
        write(tmp_path / "rom")
    assert [p.name for p in tmp_path.rglob("*")] == ["rom", "holiday.jpg"]


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {MANIFEST, GRAPH, WEIGHTS}


@pytest.mark.parametrize("step", ["fsync", "chmod", "rename"])
def test_image_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises((RomError, OSError)):
            write(tmp_path / "rom")
    assert not list(tmp_path.iterdir()), "neither an image nor a rest of one"
    write(tmp_path / "rom").verify()


# -- runtimes


def sessions(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


def test_session_cache_is_used_and_rebuilt_when_damaged(tiny_rom: Path, tmp_path: Path) -> None:
    cache = tmp_path / "sessions"
    with open_rom(tiny_rom, cache=cache) as rom:
        batch = pictures(rom, 2)
        expected = rom.features(batch)
    (kept,) = sessions(cache)
    good, digest = kept.read_bytes(), kept.with_suffix(".sha256").read_text()
    for damage in ("flip", "truncate", "empty", "no digest", "another digest", "sound"):
        kept.write_bytes({"flip": good[:-1] + bytes([good[-1] ^ 1]), "truncate": good[:100], "empty": b""}.get(damage, good))
        kept.with_suffix(".sha256").write_text("0" * 64 if damage == "another digest" else digest)
        if damage == "no digest":
            kept.with_suffix(".sha256").unlink()
        with open_rom(tiny_rom, cache=cache) as rom:
            assert np.array_equal(rom.features(batch), expected), damage
        import hashlib

        assert sessions(cache) == [kept]
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.with_suffix(".sha256").read_text()


def test_cached_session_does_not_hide_a_tampered_graph(rom: Path, tmp_path: Path) -> None:
    open_rom(rom, cache=tmp_path / "sessions").close()
    (rom / GRAPH).write_bytes((rom / GRAPH).read_bytes()[:-1] + b"\0\0")
    with pytest.raises(RomTampered, match=GRAPH):
        open_rom(rom, cache=tmp_path / "sessions")


def test_cache_that_cannot_be_made_costs_the_cache_only(tiny_rom: Path, tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("a file in its place")
    with open_rom(tiny_rom, cache=tmp_path / "sessions") as rom:
        assert rom.features(pictures(rom, 1)).shape == (1, 256)


def test_provider_that_is_not_there_is_an_error_and_no_fall_back(tiny_rom: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's onnxruntime has CUDA")
    with pytest.raises(RuntimeUnavailable, match="CUDAExecutionProvider"):
        open_rom(tiny_rom, device="cuda")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RomError, match="cannot be written"):
        write(tmp_path / "file" / "rom")


def test_default_rom_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export runs in a child; here one whose packages are not there."""
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'timm', 'onnx'):\n    sys.modules[name] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(absent))
    lines: list[str] = []
    with pytest.raises(MissingDependency, match="edgecl\\[learn"):
        ensure_default(tmp_path / "home" / "rom", lines.append)
    assert len(lines) == 1 and "seconds" in lines[0]


def test_default_rom_that_is_there_is_not_made_again(tiny_rom: Path) -> None:
    assert ensure_default(tiny_rom, pytest.fail) == tiny_rom
