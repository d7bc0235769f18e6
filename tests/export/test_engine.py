"""Real engines, built by TensorRT-RTX for GPUs that are not here; what they are is asserted on the parsed network."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecl.cli import main as cli
from edgecl.errors import ConfigError, MissingDependency, RomError
from edgecl.rom import image as rom_image
from edgecl.rom import trt_api, trt_build
from edgecl.rom.image import GRAPH, RomImage
from edgecl.rom.opening import DEFAULT_BACKBONE
from edgecl.rom.trt_build import PLAIN, Parsed, Target
from export.engine import SOCKETS, engines


@pytest.fixture(scope="module")
def rtx() -> trt_api.TensorRT:
    try:
        return trt_api.find(build_without_gpu=True)
    except MissingDependency as error:
        pytest.skip(f"engines are built with TensorRT-RTX: {error}")


@pytest.fixture(scope="module")
def image(tiny_rom: Path) -> RomImage:
    return RomImage.open(tiny_rom)


def another_graph(image: RomImage, folder: Path, graph: bytes, precision: str = "fp32") -> RomImage:
    """A ROM image like `image` with another graph in it."""
    from safetensors.numpy import load

    return rom_image.write(
        folder,
        backbone=image.backbone,
        features=image.features,
        preprocess=image.preprocess,
        precision=precision,
        graph=graph,
        weights=load(image.read(rom_image.WEIGHTS)),
        parity={},
        made_with={},
        sockets=image.sockets,
    )


@pytest.fixture(scope="module")
def half_image(image: RomImage, tmp_path_factory: pytest.TempPathFactory) -> RomImage:
    """As `export --precision fp16` writes it."""
    from edgecl.rom.half import halve

    return another_graph(image, tmp_path_factory.mktemp("half") / "rom", halve(image.read(GRAPH)), "fp16")


# -- building


@pytest.mark.parametrize("sm", ["86", "89"])
def test_engines_are_built_plain_and_socketed(rtx: trt_api.TensorRT, tiny_rom: Path, tmp_path: Path, sm: str) -> None:
    made = list(engines(tiny_rom, tmp_path, [sm]))
    image = RomImage.open(tiny_rom)
    channels = sum(s.channels for s in image.sockets)
    assert [m.facts.sockets for m in made] == list(SOCKETS)
    for one, names in zip(made, (["pixels"], ["pixels", "shift"], ["pixels", "shift", "kernel", "gain"]), strict=True):
        facts = one.facts
        assert one.built and one.path and one.path.read_bytes() == one.data and len(one.data) == facts.bytes > 500_000
        assert (facts.sm, facts.precision, facts.rom_id, facts.built_with) == (sm, "fp32", image.rom_id, str(rtx))
        assert facts.convolutions == {"fp32": len(image.sockets)} and not facts.quantised
        assert list(facts.inputs) == names and facts.inputs["pixels"] == "fp32 (n, 3, 160, 160)"
        assert facts.inputs.get("shift", f"fp32 (n, {channels})") == f"fp32 (n, {channels})"
        assert facts.outputs == {"features": "fp32 (n, 256)"}
        assert json.loads(one.path.with_suffix(".json").read_text())["sha256"] == facts.sha256


@pytest.mark.filterwarnings("ignore")
def test_network_of_the_default_rom_is_built(rtx: trt_api.TensorRT, image: RomImage) -> None:
    """Plain and untrained, by torch's older exporter: the one that ROMs are made with takes 20 s for it."""
    from edgecl.rom.pytorch import feature_network, torch

    graph, network = io.BytesIO(), feature_network(DEFAULT_BACKBONE)
    names = {
        "input_names": ["pixels"],
        "output_names": ["features"],
        "dynamic_axes": {"pixels": {0: "n"}, "features": {0: "n"}},
    }
    torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), graph, dynamo=False, opset_version=17, **names)
    parsed = Parsed(rtx, graph.getvalue())
    lite0 = replace(image, features=1280, preprocess=replace(image.preprocess, size=224))
    assert parsed.check(lite0, PLAIN)["convolutions"] == {"fp32": 49}
    assert len(parsed.build(Target("89"), None, lambda stage, done, total: None)) > 10_000_000


@pytest.mark.slow
def test_default_rom_is_built_with_all_its_sockets(rtx: trt_api.TensorRT, tmp_path: Path) -> None:
    from export.seal import seal

    rom = seal(tmp_path / "rom", DEFAULT_BACKBONE, "random")
    made = list(engines(rom.folder, tmp_path, ["86", "89"]))
    assert len(made) == 6 and all(m.facts.convolutions == {"fp32": 49} for m in made)
    assert {m.facts.inputs.get("shift") for m in made} == {None, "fp32 (n, 21008)"}
    assert {m.facts.inputs.get("kernel") for m in made} == {None, "fp32 (n, 8992, 9)"}


def test_half_precision_is_recognised_and_built(rtx: trt_api.TensorRT, half_image: RomImage, tmp_path: Path) -> None:
    for sockets in SOCKETS:
        facts = trt_build.engine(half_image, sockets, rtx, Target("89"), tmp_path).facts
        assert facts.precision == "fp16" and facts.convolutions == {"fp16": len(half_image.sockets)}
        spoken = [*facts.inputs.values(), *facts.outputs.values()]
        assert all(tensor.startswith("fp32 ") for tensor in spoken), "pictures, plugs and heads speak float32"


def test_quantised_graph_is_recognised(rtx: trt_api.TensorRT, image: RomImage) -> None:
    """Q/DQ around one convolution's input is enough to be int8."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(image.read(GRAPH))
    first = model.graph.node[0]
    for name, value in (("s", np.float32(0.02)), ("z", np.int8(0))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    quantise = onnx.helper.make_node("QuantizeLinear", ["pixels", "s", "z"], ["q"])
    back = onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"])
    first.input[0] = "dq"
    model.graph.node.insert(0, back)
    model.graph.node.insert(0, quantise)
    found = Parsed(rtx, model.SerializeToString()).check(replace(image, precision="int8"), PLAIN)
    assert found["precision"] == "int8" and found["quantised"] == 2


# -- graphs that are refused before anything is built


def test_precision_other_than_the_manifest_says_is_refused(
    rtx: trt_api.TensorRT, image: RomImage, half_image: RomImage, tmp_path: Path
) -> None:
    with pytest.raises(RomError, match=r"manifest says precision fp16, the graph is fp32: convolutions \{'fp32': \d+\}"):
        Parsed(rtx, image.read(GRAPH)).check(half_image, PLAIN)
    with pytest.raises(RomError, match="manifest says precision fp32, the graph is fp16"):
        Parsed(rtx, half_image.read(GRAPH)).check(image, PLAIN)


def test_graph_of_another_network_is_refused(rtx: trt_api.TensorRT, image: RomImage) -> None:
    parsed = Parsed(rtx, image.read(GRAPH))
    with pytest.raises(RomError, match=r"answers \{'features': 'fp32 \(n, 256\)'\}, the manifest says.*\(n, 300\)"):
        parsed.check(replace(image, features=300), PLAIN)
    with pytest.raises(RomError, match=r"takes .*'pixels': 'fp32 \(n, 3, 160, 160\)'.*the manifest says.*'shift'"):
        parsed.check(image, "shift")


def test_operator_that_tensorrt_does_not_know_is_named(rtx: trt_api.TensorRT, image: RomImage) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(image.read(GRAPH))
    model.graph.node[1].op_type, model.graph.node[1].domain = "NobodysOperator", "org.example"
    model.opset_import.append(onnx.helper.make_opsetid("org.example", 1))
    with pytest.raises(RomError, match=r"cannot read the ROM's graph.*NobodysOperator"):
        Parsed(rtx, model.SerializeToString())
    with pytest.raises(RomError, match="cannot read the ROM's graph"):
        Parsed(rtx, b"no graph at all")


# -- the cache


def test_engine_is_found_again_and_named_by_all_that_matters(
    rtx: trt_api.TensorRT, image: RomImage, half_image: RomImage, tmp_path: Path
) -> None:
    said: list[str] = []
    first = trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path, said.append)
    again = trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path, said.append)
    assert first.built and not again.built and (again.data, again.facts) == (first.data, first.facts) and len(said) == 1
    other = trt_build.engine(image, PLAIN, rtx, Target("89"), tmp_path, said.append)
    assert other.built and other.path != first.path and len(list(tmp_path.glob("*.engine"))) == 2
    full = replace(rtx, rtx=False)
    keys = [
        trt_build.key(image, PLAIN, rtx, Target("86")),
        trt_build.key(image, "shift", rtx, Target("86")),
        trt_build.key(image, "shift+kernel", rtx, Target("86")),
        trt_build.key(replace(image, sockets=image.sockets[:-1]), "shift", rtx, Target("86")),
        trt_build.key(half_image, PLAIN, rtx, Target("86")),
        trt_build.key(image, PLAIN, replace(rtx, version="1.0"), Target("86")),
        trt_build.key(image, PLAIN, replace(rtx, name="TensorRT"), Target("86")),
        trt_build.key(image, PLAIN, full, Target("86", "A", "13.0")),
        trt_build.key(image, PLAIN, full, Target("86", "B", "13.0")),
        trt_build.key(image, PLAIN, full, Target("86", "A", "13.1")),
    ]
    assert len(set(keys)) == len(keys)
    here = trt_build.key(image, PLAIN, rtx, Target("86", "the GPU that runs it", "13.1"))
    assert here == keys[0], "an engine that TensorRT-RTX built elsewhere is found on the device"


@pytest.mark.parametrize("damage", ["engine", "cut", "facts", "no facts", "other facts"])
def test_damaged_engine_is_built_again_and_said(rtx: trt_api.TensorRT, image: RomImage, tmp_path: Path, damage: str) -> None:
    first = trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path)
    assert first.path
    facts = first.path.with_suffix(".json")
    if damage == "engine":
        first.path.write_bytes(first.data[:-1] + bytes([first.data[-1] ^ 1]))
    elif damage == "cut":
        first.path.write_bytes(first.data[:1000])
    elif damage == "no facts":
        facts.unlink()
    else:
        facts.write_text("{" if damage == "facts" else '{"batches": [1], "surprise": 1}')
    said: list[str] = []
    again = trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path, said.append)
    assert again.built and "is damaged" in said[0] and str(first.path) in said[0]
    assert not trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path).built


def test_ctrl_c_stops_the_build_and_leaves_no_file(rtx: trt_api.TensorRT, image: RomImage, tmp_path: Path) -> None:
    shown: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        shown.append(done)
        if len(shown) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path, progress=stop)
    assert len(shown) == 3 and not list(tmp_path.iterdir())


def test_progress_grows_to_the_end(rtx: trt_api.TensorRT, image: RomImage) -> None:
    shown: list[tuple[str, int, int]] = []
    trt_build.engine(image, PLAIN, rtx, Target("86"), None, progress=lambda *step: shown.append(step))
    percents = [done for _, done, _ in shown]
    assert percents == sorted(percents) and percents[-1] == 100 and len(percents) > 5
    assert {(stage, total) for stage, _, total in shown} == {("building the engine for 86", 100)}


def test_folder_that_cannot_be_written_costs_the_cache_but_not_the_answer(
    rtx: trt_api.TensorRT, tiny_rom: Path, image: RomImage, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    made = trt_build.engine(image, PLAIN, rtx, Target("86"), tmp_path / "file", said.append)
    assert made.built and made.path is None and "could not be kept" in said[-1]
    with pytest.raises(RomError, match="cannot be written"):
        list(engines(tiny_rom, tmp_path / "file", ["86"], [PLAIN]))


# -- what the person may ask for


def test_unknown_wishes_are_refused_before_anything_is_built(rtx: trt_api.TensorRT, tiny_rom: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"compute capability '90'; it knows 75, .*86, 89"):
        engines(tiny_rom, tmp_path, ["86", "90"])
    with pytest.raises(ConfigError, match=r"no sockets 'kernel'; known: none, shift, shift\+kernel"):
        engines(tiny_rom, tmp_path, ["86"], ["kernel"])
    with pytest.raises(ConfigError, match="builds only for the GPU it runs on"):
        trt_api.check_sm(replace(rtx, rtx=False, name="TensorRT"), "86")
    assert not list(tmp_path.iterdir())


def test_rom_without_sockets_gets_the_plain_engine(rtx: trt_api.TensorRT, image: RomImage, tmp_path: Path) -> None:
    bare = another_graph(replace(image, sockets=()), tmp_path / "rom", image.read(GRAPH))
    assert [m.facts.sockets for m in engines(bare.folder, tmp_path, ["sm_86"])] == [PLAIN]
    with pytest.raises(RomError, match="no sockets"):
        engines(bare.folder, tmp_path, ["8.6"], ["shift"])


@pytest.fixture
def edgecl(monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture) -> Iterator[Any]:
    """The command line in this process: arguments -> exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgecl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    yield run


def test_command_builds_into_the_homes_cache_and_says_what_it_built(rtx: Any, edgecl: Any, tiny_rom: Path, home: Path) -> None:
    code, out, err = edgecl("export", "--target", "tensorrt", "--rom", tiny_rom, "--sm", "86,8.9", "--sockets", "none,shift")
    assert code == 0, err
    assert out.count(f"{rtx}, compute capability 8") == 4 and out.count(": fp32 (convolutions: ") == 4
    assert out.count("shift fp32 (n, ") == 2 and err.count("building an engine") == 4
    assert len(list((home / "cache" / "sessions").glob("*.engine"))) == 4
    code, out, err = edgecl("export", "--target", "tensorrt", "--rom", tiny_rom, "--sm", "86", "--sockets", "none")
    assert code == 0 and "found in the cache" in out and "building" not in err


def test_command_ends_with_a_sentence(rtx: Any, edgecl: Any, tiny_rom: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for arguments, code, words in (
        (("--target", "tensorrt", "--rom", tiny_rom, "--sm", "12"), 2, "compute capability '12'"),
        (("--target", "tensorflow"), 2, "no target 'tensorflow'; did you mean 'tensorrt'"),
        (("--target", "tensorrt", "--rom", tmp_path / "nowhere", "--sm", "86"), 5, "no ROM image at"),
        (("--sm", "86", "-o", tmp_path), 2, "go with --target tensorrt"),
        ((), 2, "edgecl export -o FOLDER"),
    ):
        got = edgecl("export", *arguments)
        assert got[0] == code and words in got[2] and got[2].count("\n") == 1, got
    monkeypatch.setattr("edgecl.rom.cuda.LIBRARY", "libcuda-that-is-not-there.so.1")
    code, _, err = edgecl("export", "--target", "tensorrt", "--rom", tiny_rom)
    assert code == 3 and "no usable NVIDIA driver" in err and "--sm 86" in err
    monkeypatch.setattr(trt_api, "MODULES", ("tensorrt_that_is_not_there",) * 2)
    code, _, err = edgecl("export", "--target", "tensorrt", "--rom", tiny_rom, "--sm", "86")
    assert code == 3 and "edgecl[tensorrt-rtx]" in err
