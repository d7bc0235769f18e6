"""The power goes while a device learns, for real: a process with the runtime and the ROM, killed at many points.

The bank's own changes are killed at every system call in tests/edgecl/bank/test_power_cut.py; here the whole of `learn` and
`import` runs, and what must hold afterwards is what a user sees: the same answers as before, or the new ones.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecl import EdgeDevice

CHILD = """
import sys
from edgecl import EdgeDevice
from firmware_sim import faults
home, action, argument, kind, moment = sys.argv[1:]
device = EdgeDevice(home, feature_cache_mb=0)
device.rom
cut = {"instruction": faults.cut_at_instruction, "byte": faults.cut_at_byte, "seconds": faults.cut_after}[kind](
    float(moment) if kind == 'seconds' else int(moment)
)
print(-cut.signal, flush=True)
cut.arm()
device.learn("stripes", argument, seed=7) if action == "learn" else device.import_file(argument)
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_rom: Path, pictures_task: dict[str, Path]) -> dict[str, Path]:
    """A home that knows one task, with the files that the changes under test need."""
    base = tmp_path_factory.mktemp("cut")
    names = sorted(pictures_task)
    with EdgeDevice(base / "home", rom=tiny_rom) as device:
        device.learn("old", pictures_task[names[0]])
        device.learn("stripes", pictures_task[names[1]])
        (base / "stripes.bundle").write_bytes(device.export("stripes"))
        device.bank.remove("stripes")
        device.bank.gc(keep=0)
    (base / "home" / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    return {"home": base / "home", "learn": pictures_task[names[1]], "import": base / "stripes.bundle", "rom": tiny_rom}


TORN = [("byte", k) for k in (1, 5_000, 20_000, 40_000, 70_000)]
MOMENTS = {
    "learn": [
        *TORN,
        *(("instruction", k) for k in (1, 40, 90, 140, 180, 220)),
        *(("seconds", k / 50) for k in range(1, 6)),
    ],
    "import": [
        *TORN,
        *(("instruction", k) for k in (1, 20, 40, 60, 80, 100)),
        *(("seconds", k / 1000) for k in range(2, 10, 2)),
    ],
}


@pytest.mark.parametrize("action", sorted(MOMENTS))
def test_after_a_kill_the_device_answers_as_before_or_as_after_and_learns_on(
    learned: dict[str, Path], tmp_path: Path, action: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 160, 160, 3), np.uint8)
    with EdgeDevice(learned["home"]) as device:
        before, digest = device.head("old").scores(device.rom.features(pixels)), device.bank.current()["old"]
    outcomes = set()
    killed = 0
    for kind, moment in MOMENTS[action]:
        home = Path(shutil.copytree(learned["home"], tmp_path / "home"))
        arguments = [str(home), action, str(learned[action]), kind, str(moment)]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, int(done.stdout or 1)), done.stderr  # it finished, or died of the cut and nothing else
        killed += done.returncode != 0
        with EdgeDevice(home) as device:
            assert device.verify() == []
            assert device.bank.current()["old"] == digest
            np.testing.assert_array_equal(device.head("old").scores(device.rom.features(pixels)), before)
            outcomes.add("stripes" in device.tasks)
            assert done.returncode or "stripes" in device.tasks  # what was reported as done is there
            assert device.import_file(learned["import"], older=True).task == "stripes"  # and the device learns on
        shutil.rmtree(home)
    assert killed >= len(MOMENTS[action]) // 2
    assert outcomes == {False, True}
