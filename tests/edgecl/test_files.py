"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgecl.files import half_written, write_whole


def test_what_is_there_is_replaced_and_the_folder_is_made(tmp_path: Path) -> None:
    place = tmp_path / "new" / "x.bin"
    for data in (b"one", b"two, longer", b""):
        write_whole(place, data)
        assert place.read_bytes() == data and list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "x.bin"
    write_whole(place, b"old")

    def fails(*rest: object) -> None:
        assert len(half_written(place)) == 1, "the new one is beside it, not in its place"
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fails)
    with pytest.raises(OSError, match="no space"):
        write_whole(place, b"new")
    assert place.read_bytes() == b"old" and list(tmp_path.iterdir()) == [place]


def test_half_written_files_are_those_of_this_path_only(tmp_path: Path) -> None:
    for name in (".a-12.part", ".ab-12.part", "a.part", ".a-12", "a"):
        (tmp_path / name).touch()
    assert half_written(tmp_path / "a") == [tmp_path / ".a-12.part"]
    assert half_written(tmp_path / "nowhere" / "a") == []
