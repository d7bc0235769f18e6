"""Pictures where the user gives none: the same ones everywhere, and of more kinds than two photographs hold."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="its two photographs are cut up")

from edgecl.rom.preprocess import Preprocess
from export.calibrate import calibration
from export.standins import standins

PREPROCESS = Preprocess(size=32)


def test_the_same_pictures_every_time_and_more_of_them_begin_with_the_same() -> None:
    """The fit, and with it the ROM's identity, depends on each pixel."""
    some = standins(PREPROCESS, 7)
    assert some.shape == (7, 32, 32, 3) and some.dtype == np.uint8
    assert np.array_equal(some, standins(PREPROCESS, 7)) and np.array_equal(some, standins(PREPROCESS, 12)[:7])


def test_they_stir_more_than_crops_do() -> None:
    """Colours spread in all directions, not along grey alone: the smallest of their three variances says how far."""

    def narrowest(pictures: np.ndarray) -> float:
        return float(np.linalg.eigvalsh(np.cov(pictures.reshape(-1, 3).T.astype(np.float64)))[0])

    drawn, crops = standins(PREPROCESS, 60), calibration(PREPROCESS, None, 60).pictures
    assert narrowest(drawn) > 1.5 * narrowest(crops)
    assert all(picture.std() > 1 for picture in drawn), "a picture of one colour says nothing"
