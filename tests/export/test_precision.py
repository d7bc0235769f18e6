"""FP16 and INT8 images: made from FP32, gated, refused, forced; what the runtimes do with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecl.errors import ConfigError, RomError, RomTampered, RuntimeUnavailable
from edgecl.rom.image import GRAPH, MANIFEST, RomImage, compute_rom_id
from edgecl.types import Pixels

pytest.importorskip("onnxscript", reason="the export needs torch, timm and onnx: pip install 'edgecl[learn]'")
import onnx

from edgecl.checks import roms
from edgecl.rom.half import halve, widen
from edgecl.rom.ort import OrtRom
from edgecl.rom.parity import compare
from edgecl.rom.pytorch import PytorchRom
from export import calibrate, gate, precision
from export.__main__ import main
from export.reduce import reduce

LOWER = ("fp16", "int8")


@pytest.fixture(scope="module", autouse=True)
def small_gate() -> object:
    """Few stand-ins and a wide bound on them: what is tested here is the machinery, not a random network's accuracy."""
    patch = pytest.MonkeyPatch()
    patch.setattr(gate, "SHARE", 3)
    patch.setitem(gate.BOUNDS, "int8", dataclasses.replace(gate.BOUNDS["int8"], proxy_loss=0.5))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def sealed(tiny_rom: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RomImage]:
    """The tiny ROM in a lower precision, made once."""
    root, made = tmp_path_factory.mktemp("lower"), dict[str, RomImage]()

    def make(to: str) -> RomImage:
        if to not in made:
            made[to] = reduce(RomImage.open(tiny_rom), root / to, to)
        return made[to]

    return make


def operators(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


# -- what comes out


@pytest.mark.parametrize("to", LOWER)
def test_lower_precision_passes_its_gate_and_says_what_was_measured(to: str, sealed, tiny_rom: Path) -> None:
    image, plain = sealed(to), RomImage.open(tiny_rom)
    image.verify()
    assert image.precision == to and image.rom_id != plain.rom_id and image.weights == plain.weights
    record = image.parity
    assert record["against"] == plain.rom_id and record["proxy"] and record["failures"] == [] and not record["forced"]
    assert record["cosine"] > gate.BOUNDS[to].cosine and 0 < record["reference"]["joint"] <= 1
    assert (image.files[GRAPH]["bytes"] / plain.files[GRAPH]["bytes"]) < {"fp16": 0.55, "int8": 0.45}[to]  # tiny: much is names


def test_half_graph_computes_in_half_behind_float32_ends(sealed) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(sealed("fp16").read(GRAPH)))
    (pixels,), (features,) = model.graph.input, model.graph.output
    assert {v.type.tensor_type.elem_type for v in (pixels, features)} == {onnx.TensorProto.FLOAT}
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions and all(types[node.output[0]] == onnx.TensorProto.FLOAT16 for node in convolutions)


def test_widened_graph_has_no_casts_and_the_same_weights(sealed, tiny_rom: Path) -> None:
    graph = sealed("fp16").read(GRAPH)
    wide = widen(graph)
    assert "Cast" in operators(graph) and "Cast" not in operators(wide)
    onnx.checker.check_model(onnx.load_from_string(wide), full_check=True)
    halves = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(graph).graph.initializer}
    for tensor in onnx.load_from_string(wide).graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        assert value.dtype != np.float16 and np.array_equal(value, halves[tensor.name].astype(value.dtype))


def test_casts_from_whole_numbers_stay_when_widening() -> None:
    """A cast between float types is dropped, one from integers computes something."""
    h, t = onnx.helper, onnx.TensorProto
    nodes = [
        h.make_node("Shape", ["pixels"], ["shape"]),
        h.make_node("Cast", ["shape"], ["size"], to=t.FLOAT16),
        h.make_node("Cast", ["pixels"], ["half"], to=t.FLOAT16),
        h.make_node("ReduceSum", ["size"], ["count"], keepdims=1),
        h.make_node("Mul", ["half", "count"], ["product"]),
        h.make_node("Cast", ["product"], ["features"], to=t.FLOAT),
    ]
    ends = [h.make_tensor_value_info(n, t.FLOAT, [1, 2]) for n in ("pixels", "features")]
    model = h.make_model(h.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[h.make_opsetid("", 18)])
    model.ir_version = 9
    wide = onnx.load_from_string(widen(model.SerializeToString()))
    assert [n.op_type for n in wide.graph.node].count("Cast") == 1
    assert wide.graph.node[-1].output[0] == "features" or wide.graph.output[0].name == "features"


def test_quantised_graph_has_integer_weights_by_channel_and_a_float_end(sealed) -> None:
    model = onnx.load_from_string(sealed("int8").read(GRAPH))
    tensors = {t.name: t for t in model.graph.initializer}
    feeding = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions:
        weight = feeding[node.input[1]]
        assert weight.op_type == "DequantizeLinear" and tensors[weight.input[0]].data_type == onnx.TensorProto.INT8
        assert list(tensors[weight.input[1]].dims) == [tensors[weight.input[0]].dims[0]], "one scale per channel"
    assert len(convolutions) == len(precision.layers(sealed("int8").read(GRAPH))) > 10
    assert feeding[model.graph.output[0].name].op_type != "DequantizeLinear", "features are not rounded to 256 steps"


def test_int8_has_no_sockets_and_half_keeps_them(sealed, tiny_rom: Path) -> None:
    assert sealed("int8").sockets == () and sealed("fp16").sockets == RomImage.open(tiny_rom).sockets != ()


# -- the identity


@pytest.mark.parametrize("to", LOWER)
def test_same_pictures_give_the_same_rom_id(to: str, sealed, tiny_rom: Path, tmp_path: Path) -> None:
    assert reduce(RomImage.open(tiny_rom), tmp_path / "again", to).rom_id == sealed(to).rom_id


def test_other_calibration_gives_another_rom_id(sealed, tiny_rom: Path, tmp_path: Path, pictures_task) -> None:
    folder = pictures_task["shapes"]
    other = reduce(RomImage.open(tiny_rom), tmp_path / "other", "int8", calibration=folder, force=True)
    first = sealed("int8")
    assert other.rom_id != first.rom_id and other.quantised["calibration"]["source"] == "pictures of the user"
    assert other.quantised["calibration"]["sha256"] != first.quantised["calibration"]["sha256"]
    assert str(folder) not in (other.folder / MANIFEST).read_text(), "no path of this machine travels"


def test_float32_identity_is_what_it_was(tiny_rom: Path) -> None:
    """Heads in the field are bound to it."""
    image = RomImage.open(tiny_rom)
    assert image.quantised == {} and "quantised" not in json.loads((tiny_rom / MANIFEST).read_text())
    assert image.rom_id == compute_rom_id(image.backbone, image.features, image.preprocess, "fp32", image.weights)


@pytest.mark.parametrize("change", ["digest", "missing", "precision", "unknown"])
def test_manifest_that_lies_about_its_precision_is_refused(change: str, sealed, tmp_path: Path) -> None:
    raw = json.loads((sealed("int8").folder / MANIFEST).read_text())
    if change == "digest":
        raw["quantised"]["digest"] = "0" * 64
    elif change == "missing":
        del raw["quantised"]
    else:
        raw["precision"] = "fp32" if change == "precision" else "int4"
    (tmp_path / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(RomTampered if change == "digest" else RomError, match="export"):
        RomImage.open(tmp_path)


# -- the gate


def grey(preprocess, folder=None, count=calibrate.COUNT) -> calibrate.Calibration:
    """Pictures on which nearly all values lie in a narrow range, so that real ones are cut off."""
    flat = np.full((4, preprocess.size, preprocess.size, 3), 128, np.uint8)
    return calibrate.Calibration(flat, "constant pictures")


def test_useless_calibration_is_refused_and_nothing_is_written(
    tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "calibration", grey)
    lines: list[str] = []
    with pytest.raises(RomError, match=r"int8 does not pass its gate: mean cosine of the features 0\.\d+, asked") as error:
        reduce(RomImage.open(tiny_rom), tmp_path / "rom", "int8", say=lines.append)
    assert "--force" in str(error.value) and not list(tmp_path.iterdir())
    assert any("layers to keep in float32" in line for line in lines), "it has tried to save it"


def test_force_writes_what_the_gate_refuses_and_says_so(
    tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gate.BOUNDS, "fp16", gate.Bounds(2.0, 2.0, -1.0, -1.0))
    with pytest.raises(RomError, match="smallest cosine"):
        reduce(RomImage.open(tiny_rom), tmp_path / "rom", "fp16")
    lines: list[str] = []
    image = reduce(RomImage.open(tiny_rom), tmp_path / "rom", "fp16", force=True, say=lines.append)
    assert image.parity["forced"] and len(image.parity["failures"]) == 3 and any("BY FORCE" in line for line in lines)


def test_layers_are_kept_until_the_gate_holds(tiny_rom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound just above what full quantisation reaches: the layers that gain most stay float32, and it then holds."""
    import export.reduce as module

    monkeypatch.setattr(module, "KEEP", 0.6)
    image = RomImage.open(tiny_rom)
    whole = reduce(image, tmp_path / "whole", "int8")
    reached = whole.parity["mean_cosine"]
    monkeypatch.setitem(gate.BOUNDS, "int8", gate.Bounds(reached + (1 - reached) / 20, 0.0, 1.0, 1.0))
    saved = reduce(image, tmp_path / "saved", "int8")
    kept = saved.quantised["kept_in_float32"]
    assert kept and saved.parity["mean_cosine"] > reached and saved.rom_id != whole.rom_id
    model = onnx.load_from_string(saved.read(GRAPH))
    initializers = {t.name for t in model.graph.initializer}
    assert all(node.input[1] in initializers for node in model.graph.node if node.name in kept), "its weights are float32"


def test_sensitivity_finds_the_layer_that_is_spoilt(tiny_rom: Path) -> None:
    """A "quantiser" that adds noise to one layer's weights unless it is kept: keeping that one gains all, others nothing."""
    image = RomImage.open(tiny_rom)
    graph, p = image.read(GRAPH), image.preprocess
    some = calibrate.calibration(p, count=4).pictures
    names = list(precision.layers(graph))[::6]
    victim = names[2]

    def build(keep) -> bytes:
        model = onnx.load_from_string(graph)
        weight = next(node.input[1] for node in model.graph.node if node.name == victim)
        for tensor in model.graph.initializer if victim not in keep else ():
            if tensor.name == weight:
                value = onnx.numpy_helper.to_array(tensor)
                noise = np.random.default_rng(0).normal(0, value.std(), value.shape).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value + noise, weight))
        return model.SerializeToString()

    gains = calibrate.sensitivity(build, names, calibrate.features(graph, some, p), some, p)
    assert gains.pop(victim) > 0.999 and max(map(abs, gains.values())) < 1e-3


def test_gate_on_labelled_pictures(tiny_rom: Path, tmp_path: Path, pictures_task) -> None:
    """A folder of tasks: the figures are its own, and no proxy."""
    tasks = pictures_task["colours"].parent
    found, proxy = gate.labelled(tasks)
    assert [t.name for t in found] == ["colours", "shapes", "stripes"] and not proxy
    image = reduce(RomImage.open(tiny_rom), tmp_path / "rom", "fp16", labelled=tasks)
    assert not image.parity["proxy"] and image.parity["tasks"] == "3 tasks of the user"
    assert image.parity["test_pictures"] == sum(len(t.test) for t in found) and image.parity["reference"]["joint"] > 0.6


def test_loss_of_accuracy_is_held_against_its_bound() -> None:
    good = gate.Verdict("int8", 16, 0.1, 4.0, 0.95, 0.99, "2 tasks", False, {}, {}, 0.009, 0.0, 100)
    assert good.failures() == []
    assert "joint accuracy falls by 1.50 points" in dataclasses.replace(good, loss=0.015).failures()[0]
    assert dataclasses.replace(good, loss=0.015, error=0.006).failures() == []
    assert dataclasses.replace(good, loss=0.015, proxy=True).failures() == []
    assert len(dataclasses.replace(good, cosine=float("nan"), mean_cosine=float("nan")).failures()) == 2


# -- refusals


def test_only_float32_is_made_smaller(sealed, tmp_path: Path) -> None:
    with pytest.raises(RomError, match="is int8 already"):
        reduce(sealed("int8"), tmp_path / "rom", "fp16")
    with pytest.raises(ConfigError, match="no precision 'int4'"):
        reduce(sealed("int8"), tmp_path / "rom", "int4")


def test_weights_beyond_half_precision_are_refused(tiny_rom: Path) -> None:
    model = onnx.load_from_string(RomImage.open(tiny_rom).read(GRAPH))
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    value = onnx.numpy_helper.to_array(tensor).copy()
    value.flat[0] = 1e6
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    with pytest.raises(RomError, match="half precision ends at 65504"):
        halve(model.SerializeToString())


def test_pytorch_refuses_int8_and_runs_half(sealed, tiny_rom: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="INT8"):
        PytorchRom(sealed("int8"))
    pixels = calibrate.calibration(sealed("fp16").preprocess, count=4).pictures
    with PytorchRom(sealed("fp16")) as wide, OrtRom(sealed("fp16")) as half:
        assert compare(wide.features(pixels), half.features(pixels)).holds(0.02, 0.999)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "fp32", "--force"], "add --precision"),
        (["--precision", "fp16", "--calibration", "."], "add --precision int8"),
        (["--precision", "int8", "--calibration", "nowhere"], "no such folder"),
        (["--precision", "int8", "--gate", "nowhere"], "no such folder"),
        (["--precision", "int8", "--rom", "nowhere"], "no ROM image at nowhere"),
    ],
)
def test_command_refuses_with_a_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "rom")]) in (2, 5)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "rom").exists()


def test_command_makes_an_int8_image_of_a_sealed_one(tiny_rom: Path, tmp_path: Path, sealed, capsys) -> None:
    assert main(["--precision", "int8", "--rom", str(tiny_rom), "-o", str(tmp_path / "rom")]) == 0
    out = capsys.readouterr().out
    assert "PROXY" in out and sealed("int8").rom_id[:12] in out and "calibrating with 48 pictures" in out


# -- the contract of a ROM

PLAIN = [check for check in roms.CHECKS if not any(word in check.__name__ for word in ("plug", "mixed", "threads"))]


@pytest.mark.parametrize("to", LOWER)
@pytest.mark.parametrize("check", PLAIN, ids=lambda check: check.__name__.removeprefix("check_"))
def test_lower_precision_keeps_the_contract(check, to: str, sealed) -> None:
    """The reference is the same image: how far it lies from FP32 is the gate's question."""
    with OrtRom(sealed(to)) as reference:
        check(lambda: OrtRom(sealed(to)), reference)


def test_cached_session_of_a_half_image_answers_the_same(sealed, tmp_path: Path) -> None:
    def ask() -> Pixels:
        with OrtRom(sealed("fp16"), cache=tmp_path) as rom:
            return rom.features(roms.pictures(rom, 2))

    assert np.array_equal(ask(), ask()) and list(tmp_path.glob("*.onnx"))


@pytest.mark.slow
def test_default_backbone_reaches_the_stated_sizes(tmp_path: Path) -> None:
    """FP16 at most 0.52, INT8 at most 0.30 of the FP32 file. Slow: exports the default backbone and gates it twice."""
    from export.seal import seal

    plain = seal(tmp_path / "fp32", "tf_efficientnet_lite0")
    for to, bound in (("fp16", 0.52), ("int8", 0.30)):
        image = reduce(plain, tmp_path / to, to)
        assert image.files[GRAPH]["bytes"] <= bound * plain.files[GRAPH]["bytes"] and not image.parity["forced"]
