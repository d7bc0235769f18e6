"""What every transport must satisfy.

`open_place` opens the same place again and again, empty at first, as several devices would. Each check raises AssertionError
with a sentence. `CHECKS` fit every transport; `OPEN` those where a stranger may write too, as on a stick or in a bucket, and
use the leaf's own `_write` as that stranger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from edgecl.errors import TransferError
from edgecl.sharing.transport.base import Entry, Transport

Opener = Callable[[], Transport]
Check = Callable[[Opener], None]


def check_what_was_put_is_got(open_place: Opener) -> None:
    """Byte for byte, by whoever opens the place, whatever its size."""
    place = open_place()
    for size in (1, 1_000, 300_000):
        data = _bytes(size)
        assert place.put(data), f"{place.where}: put says that it had {size} bytes that it never saw"
        for view in (place, open_place()):
            assert view.get(_digest(data), size) == data, f"{place.where}: {size} bytes come back changed"


def check_listing_is_what_is_there(open_place: Opener) -> None:
    """Nothing at first, then each bundle with its size; also for one who has looked before."""
    place, other = open_place(), open_place()
    assert place.ls() == other.ls() == [], f"{place.where} lists bundles before there are any"
    wanted = []
    for size in (5, 70_000, 6):
        data = _bytes(size)
        other.put(data)
        wanted.append(Entry(_digest(data), size))
        found = place.ls()
        assert found == sorted(wanted, key=lambda entry: entry.digest), f"{place.where} lists {found} for {wanted}"


def check_put_twice_is_once(open_place: Opener) -> None:
    """The second time it says so, whoever was first, and nothing is there twice."""
    place, data = open_place(), _bytes(40_000)
    assert [place.put(data), place.put(data), open_place().put(data)] == [True, False, False], (
        f"{place.where}: put does not say whether the bundle was there before"
    )
    assert len(place.ls()) == 1, f"{place.where} holds one bundle twice"


def check_notes_are_kept_beside_the_bundles(open_place: Opener) -> None:
    """None at first, then the newest, by whoever opens the place; bounded, and no bundle in the listing."""
    place, key = open_place(), "ab" * 32
    assert place.note(key, 100) is None, f"{place.where} has a note that nobody wrote"
    for data in (b"one", b"another, and longer"):
        place.put_note(key, data)
        for view in (place, open_place()):
            assert view.note(key, len(data)) == data, f"{place.where}: a note comes back changed, or is an older one"
    _require_refused(place, lambda: place.note(key, 5), "gives a note that is longer than the limit")
    assert place.ls() == [] and place.note("cd" * 32, 100) is None, f"{place.where} takes a note for something else"


def check_limit_is_kept(open_place: Opener) -> None:
    """A bundle of just the limit is given, one byte more is refused."""
    place, data = open_place(), _bytes(1_000)
    place.put(data)
    assert place.get(_digest(data), len(data)) == data, f"{place.where} refuses a bundle of just the limit"
    _require_refused(place, lambda: place.get(_digest(data), len(data) - 1), "gives more than the limit")


def check_unknown_digest_is_refused(open_place: Opener) -> None:
    """In an empty place, and beside others."""
    place = open_place()
    for _ in range(2):
        _require_refused(place, lambda: place.get(_digest(b"never put"), 1_000), "gives what it does not have")
        place.put(_bytes(10))


def check_damage_is_refused_and_repaired(open_place: Opener) -> None:
    """Bytes of another digest are never given; sharing again puts the right ones in their place."""
    place, data = open_place(), _bytes(5_000)
    for what, wrong in (
        ("changed", bytes(5_000)),
        ("cut off", data[:4_999]),
        ("too long", data + b"!"),
        ("empty", b""),
    ):
        place._write(_digest(data), wrong)
        _require_refused(place, lambda: place.get(_digest(data), 10_000), f"gives a bundle that is {what}")
        assert open_place().put(data), f"{place.where}: put leaves a bundle that is {what}"
        assert place.get(_digest(data), len(data)) == data, f"{place.where}: put does not repair a bundle that is {what}"


def check_reading_stops_where_it_is_told(open_place: Opener) -> None:
    """However long a stranger's object is, the leaf reads no more than it is asked for."""
    place, data = open_place(), _bytes(500_000)
    place._write(_digest(data), data)
    for most in (1, 1_000, 499_999, 500_000, 500_001):
        assert place._read(_digest(data), most) == data[:most], f"{place.where} reads other than the first {most} bytes"


def check_other_names_are_passed_over(open_place: Opener) -> None:
    """What lies there under a name that is no digest is not listed and stops nothing."""
    place, data = open_place(), _bytes(100)
    place.put(data)
    for name in ("notes", _digest(data).upper(), _digest(data)[:-1], "x" * 64, "0" * 63 + " "):
        place._write(name, b"?")
    assert [entry.digest for entry in open_place().ls()] == [_digest(data)], f"{place.where} lists what is no bundle"


CHECKS: tuple[Check, ...] = (
    check_what_was_put_is_got,
    check_listing_is_what_is_there,
    check_put_twice_is_once,
    check_notes_are_kept_beside_the_bundles,
    check_limit_is_kept,
    check_unknown_digest_is_refused,
)
OPEN: tuple[Check, ...] = (
    check_damage_is_refused_and_repaired,
    check_reading_stops_where_it_is_told,
    check_other_names_are_passed_over,
)


def _bytes(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require_refused(place: Transport, act: Callable[[], object], what: str) -> None:
    try:
        act()
    except TransferError as error:
        assert str(error), f"{place.where} refuses without a sentence"
    else:
        raise AssertionError(f"{place.where} {what}")
