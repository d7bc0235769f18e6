"""What a block added to the memory of this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecl.metrics.memory import PeakMemory

LARGE = 256 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system's mark cannot be set back here")
def test_a_block_sees_what_it_takes_and_not_what_was_taken_before() -> None:
    with PeakMemory() as first:
        block = np.ones(LARGE, np.uint8)
        del block
    assert LARGE * 0.9 <= first.growth <= LARGE * 1.5
    with PeakMemory() as second:
        sum(range(1000))
    assert second.growth < LARGE // 10
