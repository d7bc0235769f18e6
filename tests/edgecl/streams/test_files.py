"""Pictures that stay on the disk: what is read, when, and that threads change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import PictureError
from edgecl.streams.files import PictureFiles, random_part


def files(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    """Pictures whose red is the column and whose green the row, in shares of 255."""
    found = []
    for i, (w, h) in enumerate(sizes):
        picture = np.zeros((h, w, 3), np.uint8)
        picture[..., 0], picture[..., 1] = np.linspace(0, 255, w), np.linspace(0, 255, h)[:, None]
        found.append(folder / f"{i}.png")
        Image.fromarray(picture).save(found[-1])
    return found


def test_the_middle_is_taken_or_all_is_squeezed(tmp_path: Path) -> None:
    x = PictureFiles(files(tmp_path, [(128, 64), (128, 64)]), np.array([False, True]), 28, 32)
    assert x.shape == (2, 28, 28, 3)
    middle, squeezed = np.asarray(x)
    # The shorter side at 32 is 64 x 32 pixels; of the columns 18 to 46, of the rows 2 to 30 are seen.
    assert abs(int(middle[0, 0, 0]) - 255 * 18.5 / 64) < 4 and abs(int(middle[-1, -1, 0]) - 255 * 45.5 / 64) < 4
    assert abs(int(middle[0, 0, 1]) - 255 * 2.5 / 32) < 4
    assert squeezed[0, 0, 0] < 8 and squeezed[-1, -1, 0] > 247 and squeezed[-1, -1, 1] > 247


def test_parts_are_not_read_before_they_are_asked_for(tmp_path: Path) -> None:
    paths = files(tmp_path, [(40, 40)] * 4)
    x = PictureFiles(paths, np.zeros(4, np.bool_), 16, 20)
    paths[3].write_bytes(b"no picture")
    part = x[np.array([2, 0])]
    assert len(part) == 2 and np.asarray(part[1:]).shape == (1, 16, 16, 3) and len(x[:0]) == 0
    with pytest.raises(PictureError, match=r"3\.png"):
        np.asarray(x[2:])


def test_moving_depends_on_the_seed_alone(tmp_path: Path) -> None:
    x = PictureFiles(files(tmp_path, [(60, 50)] * 7), np.array([True] + [False] * 6), 16, 20)
    cuts = [np.array([0, 1, 2]), np.array([6, 3]), np.array([4, 5])]
    first, again, other = (list(x.ahead(cuts, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    still = list(x.ahead(cuts, None))
    assert (np.concatenate(still) == np.asarray(x[np.concatenate(cuts)])).all()
    same = [(first[0][0] == still[0][0]).all(), (first[0][0] == still[0][0][:, ::-1]).all()]
    assert any(same), "what is squeezed is at most turned"


def test_a_digest_tells_files_apart_by_name_and_size(tmp_path: Path) -> None:
    paths = files(tmp_path, [(20, 20), (30, 20)])
    x = PictureFiles(paths, np.zeros(2, np.bool_), 16, 20)
    whole = x.tobytes()
    assert x[np.array([1, 0])].tobytes() != whole and x[np.array([0, 1])].tobytes() == whole
    paths[0].write_bytes(paths[1].read_bytes())
    assert PictureFiles(paths, np.zeros(2, np.bool_), 16, 20).tobytes() != whole


@pytest.mark.parametrize("size", [(100, 80), (7, 300), (1, 1)])
def test_random_parts_lie_inside(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = random_part(*size, draw)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
