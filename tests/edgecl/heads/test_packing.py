"""Plugs as stored arrays: each form's error is bounded, and no layout from outside gets past the check."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn

from edgecl.errors import BundleError
from edgecl.heads.parts.packing import FORMS, check_plugs, check_rows, fetch, fits, plug_arrays, plugs_of, store
from edgecl.rom.sockets import Plugs

RNG = np.random.default_rng(0)
NUMBERS = st.floats(-1e3, 1e3, width=32)


def noise(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


PLUGS = Plugs(
    shift={"a": noise(5), "b.c": noise(2), "d": np.zeros(3, np.float32)},
    kernel={"a": noise(5, 3, 3), "b.c": noise(2, 1, 1), "d": noise(3, 3, 3), "e": noise(4, 5, 5)},
    scrambled={"f": noise(6)},
)


def allowed(form: str, largest: float) -> float:
    """Error that a row whose largest number is `largest` may have: half a step, and what rounding the step to half costs."""
    if form == "int8":
        return 0.57 * largest / 127 + 5e-6
    return {"float32": 0.0, "float16": largest * 2**-11 + 3e-8}[form]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(rows=drawn(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=NUMBERS))
def test_a_matrix_comes_back_within_half_a_step_of_its_row(form: str, rows: np.ndarray) -> None:
    stored = store("w", rows, form)
    check_rows("w", stored, rows.shape)
    back = fetch("w", stored)
    assert back.dtype == np.float32
    for row, again in zip(rows, back, strict=True):
        assert np.abs(row - again).max() <= allowed(form, float(np.abs(row).max()))


@pytest.mark.parametrize("form", FORMS)
def test_plugs_of_every_kind_come_back_under_their_names(form: str) -> None:
    arrays, layout = plug_arrays(PLUGS, form)
    assert check_plugs(arrays, layout) == set(arrays)
    back = plugs_of(arrays, layout)
    for (kind, before), (_, after) in zip(PLUGS.kinds(), back.kinds(), strict=True):
        assert set(before) == set(after), kind
        for name, value in before.items():
            assert after[name].shape == value.shape and after[name].dtype == np.float32
            assert np.abs(after[name] - value).max() <= allowed(form, float(np.abs(value).max())), (kind, name)
    assert not back.shift["d"].any()  # zeros stay zeros: a socket without effect is exactly the plain ROM


def test_the_smaller_form_is_smaller() -> None:
    sizes = [sum(a.nbytes for a in plug_arrays(PLUGS, form)[0].values()) for form in FORMS]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 3


def test_stored_twice_is_stored_the_same() -> None:
    """What has been rounded to a form stays there: a head that is learned, exported and packed again does not drift."""
    arrays, layout = plug_arrays(PLUGS, "float16")
    again, _ = plug_arrays(plugs_of(arrays, layout), "float16")
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_numbers_beyond_half_precision_fit_only_into_float32() -> None:
    rows = np.array([[7e4, 1]])
    assert [fits(rows, form) for form in FORMS] == [False, False, True]
    assert all(fits(rows[:0], form) for form in FORMS)


def test_no_plugs_are_no_arrays() -> None:
    assert plug_arrays(Plugs(), "int8") == ({}, {})
    assert not plugs_of({}, {})


# -- what comes from outside

Change = Callable[[dict[str, Any], dict[str, Any]], Any]


def entries(change: Callable[[list[Any]], Any]) -> Change:
    """A change to the list of kernels; what it returns takes the list's place, if anything."""

    def on(arrays: dict[str, Any], layout: dict[str, Any]) -> None:
        layout["kernel"] = change(layout["kernel"]) or layout["kernel"]

    return on


HOSTILE: dict[str, Change] = {
    "layout is a list": lambda a, n: [],
    "a kind nobody knows": lambda a, n: n.update(weight=n["shift"]),
    "a kind without entries": lambda a, n: n.update(shift=[]),
    "entries as a table": lambda a, n: n.update(shift={"a": 1}),
    "entries as text": lambda a, n: n.update(shift="abc"),
    "more entries than sockets can be": lambda a, n: n.update(shift=[["a", 1, 1]] * 5001),
    "a socket twice": entries(lambda e: [*e, e[0]]),
    "an entry too short": entries(lambda e: [e[0][:2], *e[1:]]),
    "an entry too long": entries(lambda e: [[*e[0], 1], *e[1:]]),
    "a tuple for an entry": entries(lambda e: [tuple(e[0]), *e[1:]]),
    "no name": entries(lambda e: [["", *e[0][1:]], *e[1:]]),
    "a name as long as a page": entries(lambda e: [["x" * 301, *e[0][1:]], *e[1:]]),
    "a number for a name": entries(lambda e: [[3, *e[0][1:]], *e[1:]]),
    "negative channels": entries(lambda e: [[e[0][0], -5, 3], *e[1:]]),
    "no channels": entries(lambda e: [[e[0][0], 0, 3], *e[1:]]),
    "huge channels": entries(lambda e: [[e[0][0], 10**12, 3], *e[1:]]),
    "true for channels": entries(lambda e: [[e[0][0], True, 3], *e[1:]]),
    "channels as a fraction": entries(lambda e: [[e[0][0], 5.0, 3], *e[1:]]),
    "another number of channels": entries(lambda e: [[e[0][0], 6, 3], *e[1:]]),
    "an even side": entries(lambda e: [[e[0][0], 5, 2], *e[1:]]),
    "a negative side": entries(lambda e: [[e[0][0], 5, -3], *e[1:]]),
    "a huge side": entries(lambda e: [[e[0][0], 5, 9], *e[1:]]),
    "a side for a shift": lambda a, n: n["shift"][0].__setitem__(2, 3),
    "an array is missing": lambda a, n: a.pop("kernel3") is None,
    "steps are missing": lambda a, n: a.pop("kernel3_step") is None,
    "the shifts' steps are missing": lambda a, n: a.pop("shift1_step") is None,
    "another rank": lambda a, n: a.update(kernel3=a["kernel3"][None]),
    "a row more": lambda a, n: a.update(kernel3=np.concatenate([a["kernel3"], a["kernel3"][:1]])),
    "a shift more": lambda a, n: a.update(shift1=np.append(a["shift1"], np.int8(1))),
    "float64": lambda a, n: a.update(kernel3=a["kernel3"].astype(np.float64)),
    "whole numbers of 64 bits": lambda a, n: a.update(shift1=a["shift1"].astype(np.int64)),
    "a half-precision array with steps": lambda a, n: a.update(kernel3=a["kernel3"].astype(np.float16)),
    "float32 shifts with steps": lambda a, n: a.update(shift1=a["shift1"].astype(np.float32)),
    "a step of zero": lambda a, n: a["kernel3_step"].__setitem__(0, 0),
    "a negative step": lambda a, n: a["shift1_step"].__setitem__(0, -1),
    "a step that is no number": lambda a, n: a["shift1_step"].__setitem__(0, np.nan),
    "a step too few": lambda a, n: a.update(kernel3_step=a["kernel3_step"][1:]),
    "a shift's step too few": lambda a, n: a.update(shift1_step=a["shift1_step"][1:]),
    "steps of another precision": lambda a, n: a.update(kernel3_step=a["kernel3_step"].astype(np.float32)),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_layout_or_array_that_cannot_be_is_refused(change: Change) -> None:
    arrays, layout = plug_arrays(PLUGS, "int8")
    arrays, layout = {name: value.copy() for name, value in arrays.items()}, copy.deepcopy(layout)
    check_plugs(arrays, layout)
    replaced = change(arrays, layout)
    with pytest.raises(BundleError) as caught:
        check_plugs(arrays, layout if replaced is None or isinstance(replaced, bool) else replaced)
    assert str(caught.value)


def test_nothing_for_a_layout_is_refused() -> None:
    for layout in (None, [], "shift", 3):
        with pytest.raises(BundleError, match="no table"):
            check_plugs({}, layout)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["shift", "kernel", "a", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["shift", "kernel", "x"]), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(layout=JSON)
def test_whatever_json_says_is_read_or_refused(layout: Any) -> None:
    arrays, _ = plug_arrays(PLUGS, "float32")
    try:
        check_plugs(arrays, layout)
    except BundleError:
        return
    plugs_of(arrays, layout)
