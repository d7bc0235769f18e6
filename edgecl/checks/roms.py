"""What every runtime of a ROM must satisfy.

`open_rom` opens the same image afresh on the runtime to check; `reference` is that image open on the PyTorch runtime, or on
any other that is trusted. Each check raises AssertionError with a sentence; whatever a check opens, it closes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgecl.errors import RomError, RomMismatch
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.parity import compare
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats, Pixels

KINDS = ("shift", "kernel", "shift kernel")
RELATIVE = 1e-4  # of the largest feature: what rounding in another order may move
OpenRom = Callable[[], Rom]
Check = Callable[[OpenRom, Rom], None]


def pictures(rom: Rom, n: int = 6) -> Pixels:
    """(n, s, s, 3) uint8: coarse and fine noise, so that every layer has something to answer to."""
    rng, s = np.random.default_rng(0), rom.preprocess.size
    coarse = rng.integers(0, 200, (n, 8, 8, 3)).repeat(-(-s // 8), 1).repeat(-(-s // 8), 2)[:, :s, :s]
    return (coarse + rng.integers(0, 56, (n, s, s, 3))).astype(np.uint8)


def plugs_for(rom: Rom, kinds: str = "shift kernel", seed: int = 0, strength: float = 0.05) -> Plugs:
    """What a head could put into the sockets: small numbers; 3x3 kernels behind wide convolutions, 1x1 behind pointwise ones.

    kinds: "shift", "kernel" or both.
    """
    rng, sockets = np.random.default_rng(seed), rom.image.sockets

    def drawn(*shape: int) -> Floats:
        return rng.normal(0, strength, shape).astype(np.float32)

    scaled = [s for s in sockets if s.side == 1][:2]
    return Plugs(
        {s.name: drawn(s.channels) for s in sockets} if "shift" in kinds else {},
        {s.name: drawn(s.channels, 3, 3) for s in sockets if s.side > 1} | {s.name: drawn(s.channels, 1, 1) for s in scaled}
        if "kernel" in kinds
        else {},
    )


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


def check_no_plugs_are_the_plain_rom(open_rom: OpenRom, reference: Rom) -> None:
    """Empty plugs change no bit; plugs of zeros nothing beyond rounding."""
    with open_rom() as rom:
        batch = pictures(rom)
        plain = rom.features(batch)
        for empty in (Plugs(), [None] * len(batch), [Plugs(), None] * (len(batch) // 2)):
            assert np.array_equal(rom.features(batch, empty), plain), f"{_name(rom)} answers differently without a plug"
        for kinds in KINDS:
            parity = compare(plain, rom.features(batch, plugs_for(rom, kinds, strength=0.0)))
            assert parity.holds(RELATIVE), f"{_name(rom)} answers differently with zeros in its sockets ({kinds}): {parity}"


def check_plugs_agree_with_the_reference(open_rom: OpenRom, reference: Rom) -> None:
    """Shifts, kernels and both, everywhere and only in the last sockets, act as the definition in `sockets` says."""
    with open_rom() as rom:
        batch = pictures(rom)
        plain = reference.features(batch)
        for kinds in KINDS:
            everywhere = plugs_for(rom, kinds)
            deep = {s.name for s in rom.image.sockets[-5:]}
            late = Plugs(*({n: v for n, v in arrays.items() if n in deep} for _, arrays in everywhere.kinds()))
            for where, plugs in (("everywhere", everywhere), ("in the last sockets", late)):
                if not plugs:
                    continue
                expected = reference.features(batch, plugs)
                assert not compare(plain, expected).holds(RELATIVE), f"{kinds} {where} change nothing: the check says nothing"
                parity = compare(expected, rom.features(batch, plugs))
                assert parity.holds(RELATIVE), f"{_name(rom)} and {_name(reference)} differ with {kinds} {where}: {parity}"


def check_plugs_are_deterministic(open_rom: OpenRom, reference: Rom) -> None:
    """The same plugs give the same bits: asked again, after other plugs, and after the ROM was opened again."""
    with open_rom() as rom:
        batch = pictures(rom)
        plugs = [plugs_for(rom, kinds, seed) for seed, kinds in enumerate(KINDS)]
        first = [rom.features(batch, p) for p in plugs]
        second = [rom.features(batch, p) for p in plugs]
    with open_rom() as rom:
        third = [rom.features(batch, p) for p in reversed(plugs)][::-1]
        for a, b, c in zip(first, second, third, strict=True):
            assert np.array_equal(a, b), f"{_name(rom)} answers differently when asked again after other plugs"
            assert np.array_equal(a, c), f"{_name(rom)} answers differently when opened again"


def check_plugs_do_not_depend_on_the_batch(open_rom: OpenRom, reference: Rom) -> None:
    """With plugs too, a picture's features are its own: alone, turned around, or among more than one call's worth."""
    with open_rom() as rom:
        batch, plugs = pictures(rom), plugs_for(rom)
        together = rom.features(batch, plugs)
        many = np.resize(batch, (BATCH + 3, *batch.shape[1:]))
        for what, found, expected in (
            ("alone", np.concatenate([rom.features(one[None], plugs) for one in batch]), together),
            ("in another order", rom.features(batch[::-1], plugs)[::-1], together),
            ("in a large batch", rom.features(many, plugs), np.resize(together, (len(many), rom.width))),
        ):
            parity = compare(expected, found)
            assert parity.holds(RELATIVE), f"{_name(rom)} with plugs answers differently {what}: {parity}"


def check_mixed_batch_is_one_by_one(open_rom: OpenRom, reference: Rom) -> None:
    """Pictures of several heads and of none in one call: each as if asked alone with its own plugs."""
    with open_rom() as rom:
        some = [None, *(plugs_for(rom, kinds, seed) for seed in range(2) for kinds in KINDS), Plugs()]
        batch = np.resize(pictures(rom), (BATCH + 8, *pictures(rom, 1).shape[1:]))
        mine = [some[i * 7 % len(some)] for i in range(len(batch))]
        mixed = rom.features(batch, mine)
        alone = np.concatenate([rom.features(one[None], p) for one, p in zip(batch, mine, strict=True)])
        for p in some:
            rows = [i for i, q in enumerate(mine) if q is p]
            parity = compare(alone[rows], mixed[rows])
            assert parity.holds(RELATIVE), f"{_name(rom)} answers differently in a mixed batch: {parity}"
        again = rom.features(batch, mine)
        assert np.array_equal(mixed, again), f"{_name(rom)} answers a mixed batch differently when asked again"
        equal_but_other = [Plugs(dict(p.shift), dict(p.kernel)) if p else None for p in mine]
        parity = compare(mixed, rom.features(batch, equal_but_other))
        assert parity.holds(RELATIVE), f"{_name(rom)} takes equal plugs for different ones: {parity}"


def check_plugs_leave_no_trace(open_rom: OpenRom, reference: Rom) -> None:
    """The plain features are bit for bit what they were, whatever was plugged in between; and plugs are the caller's."""
    with open_rom() as rom:
        batch = pictures(rom)
        plain, plugs = rom.features(batch), [plugs_for(rom, kinds) for kinds in KINDS]
        before = [p.key for p in plugs]
        for p in plugs:
            rom.features(batch, p)
            assert np.array_equal(rom.features(batch), plain), f"{_name(rom)} is another ROM after plugs"
        rom.features(batch, [plugs[0], None] * (len(batch) // 2))
        assert np.array_equal(rom.features(batch), plain), f"{_name(rom)} is another ROM after a mixed batch"
        kept = [Plugs(p.shift, p.kernel).key for p in plugs]
        assert kept == before, f"{_name(rom)} changes the plugs it is given"


def check_refuses_plugs_that_do_not_fit(open_rom: OpenRom, reference: Rom) -> None:
    """Unknown sockets, wrong shapes, another number of plugs, and what is no number, with a sentence; the ROM lives on."""
    with open_rom() as rom:
        batch, socket = pictures(rom, 2), rom.image.sockets[-1]
        plain, c, name = rom.features(batch), socket.channels, socket.name
        zeros = np.zeros(c, np.float32)
        mismatched = (
            Plugs({"no such socket": zeros}),
            Plugs(kernel={"no such socket": np.zeros((c, 3, 3), np.float32)}),
            Plugs({name: zeros[:-1]}),
            Plugs({name: zeros[None]}),
            Plugs(kernel={name: np.zeros((c, 2, 2), np.float32)}),
            Plugs(kernel={name: np.zeros((c, 3, 1), np.float32)}),
            Plugs(kernel={name: np.zeros((c, 99, 99), np.float32)}),
            Plugs(kernel={name: np.zeros((c, 1, 3, 3), np.float32)}),
        )
        no_numbers = (
            Plugs({name: np.full(c, np.nan, np.float32)}),
            Plugs({name: np.full(c, np.inf, np.float32)}),
            Plugs({name: np.full(c, 1e9, np.float32)}),
            Plugs({name: np.zeros(c, np.int64)}),
            Plugs(kernel={name: np.full((c, 3, 3), np.nan, np.float32)}),
        )
        for plugs, wanted in [(p, RomMismatch) for p in mismatched] + [(p, RomError) for p in no_numbers]:
            for given in (plugs, [None, plugs]):
                try:
                    rom.features(batch, given)
                except RomError as error:
                    assert isinstance(error, wanted), f"{_name(rom)} refuses plugs that do not fit with {type(error).__name__}"
                    assert "socket" in str(error), f"{_name(rom)} does not say which socket: {error}"
                else:
                    raise AssertionError(f"{_name(rom)} takes plugs that do not fit")
        try:
            rom.features(batch, [None])
        except RomError as error:
            assert "2 pictures, but 1 plugs" in str(error), f"{_name(rom)} refuses one plug for two pictures with: {error}"
        else:
            raise AssertionError(f"{_name(rom)} takes one plug for two pictures")
        assert np.array_equal(rom.features(batch), plain), f"{_name(rom)} is another ROM after plugs it refused"


def check_several_threads_get_their_own_answers(open_rom: OpenRom, reference: Rom) -> None:
    """One ROM asked by several threads at once, each with plugs of its own and plain in between."""
    with open_rom() as rom:
        batch = pictures(rom, 2)
        some = [None, plugs_for(rom, "shift"), plugs_for(rom, "kernel", 1), plugs_for(rom, seed=2)]
        expected = [rom.features(batch, p) for p in some]

        def ask(turn: int) -> bool:
            which = [(turn + i) % len(some) for i in range(8)]
            return all(compare(expected[i], rom.features(batch, some[i])).holds(RELATIVE) for i in which)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(ask, range(4))), f"{_name(rom)} mixes up the answers of threads"


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
    check_no_plugs_are_the_plain_rom,
    check_plugs_agree_with_the_reference,
    check_plugs_are_deterministic,
    check_plugs_do_not_depend_on_the_batch,
    check_mixed_batch_is_one_by_one,
    check_plugs_leave_no_trace,
    check_refuses_plugs_that_do_not_fit,
    check_several_threads_get_their_own_answers,
)


def _name(rom: Rom) -> str:
    return f"runtime {rom.runtime} ({rom.provider})"
