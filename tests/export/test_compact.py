"""Compacting a ROM: the fit against least squares done another way, the shares, and the way to an image and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the lab needs torch; pip install 'edgecl[learn]'")
pytest.importorskip("onnxruntime", reason="the image is compared on it; pip install 'edgecl[cpu]'")

from edgecl.errors import ConfigError, RomError
from edgecl.pictures.decode import decode
from edgecl.rom.image import FREE, MANIFEST, WEIGHTS, RomImage, weights_digest
from edgecl.rom.torch_compat import torch
from export import gate
from export.__main__ import main, points
from export.calibrate import calibration
from export.compact import _seen, compact, free, shares
from export.refit import fitted, inputs_at

PARTS = (lambda task: task.train, lambda task: task.test)


@pytest.fixture(scope="module")
def compacted(tiny_freed: Path) -> RomImage:
    return RomImage.open(tiny_freed)


def test_what_stays_is_fitted_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(1, 1, (400, 6)) @ rng.normal(0, 1, (6, 6)), rng.normal(0, 1, (4, 6))
    y = x @ w.T + 3
    new, bias, gone = fitted(w.reshape(4, 6, 1, 1), 1, x[:, None], y, 0.5)
    assert gone.reshape(4, 6).sum(1).tolist() == [3] * 4 and not new[gone].any()
    for r in range(4):
        kept = ~gone[r].ravel()
        design = np.column_stack([x[:, kept], np.ones(len(x))])
        best, *_ = np.linalg.lstsq(design, y[:, r], rcond=None)
        found = np.append(new[r].ravel()[kept], bias[r])
        residual = [float(np.square(y[:, r] - design @ solution).mean()) for solution in (best, found)]
        assert residual[1] <= residual[0] * 1.01 + 1e-6  # the ridge costs next to nothing
        pruned = float(np.square(y[:, r] - x @ (w[r] * kept) - 3).mean())
        assert residual[1] < pruned, "no better than leaving the others as they were"


def test_nothing_gone_and_nothing_changed_is_the_layer_itself() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.normal(0, 1, (6, 1, 3, 3)), rng.normal(0, 1, (300, 6, 9))
    y = np.einsum("sgq,gq->sg", x, w.reshape(6, 9))
    new, bias, gone = fitted(w, 6, x, y, 0.0)
    assert not gone.any()
    np.testing.assert_allclose(new, w, atol=1e-5)
    np.testing.assert_allclose(bias, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (torch.nn.Conv2d(4, 6, 3, 2, 1, bias=False), (9, 8)),
        (torch.nn.Conv2d(4, 8, (3, 5), 1, (1, 2), groups=4, bias=False), (7, 8)),
        (torch.nn.Conv2d(4, 6, 3, 1, 2, dilation=2, bias=False), (7, 7)),
        (torch.nn.Conv2d(4, 6, 1, bias=False), (3, 4)),
        (torch.nn.Conv2d(4, 6, 1, 2, bias=False), (5, 4)),
    ],
)
def test_what_a_convolution_reads(conv: torch.nn.Conv2d, size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = conv(x)
        n, c, h, w = y.shape
        read = inputs_at(conv, x, torch.arange(h * w)[None].repeat(n, 1))
    weight = conv.weight.detach().double().numpy().reshape(conv.groups, -1, read.shape[2])
    found = np.einsum("sgq,grq->sgr", read, weight).reshape(n, h * w, c).transpose(0, 2, 1).reshape(n, c, h, w)
    np.testing.assert_allclose(found, y.numpy(), atol=1e-5)


def test_shares_add_up_and_spare_small_and_depthwise_layers(tiny_rom: Path) -> None:
    image = RomImage.open(tiny_rom)
    sizes = {name: places.size for name, places in image.free.items()}
    for share in (0.1, 0.5, 0.7):
        found = shares(image, share)
        freed = sum(part * sizes[name] for name, part in found.items())
        assert freed == pytest.approx(share * sum(sizes.values()), rel=1e-6)
        assert image.sockets[0].name not in found and not any(s.name in found for s in image.sockets if s.depthwise)
    for wrong in (0, 1, 0.95, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="--free"):
            shares(image, wrong)


def test_a_compacted_image_is_an_image_like_any_other(compacted: RomImage, tiny_rom: Path) -> None:
    from safetensors.numpy import load

    compacted.verify()
    weights = load(compacted.read(WEIGHTS))
    free_places = sum(int(places.sum()) for places in compacted.free.values())
    assert free_places / sum(p.size for p in compacted.free.values()) == pytest.approx(0.5, abs=0.01)
    assert not any(weights[f"{name}.weight"][places].any() for name, places in compacted.free.items())
    assert compacted.rom_id != RomImage.open(tiny_rom).rom_id and FREE in compacted.files
    said = json.loads((compacted.folder / MANIFEST).read_text())["compacted"]
    assert said["share"] == pytest.approx(0.5, abs=0.01) and said["against"] == RomImage.open(tiny_rom).rom_id
    assert said["verdict"]["proxy"] and said["calibration"]["source"] and said["verdict"]["mean_cosine"] > 0.95


def test_the_same_pictures_give_the_same_weights(tiny_rom: Path) -> None:
    image = RomImage.open(tiny_rom)
    seen = calibration(image.preprocess, None, 6).pictures
    first, again = (compact(image, 0.5, seen, lambda stage, done, total: None) for _ in range(2))
    assert weights_digest(first.state) == weights_digest(again.state)
    assert all(np.array_equal(places, again.free[name]) for name, places in first.free.items())


def test_half_precision_keeps_the_free_places(compacted: RomImage, tmp_path: Path) -> None:
    from export.reduce import reduce

    half = reduce(compacted, tmp_path / "half", "fp16", force=True)
    half.verify()
    assert all(np.array_equal(half.free[name], places) for name, places in compacted.free.items())


def test_an_unreachable_goal_writes_nothing(tiny_rom: Path, tmp_path: Path, pictures_task: dict) -> None:
    """A goal below what any pruning gives: here, that accuracy must rise by everything."""
    tasks = next(iter(pictures_task.values())).parent
    with pytest.raises(RomError, match="Nothing was written"):
        free(RomImage.open(tiny_rom), tmp_path / "rom", 0.1, -1.0, calibration=tasks, labelled=tasks)
    assert not (tmp_path / "rom").exists()


def test_what_cannot_be_compacted_is_refused(compacted: RomImage, tmp_path: Path) -> None:
    with pytest.raises(RomError, match="compacted already"):
        free(compacted, tmp_path / "rom", 0.5)


@pytest.mark.parametrize("text", ["0.5", "pt", "-1pt", "half", "nanpt", "101pt"])
def test_goals_are_points(text: str) -> None:
    assert points("0.5pt") == 0.005 and points("0 pt") == 0
    with pytest.raises(ConfigError, match="points"):
        points(text)


def test_options_that_would_be_passed_over_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        (["--goal", "1pt"], "--free"),
        (["--free", "0.5", "--precision", "fp16"], "FP32"),
        (["--free", "0.5", "--force"], "--force"),
        (["--free", "2"], "between 0 and 1"),
        (["--free", "0.5", "--goal", "much"], "points"),
    ):
        assert main([*options, "-o", str(tmp_path / "rom")]) != 0
        assert said in capsys.readouterr().err


def test_with_tasks_at_hand_it_is_fitted_on_their_training_pictures(tiny_rom: Path, pictures_task: dict[str, Path]) -> None:
    """And on none of the test pictures, by which it is judged."""
    image = RomImage.open(tiny_rom)
    tasks, proxy = gate.labelled(next(iter(pictures_task.values())).parent)
    seen = _seen(image, None, tasks)
    train, test = ({decode(path, image.preprocess).tobytes() for t in tasks for path in part(t)} for part in PARTS)
    found = {picture.tobytes() for picture in seen.pictures}
    assert not proxy and found <= train and not found & (test - train) and len(seen.pictures) > 2
    assert seen.source != _seen(image, None, []).source
