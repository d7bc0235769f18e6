"""Picked and own weights as arrays: exact bits, small bytes, and no layout that is believed."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest

from edgecl.errors import BundleError
from edgecl.heads.parts.overlays import check, pack, unpack
from edgecl.rom.sockets import Plugs

RNG = np.random.default_rng(0)
PLUGS = Plugs(
    used={"a": RNG.random((3, 5, 1, 1)) < 0.5, "b": RNG.random((2, 1, 3, 3)) < 0.5},
    own={"b": RNG.normal(0, 0.1, 7).astype(np.float32), "c": RNG.normal(0, 9, 200).astype(np.float32)},
)


@pytest.mark.parametrize(("form", "close"), [("float32", 0), ("float16", 1e-3), ("int8", 1 / 250)])
def test_bytes_and_back(form: str, close: float) -> None:
    arrays, layout = pack(PLUGS, form)
    assert check(arrays, layout) == set(arrays)
    used, own = unpack(arrays, layout)
    assert list(used) == ["a", "b"] and all(np.array_equal(used[n], PLUGS.used[n]) for n in used)
    for name, values in PLUGS.own.items():
        assert np.abs(own[name] - values).max() <= close * np.abs(values).max()  # the step is each socket's own
    assert arrays["used"].nbytes == 2 + 3, "15 and 18 bits, each filled up to whole bytes"


def test_nothing_takes_nothing() -> None:
    assert pack(Plugs(), "int8") == ({}, {}) and check({}, {}) == set() and unpack({}, {}) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("used", []),
        ("used", {"a": 1}),
        ("used", [["a", 3, 5, 1]]),
        ("used", [["a", 3, 5, 1, 1], ["a", 2, 1, 3, 3]]),
        ("used", [["a", 3, 5, 1, 1], ["b", 2, 1, 3, True]]),
        ("used", [["a", 3, 5, 1, 1], ["b", 2, 1, 3, -3]]),
        ("used", [["a", 3, 5, 1, 1], ["b", 1 << 30, 1 << 30, 3, 3]]),
        ("used", [[str(i), 1 << 20, 100, 1, 1] for i in range(2)]),
        ("used", [["a", 3, 5, 1, 1], ["b", 1 << 26, 1 << 26, 1 << 26, 1 << 26]]),
        ("used", [["a", 3, 5, 1, 1], ["", 2, 1, 3, 3]]),
        ("used", [["a", 3, 5, 1, 1], ["b", 2, 1, 3, 1]]),
        ("used", [["a", 1, 1, 1, 1], ["b", 4, 1, 2, 4]]),
        ("own", [["b", 7], ["c", 201]]),
        ("own", [["b", 207]]),
        ("own", [["b", 7.0], ["c", 200]]),
        ("own", [["b", 0], ["c", 207]]),
    ],
)
def test_a_layout_that_does_not_describe_the_arrays_is_refused(kind: str, entries: object) -> None:
    arrays, layout = pack(PLUGS, "int8")
    with pytest.raises(BundleError):
        check(arrays, {**copy.deepcopy(layout), kind: entries})


@pytest.mark.parametrize("n", range(1, 18))
def test_every_spare_bit_is_refused_and_no_other(n: int) -> None:
    arrays, layout = pack(Plugs(used={"a": np.ones((n, 1, 1, 1), bool), "b": np.ones((9, 1, 1, 1), bool)}), "int8")
    for bit in range(8 * len(arrays["used"])):
        changed = np.unpackbits(arrays["used"])
        changed[bit] ^= 1
        spare = n <= bit < 8 * -(-n // 8) or bit >= 8 * -(-n // 8) + 9
        if spare:
            with pytest.raises(BundleError, match="spare"):
                check({"used": np.packbits(changed)}, layout)
        else:
            check({"used": np.packbits(changed)}, layout)


def test_many_bits_are_checked_without_being_unpacked() -> None:
    """What a bundle says before anyone knows whether it is for this ROM: eight times its bytes would be a bomb."""
    layout = {"used": [["a", 1 << 24, 1, 1, 1], ["b", 1 << 24, 1, 1, 1]]}
    tracemalloc.start()
    check({"used": np.zeros(1 << 22, np.uint8)}, layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
    with pytest.raises(BundleError):
        check({"used": np.zeros(1, np.uint8)}, {"used": [[name, 1 << 28, 1, 1, 1] for name in "ab"]})


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays, layout = pack(PLUGS, "int8")
    step = arrays["own_step"]
    inner = arrays["used"].copy()
    inner[1] |= 1  # the last byte of the first socket
    for name, bad in (
        ("used", arrays["used"].astype(np.int8)),
        ("used", inner),
        ("used", arrays["used"] | 1),  # a spare bit: two heads of other bytes and one meaning
        ("own", arrays["own"].astype(np.float32)),
        ("own_step", -step),
        ("own_step", step.astype(np.float32)),
        ("own_step", step[:1]),
    ):
        with pytest.raises(BundleError):
            check({**arrays, name: bad}, layout)
    with pytest.raises(BundleError):
        check({k: v for k, v in arrays.items() if k != "own_step"}, layout)
