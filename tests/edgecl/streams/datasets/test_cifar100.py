"""CIFAR-100 in its two forms; nothing is believed, and nothing is unpickled before its digest is known."""

from __future__ import annotations

import hashlib
import io
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import DataError
from edgecl.streams.datasets.cifar100 import CLASSES, COARSE_OF_FINE, SUPERCLASSES
from edgecl.streams.opening import load
from edgecl.streams.scenarios.making import make

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (200, 32, 32, 3), np.uint8)
FINE = np.arange(200) % 100


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def packed(folder: Path, **changed: np.ndarray) -> Path:
    files = []
    for pixels in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(buffer.getvalue())
    arrays = {
        "png": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "fine": FINE.astype(np.uint8),
    }
    for part in ("train", "test"):
        np.savez(folder / f"{part}.npz", **{**arrays, **changed})
    return folder


def test_twenty_superclasses_of_five_and_names_in_alphabetical_order() -> None:
    assert len(CLASSES) == 100 and list(CLASSES) == sorted(CLASSES) and list(SUPERCLASSES) == sorted(SUPERCLASSES)
    assert np.bincount(COARSE_OF_FINE).tolist() == [5] * 20
    assert COARSE_OF_FINE[:10].tolist() == [4, 1, 14, 8, 0, 6, 7, 7, 18, 3]  # as the data set's own files have it


def test_packed_pictures_are_read_without_loss(tmp_path: Path) -> None:
    data = load(f"cifar100:{packed(tmp_path)}")
    np.testing.assert_array_equal(data.train.x, PIXELS)
    assert data.train.y.tolist() == FINE.tolist() and (data.train.group == COARSE_OF_FINE[FINE]).all()
    stream = make("superclass", data)
    assert len(stream) == 20 and stream.task_given and all(len(e.classes) == 5 for e in stream)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fine": np.full(200, 100, np.uint8)}, "has the labels 0 to 99"),
        ({"fine": np.zeros(3, np.uint8)}, "one file for each of 3 labels"),
        ({"offset": np.arange(201)[::-1]}, "offset does not divide"),
        ({"offset": np.array([], np.int64)}, "offset does not divide"),
        ({"png": np.zeros((2, 2))}, "not of the types"),
    ],
)
def test_parts_that_contradict_themselves_are_refused(changed: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(f"cifar100:{packed(tmp_path, **changed)}")


def test_a_folder_without_it_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither cifar-100-python/ nor train\.npz and test\.npz"):
        load(f"cifar100:{tmp_path}")


def test_a_file_that_is_not_the_published_one_is_never_unpickled(tmp_path: Path) -> None:
    pytest.importorskip("torchvision.datasets.cifar" if _torch() else "torchvision", reason="needs torchvision")
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match="differs from the published digest"):
        load(f"cifar100:{tmp_path}")
    assert not (tmp_path / "sprung").exists()


def test_the_original_form_is_read_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the original format with other pictures, and torchvision told their digests in place of the published ones."""
    pytest.importorskip("torchvision.datasets.cifar" if _torch() else "torchvision", reason="needs torchvision")
    original = import_module("torchvision.datasets").CIFAR100
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    entry = {"data": PIXELS.transpose(0, 3, 1, 2).reshape(200, -1), "fine_labels": FINE.tolist()}
    contents = {"train": entry, "test": entry, "meta": {"fine_label_names": list(CLASSES)}}
    md5 = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(original, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(original, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(original, "meta", {**original.meta, "md5": md5["meta"]})
    data = load(f"cifar100:{tmp_path}")
    np.testing.assert_array_equal(data.train.x, PIXELS)
    np.testing.assert_array_equal(data.test.y, FINE)


def _torch() -> bool:
    """Whether torch is here; and torchvision can be imported beside it."""
    try:
        import_module("edgecl.rom.torch_compat")
    except ImportError:
        return False
    return True
