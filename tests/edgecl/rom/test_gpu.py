"""The ROM on a GPU gives the features it gives on the CPU. Runs with --gpu."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecl.rom.opening import open_rom
from edgecl.rom.parity import compare


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_features_on_cuda_match_those_on_the_cpu(tiny_rom: Path, runtime: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 160, 160, 3), np.uint8)
    with open_rom(tiny_rom, runtime) as here, open_rom(tiny_rom, runtime, "cuda") as there:
        assert "cuda" in there.provider.lower()
        assert compare(here.features(pixels), there.features(pixels)).holds(relative=1e-3, cosine=0.9999)
