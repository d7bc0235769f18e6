"""IID, CI, CDI and CDID of MODES and MOONS are the published streams: sizes, orders, and who has validation samples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgecl.streams.datasets import modes, moons
from edgecl.streams.scenarios.making import make

DATA = {"modes": modes, "moons": moons}
TRAIN = {
    ("modes", "iid"): [1000],
    ("modes", "ci"): [200, 400, 100, 300],
    ("modes", "cdi"): [100, 200, 50, 150] * 2,
    ("modes", "cdid"): [100, 200, 50, 150] * 2,
    ("moons", "iid"): [1000],
    ("moons", "ci"): [400, 100, 300, 200],
    ("moons", "cdi"): [200, 50, 150, 100] * 2,
    ("moons", "cdid"): [200, 50, 150, 100] * 2,
}


@pytest.mark.parametrize(("data", "scenario"), TRAIN)
def test_sizes_are_the_published_ones(data: str, scenario: str) -> None:
    """Early validation: 250 samples, and 300 for CI of MODES, whose first two classes are the larger part."""
    stream = make(scenario, DATA[data].load())
    assert [len(e.train) for e in stream] == TRAIN[data, scenario]
    assert sum(len(e.val) for e in stream) == (300 if (data, scenario) == ("modes", "ci") else 250)
    assert sum(len(e.test) for e in stream) == 500
    half = len(stream) // 2
    assert not any(len(e.val) for e in stream[half:]) or scenario == "iid"


@pytest.mark.parametrize("data", DATA)
def test_classes_come_in_their_order_domain_by_domain(data: str) -> None:
    for scenario in ("cdi", "cdid"):
        stream = make(scenario, DATA[data].load())
        seen = [(int(e.train.group[0]), int(e.train.y[0])) for e in stream]
        assert seen == [(domain, c) for domain in range(2) for c in range(4)]
        for e in stream:
            assert len(np.unique(np.stack([e.train.group, e.train.y]), axis=1).T) == 1
    for e in stream:
        assert all(a <= b for a, b in pairwise(e.train.x[:, 0])), "CDID drifts along the first coordinate"


def test_order_of_the_data_set_is_the_published_iid_order() -> None:
    data = modes.load()
    np.testing.assert_array_equal(make("iid", data, shuffle=False)[0].train.x, data.train.x)
    assert not np.array_equal(make("iid", data)[0].train.x, data.train.x)
