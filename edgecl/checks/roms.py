"""What every runtime of a ROM must satisfy.

`open_rom` opens the same image afresh on the runtime to check; `reference` is that image open on the PyTorch runtime, or on
any other that is trusted. Each check raises AssertionError with a sentence; whatever a check opens, it closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgecl.errors import RomError
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.parity import compare
from edgecl.types import Pixels

RELATIVE = 1e-4  # of the largest feature: what rounding in another order may move
OpenRom = Callable[[], Rom]
Check = Callable[[OpenRom, Rom], None]


def pictures(rom: Rom, n: int = 6) -> Pixels:
    """(n, s, s, 3) uint8: coarse and fine noise, so that every layer has something to answer to."""
    rng, s = np.random.default_rng(0), rom.preprocess.size
    coarse = rng.integers(0, 200, (n, 8, 8, 3)).repeat(-(-s // 8), 1).repeat(-(-s // 8), 2)[:, :s, :s]
    return (coarse + rng.integers(0, 56, (n, s, s, 3))).astype(np.uint8)


def check_features_have_the_stated_shape(open_rom: OpenRom, reference: Rom) -> None:
    """(n, d) float32, finite, and not the same for all pictures."""
    with open_rom() as rom:
        x = rom.features(pictures(rom))
        assert x.shape == (6, rom.width) and x.dtype == np.float32, f"{_name(rom)} answers {x.dtype} {x.shape}"
        assert np.isfinite(x).all(), f"{_name(rom)} answers a feature that is no number"
        assert x.std(0).max() > 0, f"{_name(rom)} answers the same for all pictures"


def check_features_are_deterministic(open_rom: OpenRom, reference: Rom) -> None:
    """The same pictures give the same bits, asked again and after the ROM was opened again."""
    with open_rom() as rom:
        batch = pictures(rom)
        first, second = rom.features(batch), rom.features(batch)
    with open_rom() as rom:
        third = rom.features(batch)
        assert np.array_equal(first, second), f"{_name(rom)} answers differently when asked again"
        assert np.array_equal(first, third), f"{_name(rom)} answers differently when opened again"


def check_features_do_not_depend_on_the_batch(open_rom: OpenRom, reference: Rom) -> None:
    """Alone, in another order or among more than one call's worth of pictures: the same up to rounding."""
    with open_rom() as rom:
        batch = pictures(rom)
        together = rom.features(batch)
        alone = np.concatenate([rom.features(one[None]) for one in batch])
        turned = rom.features(batch[::-1])[::-1]
        many = rom.features(np.resize(batch, (BATCH + 3, *batch.shape[1:])))
        expected = np.resize(together, many.shape)
        for what, a, b in (
            ("alone", alone, together),
            ("in another order", turned, together),
            ("in a large batch", many, expected),
        ):
            parity = compare(b, a)
            assert parity.holds(RELATIVE), f"{_name(rom)} answers differently {what}: {parity}"


def check_agrees_with_the_reference(open_rom: OpenRom, reference: Rom) -> None:
    """The runtime computes the sealed network and no other."""
    with open_rom() as rom:
        parity = compare(reference.features(pictures(rom)), rom.features(pictures(rom)))
        assert parity.holds(RELATIVE), f"{_name(rom)} and {_name(reference)} differ: {parity}"
        same = (rom.rom_id, rom.width, rom.preprocess) == (reference.rom_id, reference.width, reference.preprocess)
        assert same, f"{_name(rom)} and {_name(reference)} do not describe the same ROM"


def check_no_picture_gives_no_features(open_rom: OpenRom, reference: Rom) -> None:
    """(0, s, s, 3) -> (0, d)."""
    with open_rom() as rom:
        x = rom.features(pictures(rom)[:0])
        assert x.shape == (0, rom.width) and x.dtype == np.float32, f"{_name(rom)} answers {x.dtype} {x.shape} for no picture"


def check_takes_a_list_of_pictures(open_rom: OpenRom, reference: Rom) -> None:
    """As decoding gives them, one by one; and arrays that are not contiguous."""
    with open_rom() as rom:
        batch = pictures(rom)
        assert np.array_equal(rom.features(list(batch)), rom.features(batch)), f"{_name(rom)} answers differently for a list"
        flipped = batch[:, :, ::-1]
        assert np.array_equal(rom.features(flipped), rom.features(flipped.copy())), f"{_name(rom)} misreads a view of an array"


def check_refuses_what_is_no_picture(open_rom: OpenRom, reference: Rom) -> None:
    """Another dtype or shape is refused with a sentence, not converted."""
    with open_rom() as rom:
        good = pictures(rom, 2)
        bad: tuple[Any, ...] = (
            good.astype(np.float32),
            good / np.float32(255),
            good.astype(np.int64),
            good[0],
            good[:, :-1],
            good[..., :1],
            good[..., 0],
            good.transpose(0, 3, 1, 2),
            np.zeros((2, 0, 0, 3), np.uint8),
        )
        for wrong in bad:
            try:
                rom.features(wrong)
            except RomError as error:
                assert str(good.shape[1]) in str(error), f"{_name(rom)} refuses {wrong.shape} without saying what it takes"
            else:
                raise AssertionError(f"{_name(rom)} takes {wrong.dtype} {wrong.shape} for pictures")


def check_leaves_its_pictures_untouched(open_rom: OpenRom, reference: Rom) -> None:
    """Pixels are the caller's."""
    with open_rom() as rom:
        batch = pictures(rom)
        before = batch.copy()
        rom.features(batch)
        assert np.array_equal(batch, before), f"{_name(rom)} changes the pixels it is given"


def check_closes(open_rom: OpenRom, reference: Rom) -> None:
    """Closed twice is closed; asked afterwards it refuses with a sentence."""
    rom = open_rom()
    batch = pictures(rom, 1)
    rom.features(batch)
    rom.close()
    rom.close()
    try:
        rom.features(batch)
    except RomError as error:
        assert "closed" in str(error), f"{_name(rom)}, closed, refuses with: {error}"
    else:
        raise AssertionError(f"{_name(rom)} answers after it was closed")


def check_says_what_runs(open_rom: OpenRom, reference: Rom) -> None:
    """Runtime and provider are named, for reports."""
    with open_rom() as rom:
        assert rom.runtime and rom.provider, "a ROM must name its runtime and its provider"


CHECKS: tuple[Check, ...] = (
    check_features_have_the_stated_shape,
    check_features_are_deterministic,
    check_features_do_not_depend_on_the_batch,
    check_agrees_with_the_reference,
    check_no_picture_gives_no_features,
    check_takes_a_list_of_pictures,
    check_refuses_what_is_no_picture,
    check_leaves_its_pictures_untouched,
    check_closes,
    check_says_what_runs,
)


def _name(rom: Rom) -> str:
    return f"runtime {rom.runtime} ({rom.provider})"
