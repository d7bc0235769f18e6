"""A home that was put back is, file for file, what it was."""

from __future__ import annotations

import os
from pathlib import Path

from edgecl.workers.homes import read_home, restore


def files(home: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(home)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in home.rglob("*")
        if path.is_file()
    }


def test_a_home_goes_back_to_what_it_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("incoming", "cache"):
        (home / name).mkdir(parents=True)
    (home / "bank.sqlite").write_bytes(b"bank")
    (home / "identity.pem").write_bytes(b"key")
    (home / "identity.pem").chmod(0o600)
    (home / "cache" / "features").write_bytes(b"large")
    kept, before = read_home(home), files(home)
    assert "cache/features" not in (kept.files or {}), "what can be made again is not copied for every op"
    (home / "bank.sqlite").write_bytes(b"half")
    (home / "bank.sqlite-shm").write_bytes(b"index of a log that is no more")
    (home / "identity.pem").unlink()
    (home / "incoming").rmdir()
    (home / "learning").mkdir()
    (home / "learning" / "birds.safetensors").write_bytes(b"epoch 3")
    restore(kept)
    assert files(home) == before
    assert sorted(os.listdir(home)) == ["bank.sqlite", "cache", "identity.pem", "incoming"]


def test_a_home_that_was_not_there_goes_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    kept = read_home(home)
    (home / "incoming").mkdir(parents=True)
    (home / "bank.sqlite").write_bytes(b"half")
    restore(kept)
    assert not home.exists()
