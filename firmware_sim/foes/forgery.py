"""Bundles as a foe makes them out of sound ones: signed by whoever it can sign for, and with contents nobody would learn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from edgecl.errors import ConfigError
from edgecl.registry import check
from edgecl.sharing.bundle import Bundle, from_bytes
from edgecl.sharing.signing import Signer
from edgecl.types import Arrays

_BLINDED = 40  # directions that a blinding anchor drowns
_LONGEST = 64  # characters of a task's name


def signed(bundle: Bundle, by: Signer, sequence: int = 1) -> bytes:
    """The bundle under that key and number."""
    numbered = replace(bundle, signer=by.key, sequence=sequence, signature="")
    return replace(numbered, signature=by.sign(numbered.unsigned_digest())).to_bytes()


def signed_raw(bundle: Bundle, by: Signer, sequence: int = 1) -> bytes:
    """The same for contents that edgecl would not write: the signature is good, whatever is in it."""
    numbered = replace(bundle, signer=by.key, sequence=sequence, signature="")
    return _raw(replace(numbered, signature=by.sign(hashlib.sha256(_raw(numbered)).digest())))


def _raw(bundle: Bundle) -> bytes:
    tensors = {f"head/{name}": value for name, value in bundle.head.arrays.items()}
    for mapper, arrays in bundle.anchors.items():
        tensors |= {f"anchor/{mapper}/{name}": value for name, value in arrays.items()}
    card = json.dumps(bundle.card(), sort_keys=True, separators=(",", ":"))
    return bytes(save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata={"edgecl": card}))


def with_header(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The bundle with its header's bytes changed, and their length told rightly."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = change(data[8:end])
    return len(header).to_bytes(8, "little") + header + data[end:]


def with_arrays(bundle: Bundle, head: Mapping[str, NDArray[Any]] = MappingProxyType({}), **anchor: NDArray[Any]) -> Bundle:
    """The bundle with arrays of its head, or of each of its anchors that has them, in place of others."""
    anchors = {
        mapper: {**arrays, **{name: value for name, value in anchor.items() if name in arrays}}
        for mapper, arrays in bundle.anchors.items()
    }
    return replace(bundle, head=replace(bundle.head, arrays={**bundle.head.arrays, **head}), anchors=anchors)


def own_bundle(loot: Bundle, name: str, seed: int) -> Bundle:
    """A sound head of nothing, unsigned: its anchor lies where no picture does, so it takes none and no check minds it.

    name: of its task.   seed: another one lies elsewhere, so that two of them do not take each other's place.
    """
    order = np.random.default_rng(seed).permutation(loot.head.width)
    anchors = {
        mapper: {k: _turned(k, v, order) if k in ("means", "directions") else v for k, v in arrays.items()}
        for mapper, arrays in sorted(loot.anchors.items())
    }
    head = replace(loot.head, arrays=dict(sorted(loot.head.arrays.items())))  # what is read from a file is in no order
    return _fresh(replace(loot, task=name, head=head, anchors=anchors))


def _turned(name: str, array: NDArray[Any], order: NDArray[Any]) -> NDArray[Any]:
    turned: NDArray[Any] = array[:, order]
    return -np.abs(turned) if name == "means" else turned


def _fresh(bundle: Bundle) -> Bundle:
    """Without what would say whose it was."""
    provenance = {k: v for k, v in bundle.provenance.items() if k not in ("converted", "merged")}
    return replace(bundle, provenance=provenance, signer="", sequence=0, signature="")


# -- valid signatures under wrong contents


def _renamed(bundle: Bundle, seed: int) -> Bundle:
    return replace(bundle, task=f"twin of {bundle.task}"[:_LONGEST].strip())


def _same(bundle: Bundle, seed: int) -> Bundle:
    return bundle


def _swapped(bundle: Bundle, seed: int) -> Bundle:
    names = bundle.head.classes
    return replace(bundle, head=replace(bundle.head, classes=(*names[1:], names[0])))


def _shuffled(bundle: Bundle, seed: int) -> Bundle:
    """Numbers of each array in another order: as large as before, so that no check of them can object."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.permuted(value.ravel()).reshape(value.shape) for name, value in sorted(bundle.head.arrays.items())}
    return replace(bundle, head=replace(bundle.head, arrays=arrays))


def _blinding(bundle: Bundle, seed: int) -> Bundle:
    """Own means where nothing is, and a scatter that drowns what tells other tasks apart, within what an anchor may hold."""
    own = own_bundle(bundle, f"blind {bundle.task}"[:_LONGEST].strip(), seed)
    return replace(own, anchors={mapper: _drowning(bundle.anchors[mapper], a) for mapper, a in own.anchors.items()})


def _drowning(of: Arrays, anchor: Arrays) -> Arrays:
    if "variances" not in anchor:
        return anchor
    means = of["means"] * of["means_step"][:, None]
    rows = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][: min(_BLINDED, max(1, len(means) - 1))]
    step = np.abs(rows).max(1, keepdims=True) / 127
    directions = np.rint(rows / step).astype(np.int8)
    long = np.square(directions * step).sum(1)
    variances = 1.9 / len(rows) / long  # scatter of pictures that have length one is 2 at most
    return {
        **anchor,
        "directions": directions,
        "directions_step": step[:, 0].astype(np.float32),
        "variances": variances.astype(np.float32),
    }


POISONS: Mapping[str, Callable[[Bundle, int], Bundle]] = MappingProxyType(
    {
        "collision": _renamed,  # takes the pictures of the task that it is a copy of
        "blinding": _blinding,  # makes other tasks' pictures look alike
        "squat": _same,  # another's head as its own: keeps the author's out where it comes first
        "swapped-classes": _swapped,  # answers with the wrong names
        "random-weights": _shuffled,  # answers anything
    }
)


def poisoned_bundle(real: bytes, by: Signer, sequence: int, how: str, seed: int = 0) -> bytes:
    """A valid bundle under the key `by` that does harm where it is taken: made from a real one, its signature is good.

    how: a name of POISONS. The last three cannot be told from an honest head without pictures of the task: what ends them is
    that somebody sees the answers and revokes the signer. Raises ConfigError for an unknown name.
    """
    check("poison", POISONS, how)
    if sequence < 1:
        raise ConfigError(f"a bundle's sequence number is 1 or more, got {sequence}")
    return signed(_fresh(POISONS[how](from_bytes(real), seed)), by, sequence)
