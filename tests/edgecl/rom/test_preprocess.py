"""Preprocessing equals timm's and the textbook formula, and an untrusted manifest cannot smuggle anything in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import ConfigError, EdgeclError, PictureError, RomError
from edgecl.rom.preprocess import Preprocess, normalise, pixels

IMAGENET = Preprocess(size=32, crop=1.0, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (300, 300), (50, 80)])
def test_pixels_equal_resize_then_centre_crop(height: int, width: int) -> None:
    """Computed as timm does: resize the shorter side to 256, then cut 224 out of the middle."""
    image = Image.fromarray(smooth(height, width))
    scale = 256 / min(height, width)
    w, h = round(width * scale), round(height * scale)
    left, top = (w - 224) // 2, (h - 224) // 2
    theirs = image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    ours = pixels(image, Preprocess())
    assert ours.shape == (224, 224, 3) and ours.dtype == np.uint8
    difference = np.abs(ours.astype(int) - np.asarray(theirs))
    assert difference.mean() < 1 and difference.max() <= 8  # half a pixel of rounding in their crop


def test_pixels_look_at_the_centre_only() -> None:
    array = np.zeros((100, 300, 3), np.uint8)
    array[:, 100:200] = 200
    assert (pixels(array, Preprocess(size=16, crop=0.5, interpolation="nearest")) == 200).all()


def test_pixels_take_grey_arrays_and_pil_images_alike() -> None:
    grey = smooth(40, 40)[:, :, 0]
    p = Preprocess(size=24)
    expected = pixels(np.repeat(grey[:, :, None], 3, axis=2), p)
    for image in (grey, grey[:, :, None], Image.fromarray(grey)):
        assert np.array_equal(pixels(image, p), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (7, 3)])
def test_pixels_of_a_tiny_or_thin_picture_are_enlarged(height: int, width: int) -> None:
    assert (pixels(np.full((height, width, 3), 77, np.uint8), Preprocess()) == 77).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_pixels_refuse_an_array_that_is_no_picture(array: Any) -> None:
    with pytest.raises(PictureError, match="got"):
        pixels(array, Preprocess())


@pytest.mark.parametrize("p", [Preprocess(size=32), IMAGENET])
def test_normalise_is_the_textbook_formula_in_planes(p: Preprocess) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    out = normalise(batch, p)
    expected = np.moveaxis((batch / 255.0 - p.mean) / p.std, 3, 1)
    assert out.dtype == np.float32 and out.flags.c_contiguous and out.shape == (5, 3, 32, 32)
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_normalise_gives_a_picture_the_same_bits_in_any_batch() -> None:
    batch = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    assert np.array_equal(normalise(batch, IMAGENET)[2], normalise(batch[2:3], IMAGENET)[0])
    assert normalise(batch[:0], IMAGENET).shape == (0, 3, 224, 224)


def test_normalise_refuses_planes_first() -> None:
    with pytest.raises(PictureError, match=r"\(1, 3, 8, 8\)"):
        normalise(np.zeros((1, 3, 8, 8), np.uint8), Preprocess())


def test_settings_survive_json() -> None:
    for p in (Preprocess(), IMAGENET):
        assert Preprocess.from_dict(json.loads(json.dumps(p.to_dict()))) == p


def test_equal_settings_serialise_equally_so_that_rom_id_agrees() -> None:
    ints = dataclasses.replace(Preprocess(), mean=(0, 0, 0), std=(1, 1, 1), crop=1)
    floats = dataclasses.replace(Preprocess(), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop=1.0)
    assert json.dumps(ints.to_dict()) == json.dumps(floats.to_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"size": 10**9},
        {"size": "224"},
        {"size": True},
        {"size": 10**3000},
        {"crop": 0},
        {"crop": float("nan")},
        {"crop": 10**400},
        {"interpolation": "os.system"},
        {"interpolation": ["bicubic"]},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, float("inf")]},
        {"std": [0.5, 0.0, 0.5]},
        {"std": 0.5},
        {"extra": 1},
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused_and_the_key_named(change: dict[str, Any]) -> None:
    with pytest.raises(RomError, match=next(iter(change))) as caught:
        Preprocess.from_dict({**Preprocess().to_dict(), **change})
    assert len(str(caught.value)) < 300


def test_a_manifest_that_lacks_a_key_or_is_no_table_is_refused() -> None:
    short = Preprocess().to_dict()
    del short["std"]
    with pytest.raises(RomError, match="std"):
        Preprocess.from_dict(short)
    wrong: Any = [1, 2]
    with pytest.raises(RomError, match="list"):
        Preprocess.from_dict(wrong)


def test_a_wrong_setting_in_python_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="size is 3") as caught:
        Preprocess(size=3)
    assert isinstance(caught.value, EdgeclError)
