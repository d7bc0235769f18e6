"""A process that teaches is killed at many moments: nothing that was committed is lost, and it goes on to the same bits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecl.device import EdgeDevice

PICTURES, EVERY = 24, 4

CHILD = """
import sys
import numpy as np
from edgecl import EdgeDevice
from firmware_sim import faults
home, kind, moment = sys.argv[1:]
pictures = np.load(home + "/../pictures.npy")
cuts = {"instruction": faults.cut_at_instruction, "byte": faults.cut_at_byte, "seconds": faults.cut_after}
cut = cuts[kind](float(moment) if kind == "seconds" else int(moment)) if kind != "none" else None
if kind == "instruction":  # it is felt by connections that are opened from then on
    cut.arm()
device = EdgeDevice(home)
device.rom
if kind in ("byte", "seconds"):
    cut.arm()
with device.teach("hues", every=EVERY) as teaching:
    for i, picture in enumerate(pictures):
        taught = teaching.observe(picture, "rgb"[i % 3])
        if taught.committed and not taught.known:
            print(i, flush=True)
""".replace("EVERY", str(EVERY))

# A torn write of the state; between SQLite's steps (about 2,700 in all, so before, in and after each transaction, with
# the new state written already), and wherever it is by then.
FEW = [("byte", 100_000), ("instruction", 1_230), ("instruction", 2_050), ("seconds", 0.1)]
MOMENTS = [
    *FEW,
    *(("byte", k) for k in (1, 40_000, 130_000)),
    *(("instruction", k) for k in range(650, 2_750, 83)),
    *(("seconds", k / 40) for k in range(1, 10)),
]


def arrays(device: EdgeDevice) -> dict[str, bytes]:
    """The head and the anchors in force, to the bit."""
    bundle = device.bundle(device.bank.current()["hues"])
    found = {f"head/{n}": a for n, a in bundle.head.arrays.items()}
    found |= {f"{m}/{n}": a for m, anchor in bundle.anchors.items() for n, a in anchor.items()}
    return {name: np.ascontiguousarray(a).tobytes() for name, a in found.items()}


def run(home: Path, kind: str, moment: float) -> tuple[int, list[int]]:
    """How the child ended, and the pictures after which it said that all was committed."""
    command = [sys.executable, "-c", CHILD, str(home), kind, str(moment)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode <= 0, done.stderr
    return done.returncode, [int(line) for line in done.stdout.split()]


@pytest.fixture
def place(tmp_path: Path, tiny_rom: Path) -> Path:
    """A folder with the pictures and an untaught home."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 60, (PICTURES, 64, 64, 3), np.uint8)
    for i in range(PICTURES):
        pictures[i, ..., i % 3] += 150
    np.save(tmp_path / "pictures.npy", pictures)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(f'rom = "{tiny_rom}"\nthreads = 1\n')
    return tmp_path


def check(place: Path, moments: list[tuple[str, float]]) -> tuple[int, set[int]]:
    """Kill, look, and teach everything again; returns how many died, and how many pictures the bank had then."""
    shutil.copytree(place / "home", place / "whole")
    assert run(place / "whole", "none", 0)[0] == 0
    with EdgeDevice(place / "whole") as device:
        whole = arrays(device)
    killed, found = 0, set()
    for kind, moment in moments:
        home = Path(shutil.copytree(place / "home", place / "cut"))
        code, said = run(home, kind, moment)
        killed += code != 0
        with EdgeDevice(home) as device:
            assert device.verify() == []
            known = 0
            if "hues" in device.bank.current():
                known = device.bundle(device.bank.current()["hues"]).provenance["pictures"]
            assert known >= max((i + 1 for i in said), default=0), f"{kind} {moment}: said to be committed, and lost"
            found.add(known)
        assert run(home, "none", 0)[0] == 0
        with EdgeDevice(home) as device:
            assert arrays(device) == whole, f"{kind} {moment}: other bits, from {known} pictures on"
            assert len(device.bank.history("hues")) <= 2 and device.verify() == []
            assert len(list((home / "teaching" / "hues").iterdir())) <= 3  # lock, state, and the one before this teaching
        shutil.rmtree(home)
    return killed, found


def test_killed_at_a_few_moments_it_has_what_was_committed_and_goes_on_to_the_same_bits(place: Path) -> None:
    killed, _ = check(place, FEW)
    assert killed >= 3


@pytest.mark.slow
def test_killed_at_any_moment_it_has_what_was_committed_and_goes_on_to_the_same_bits(place: Path) -> None:
    killed, found = check(place, MOMENTS)
    assert killed >= len(MOMENTS) * 2 // 3
    assert len(found) >= 3  # nothing yet, some commits, all
