"""Mutated bundles against the reader: none may be accepted, crash it, hang it, or make it say something unprintable.

    python benchmarks/fuzz_bundles.py [--count 200000] [--seed 0]

Half of the mutants are bytes changed blindly, the others well-formed files with a changed card or header, which get past the
first checks. The judge is that of a device which trusts the signer of the original, and no other.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgecl.errors import BundleError, RomMismatch
from edgecl.sharing.bundle import from_bytes
from edgecl.sharing.trust import Peer, Standing, judge
from edgecl.sharing.trust_store import offer_of, require_sound

GOLDEN = Path(__file__).parents[1] / "tests/edgecl/sharing/golden/bundle-1.safetensors"
SLOW = 2.0  # seconds for one of a few kilobytes: a hang
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    "",
    "\u202e",
    "../x",
    "\x1b[2J",
    "\ud800",
    [],
    {},
    [[]],
    {"a": {}},
    "0" * 64,
    "A" * 128,
]


def blind(rng: random.Random, whole: bytes) -> bytes:
    """Bits, bytes, lengths and order changed."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) or 1)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 8, 64, len(data)))]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8, 64)))
        elif kind == 4:
            begin = rng.randrange(len(data) or 1)
            data[at:at] = data[begin : begin + rng.choice((8, 64, 512))]
        elif kind == 5:
            data[:8] = struct.pack("<Q", rng.choice((0, 1, len(data), 2**31, 2**63, 2**64 - 1, rng.randrange(2 * len(whole)))))
        else:
            data += rng.randbytes(rng.choice((1, 8, 4096)))
    return bytes(data)


def structured(rng: random.Random, whole: bytes) -> bytes:
    """Card or header changed, and written as the format wants it."""
    (length,) = struct.unpack("<Q", whole[:8])
    header, tensors = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    card = json.loads(header["__metadata__"]["edgecl"])
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.6:
            change(rng, card)
        else:
            change(rng, header)
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["edgecl"] = json.dumps(card, sort_keys=True, separators=(",", ":"))
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + tensors


def change(rng: random.Random, inside: Any) -> None:
    """One value somewhere in nested objects replaced, removed, doubled or moved."""
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(inside[key], (dict, list)) and inside[key] and rng.random() < 0.6:
            inside = inside[key]
            continue
        kind = rng.randrange(4)
        if kind == 0:
            inside[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 1:
            del inside[key]
        elif kind == 2:
            value = inside[key]
            nudged = (
                value + rng.choice((-1, 1, 8)) if isinstance(value, (int, float)) and not isinstance(value, bool) else [value]
            )
            inside[key] = nudged
        elif isinstance(inside, dict):
            inside[rng.choice(("task", "head/x", "anchor/none/y", "signer", "extra", "__metadata__"))] = copy.deepcopy(
                inside[key]
            )
        else:
            inside.append(copy.deepcopy(inside[key]))
        return


def judged(data: bytes, here: Standing) -> None:
    """Raise what a device would."""
    bundle = from_bytes(data)
    require_sound(bundle)
    if refused := judge(offer_of(bundle, data), here):
        raise refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, whole = random.Random(options.seed), GOLDEN.read_bytes()
    original = from_bytes(whole)
    here = Standing("0" * 64, original.head.rom_id, peers={original.signer: Peer("friend", original.signer)})
    judged(whole, here)
    reasons: Counter[str] = Counter()
    slowest, same, started = 0.0, 0, time.perf_counter()
    for number in range(options.count):
        data = (blind if number % 2 else structured)(rng, whole)
        if data == whole:
            same += 1
            continue
        began = time.perf_counter()
        try:
            judged(data, here)
        except (BundleError, RomMismatch) as error:
            reasons[str(error.reason)] += 1
            if not str(error).isprintable():
                raise SystemExit(
                    f"mutant {number} of seed {options.seed}: the refusal is not printable: {str(error)!r}"
                ) from None
        else:
            raise SystemExit(f"mutant {number} of seed {options.seed} was accepted")
        slowest = max(slowest, time.perf_counter() - began)
        if slowest > SLOW:
            raise SystemExit(f"mutant {number} of seed {options.seed} took {slowest:.1f} s")
    print(
        f"{options.count:,} mutants, {same} of them the original again, in {time.perf_counter() - started:.0f} s: all refused"
    )
    print(", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common()) + f"; slowest {1e3 * slowest:.0f} ms")


if __name__ == "__main__":
    main()
