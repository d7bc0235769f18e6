"""`edgecl teach` and `edgecl learn --method memory` as a person meets them: real processes, real pictures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecl import EdgeDevice

HUES = ("red", "green", "blue")


def command(home: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgecl.cli.main", "--home", str(home), *map(str, arguments)]


def edgecl(home: Path, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(home, *arguments), input=stdin, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def draw(folder: Path, hue: str, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        pixels = rng.integers(0, 60, (48, 64, 3), np.uint8)
        pixels[..., HUES.index(hue)] += 150
        found.append(folder / f"{seed}-{i:02}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.fixture
def home(tmp_path: Path, tiny_rom: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(f'rom = "{tiny_rom}"\nthreads = 1\n')
    return tmp_path / "home"


@pytest.fixture
def running(home: Path) -> Iterator[Any]:
    """Starts `edgecl teach --task hues` with further arguments; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        words = command(home, "teach", "--task", "hues", "--json", *arguments)
        started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def pictures(home: Path) -> int:
    with EdgeDevice(home) as device:
        return int(device.bundle(device.bank.current()["hues"]).provenance["pictures"])


def test_each_line_is_answered_before_the_next_is_given_and_a_stop_commits(home: Path, running: Any, tmp_path: Path) -> None:
    files = [(f, hue) for hue in HUES[:2] for f in draw(tmp_path / hue, hue, 4)]
    for number in (signal.SIGINT, signal.SIGTERM):
        teach = running("--every", 100)
        for file, hue in files:
            teach.stdin.write(json.dumps({"path": str(file), "label": hue}) + "\n")
            said = json.loads(teach.stdout.readline())  # it would wait for ever if the command read ahead
            assert said["picture"] == str(file) and said["label"] == hue
        os.kill(teach.pid, number)
        out, err = teach.communicate(timeout=60)
        assert teach.returncode == 130 and "Traceback" not in err, err
        assert json.loads(out)["taught"]["generation"] == (1 if number == signal.SIGINT else None)  # the second knew them all
        assert pictures(home) == len(files)


def test_bad_lines_are_named_and_passed_over_and_the_exit_code_says_so(home: Path, tmp_path: Path) -> None:
    good = [f"{f}\t{hue}" for hue in HUES[:2] for f in draw(tmp_path / hue, hue, 4)]
    done = edgecl(
        home, "teach", "--task", "hues", stdin="\n".join(["nonsense", *good[:4], f"{tmp_path}/no.png\tred", *good[4:]])
    )
    assert done.returncode == 4
    assert "line 1 has no path and label" in done.stderr and "no.png: no such file" in done.stderr
    assert "2 of the lines or pictures could not be taught" in done.stderr
    assert "taught 'hues' (generation 1): 8 pictures, 0 known already" in done.stdout
    again = edgecl(home, "teach", "--task", "hues", stdin="\n".join(good))
    assert again.returncode == 0 and "(no new generation): 0 pictures, 8 known already" in again.stdout
    assert edgecl(home, "teach", "--task", "hues", "--seconds", "soon").returncode == 2
    assert edgecl(home, "teach", "--task", "no/name").returncode == 2


def test_one_class_alone_waits_and_the_command_says_for_what(home: Path, tmp_path: Path) -> None:
    lines = "".join(f"{f}\tred\n" for f in draw(tmp_path / "red", "red", 4))
    done = edgecl(home, "teach", "--task", "hues", "--json", stdin=lines)
    assert done.returncode == 0 and "'hues' waits for a second class" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["taught"]["waiting"] == "a second class"


def test_a_watched_folder_is_taught_as_it_grows_and_nothing_twice(home: Path, running: Any, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    draw(folder / "red", "red", 4)
    whole = draw(tmp_path / "apart", "green", 4)
    teach = running("--watch", folder, "--every", 100, "--seconds", "600")
    assert [json.loads(teach.stdout.readline())["label"] for _ in range(4)] == ["red"] * 4
    (folder / "green").mkdir()
    for file in whole[1:]:
        shutil.copy(file, folder / "green")
    data = whole[0].read_bytes()
    with (folder / "green" / "slow.png").open("wb") as file:  # not made at once
        for part in (data[:100], data[100:]):
            file.write(part)
            file.flush()
            time.sleep(0.3)
    said = [json.loads(teach.stdout.readline()) for _ in range(4)]
    assert [one["label"] for one in said] == ["green"] * 4 and not any("error" in one for one in said)
    teach.send_signal(signal.SIGINT)
    teach.communicate(timeout=60)
    assert pictures(home) == 8
    again = running("--watch", folder)
    assert all(json.loads(again.stdout.readline())["known"] for _ in range(8))
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert pictures(home) == 8


def test_learn_by_memory_needs_no_torch_and_goes_on(home: Path, tmp_path: Path) -> None:
    for hue in HUES[:2]:
        draw(tmp_path / "hues" / hue, hue, 6)
    arguments = ("learn", "--task", "hues", "--data", tmp_path / "hues", "--method", "memory")
    program = "import sys; sys.modules['torch'] = None; sys.argv[1:] = sys.argv[2:]\nfrom edgecl.cli.main import main; main()"
    words = [sys.executable, "-c", program, "-", "--home", str(home), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "learned 'hues' (generation 1, memory): 12 pictures, 2 classes" in done.stdout
    draw(tmp_path / "hues" / "blue", "blue", 6)
    more = edgecl(home, *arguments)
    assert "(generation 2, memory): 6 pictures, 3 classes" in more.stdout
    assert "12 pictures were learned before" in more.stderr
    assert pictures(home) == 18
