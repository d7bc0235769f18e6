"""Two heads of one task, learned on two devices from unlike pictures, made into one without the pictures."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from edgecl import registry
from edgecl.collisions import per_class
from edgecl.errors import BundleError
from edgecl.sharing.bundle import Bundle, digest
from edgecl.types import Ints


def merge(a: Bundle, b: Bundle) -> Bundle:
    """One head of `a`'s task out of both, unsigned; whose they were is told by its provenance.

    Raises BundleError where that would not be sound: another ROM or method, other classes, pictures counted twice, or counts
    that a bundle does not give.
    """
    why = _hindrance(a, b)
    if why:
        raise BundleError(f"'{a.task}' is not merged: {why}. To keep both: --as NAME, a second opinion")
    a_counts, b_counts = _counts(a), _counts(b)
    order = np.array([b.head.classes.index(name) for name in a.head.classes])
    b_counts = b_counts[order]
    head = import_module(registry.HEADS[a.head.method]).merge(a.head, b.head, a_counts, b_counts, order)
    anchors = {
        name: registry.load("mapper", registry.MAPPERS, name).merge(arrays, b.anchors[name], a_counts, b_counts, order)
        for name, arrays in a.anchors.items()
        if name in b.anchors
    }
    counts = a_counts + b_counts
    provenance = {
        "pictures": int(counts.sum()),
        "per_class": {name: int(n) for name, n in zip(head.classes, counts, strict=True)},
        **{key: a.provenance[key] for key in ("rom", "runtime", "versions", "seed") if key in a.provenance},
        "merged": {
            "from_signers": sorted((a.makers | b.makers) - {""}),
            "from_digests": sorted(parts(a) | parts(b)),
            "validation_accuracies": [one.report.get("validation_accuracy") for one in (a, b)],
        },
    }
    merged = Bundle(a.task, head, anchors, {}, provenance)
    merged.head.check()
    return merged


def parts(bundle: Bundle) -> frozenset[str]:
    """Digests of the bundle, and of all by others that it was merged or continued from."""
    found = {digest(bundle.to_bytes())}
    for how in ("merged", "continued"):
        came = bundle.provenance.get(how)
        before = came.get("from_digests") if isinstance(came, dict) else None
        found |= {d for d in before if isinstance(d, str)} if isinstance(before, list) else set()
    return frozenset(found)


def _hindrance(a: Bundle, b: Bundle) -> str:
    """Why they cannot be merged, or ""."""
    if a.head.rom_id != b.head.rom_id:
        return f"one head was learned on ROM {a.head.rom_id[:12]}, the other on {b.head.rom_id[:12]}"
    if a.head.method != b.head.method or not hasattr(import_module(registry.HEADS[a.head.method]), "merge"):
        return f"heads by {a.head.method} and {b.head.method} do not add up; two linear ones do"
    if set(a.head.classes) != set(b.head.classes):
        only = sorted(set(a.head.classes) ^ set(b.head.classes))
        return f"only one of them knows {', '.join(only[:5])}{', ...' if len(only) > 5 else ''}"
    if parts(a) & parts(b):
        return "the pictures of one are in the other already, and would count twice"
    if not set(a.anchors) & set(b.anchors):
        return "they have no anchor for the same mapper"
    if per_class(a) is None or per_class(b) is None:
        return "one of them does not say how many pictures each class had"
    return ""


def _counts(bundle: Bundle) -> Ints:
    counts = per_class(bundle)
    assert counts is not None
    return counts
