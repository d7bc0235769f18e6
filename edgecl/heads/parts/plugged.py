"""What BB, CLR and CPG share: learning plugs within bounds, and scoring with them.

A head with plugs reads two sets of features: the plain ones, which the mapper needs anyway, and those of the network with
its plugs. Each has its own closed-form map; the scores are their weighted sum.

A fifth of the pictures is held out while the plugs learn. On it two numbers, weight and temperature, and the threshold are set,
and the validation accuracy is measured: the plugs have not seen those pictures, and the maps leave each one out. Then the plugs
go on for a few short epochs over all pictures, so that nothing is wasted; the stated accuracy is that of before.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import BundleError, ConfigError, MissingDependency
from edgecl.heads.base import Head, Learned, Session, lead
from edgecl.heads.parts import discriminant, masks, packing
from edgecl.heads.parts.overlays import PICKS
from edgecl.heads.parts.recipe import Recipe, hold_out, read_pixels
from edgecl.heads.parts.settled import settled
from edgecl.rom.base import Rom
from edgecl.rom.overlay import Below
from edgecl.rom.sockets import Plugs
from edgecl.space import unit_sqrt
from edgecl.types import Floats, Ints, Pixels, Task

SCORE_BOUND = 0.05  # a smaller form is kept when the mean score moves by less; scores are logits
_FEWEST_HELD_OUT = 12  # pictures; with fewer, weight and temperature stay at their defaults
_WEIGHTS = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9)  # of the plugged map
_TEMPERATURES = np.geomspace(0.5, 4, 25)
_EXPECTED = 4.0  # how firmly weight 0.6 and temperature 1 are expected, in held-out pictures' worth of log loss


def learn(
    task: Task,
    rom: Rom,
    method: str,
    recipe: Recipe,
    sides: Mapping[str, int],
    seed: int,
    false_reject: float,
    session: Session,
    below: Below | None = None,
) -> Learned:
    """Learn plugs at the sockets in `sides` and the maps on top.

    sides: name -> side of the kernel; 0 for a shift alone, PICKS for a shift and the convolution's weights.   below: what other
    heads have put into the ROM's free places, where the head stands on them.

    Raises ConfigError before the work starts when it would take longer than the session's budget.
    """
    try:
        from edgecl.heads.parts import training
        from edgecl.rom.torch_compat import limited
    except ImportError as error:
        raise MissingDependency(f"'{method}' learns in PyTorch; add the extra: pip install 'edgecl[learn]'") from error
    y, k, plain = task.labels, len(task.classes), task.features
    _require_room(task, rom, sides, session.head_bytes)
    started = session.clock()
    pixels = read_pixels(task, rom)
    held = hold_out(y, seed)
    fitting = session.clock()
    on_plain = discriminant.fit(unit_sqrt(plain), y, k)
    per_fit = session.clock() - fitting
    with limited(rom.threads):
        key = _key(rom, method, recipe, sides, seed, task, pixels, training.kernels(), below)
        trained = training.run(task, rom, pixels, held, recipe, sides, seed, key, session, started, per_fit, below)
        with settled(session.say):
            return _head(task, rom, method, sides, held, on_plain, trained, pixels, false_reject, session)


def _key(
    rom: Rom,
    method: str,
    recipe: Recipe,
    sides: Mapping[str, int],
    seed: int,
    task: Task,
    pixels: Pixels,
    version: str,
    below: Below | None,
) -> str:
    """Digest over all that a learning depends on: a state on disk of another key is another learning's."""
    parts = [rom.rom_id, rom.runtime, method, asdict(recipe), dict(sides), seed, list(task.classes), sys.byteorder, version]
    digest = hashlib.sha256(json.dumps(parts).encode())
    lower = (*below.taken.values(), *below.values.values()) if below else ()
    for array in (task.features, task.labels, pixels, *lower):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _head(
    task: Task,
    rom: Rom,
    method: str,
    sides: Mapping[str, int],
    held: NDArray[np.bool_],
    on_plain: discriminant.Discriminant,
    trained: Any,
    pixels: Pixels,
    false_reject: float,
    session: Session,
) -> Learned:
    """The head from what has been learned: weight and thresholds by what was held out, maps fitted to all, smallest forms."""
    y, k, plain = task.labels, len(task.classes), task.features
    before = discriminant.fit(unit_sqrt(trained.tried), y, k)
    weight, temperature = _blend(on_plain.held_out, before.held_out, y, held)
    tried = _mix(on_plain.held_out, before.held_out, weight, temperature)
    for smallest in (False, True):  # whatever it costs only where it would not fit otherwise
        plugs, form, moved, plugged = _compact(trained, rom, pixels, y, k, smallest)
        on_plugged = discriminant.fit(unit_sqrt(plugged), y, k)
        w = np.concatenate([(1 - weight) * on_plain.w, weight * on_plugged.w], 1) / temperature
        b = ((1 - weight) * on_plain.b + weight * on_plugged.b) / temperature
        z = np.concatenate([unit_sqrt(plain), unit_sqrt(plugged)], 1)
        maps, map_form, map_moved = _smallest_map(w, z, smallest)
        arrays, layout = packing.plug_arrays(plugs, form)
        if session.head_bytes is None or sum(a.nbytes for a in (*maps.values(), *arrays.values())) <= session.head_bytes:
            break
    if max(moved, map_moved) > SCORE_BOUND:
        session.say(
            f"'{task.name}': to fit, the head is stored in a form that moves its scores by "
            f"{max(moved, map_moved):.2f} on average"
        )
    scored = held if held.any() else np.ones_like(held)
    settings = {"plugs": layout, "unknown_below": float(np.quantile(lead(tried[scored].astype(np.float32)), false_reject))}
    head = Head(method, task.classes, rom.rom_id, {**maps, "b": b.astype(np.float32), **arrays}, settings)
    report = {
        "validation_accuracy": round(float((tried[scored].argmax(1) == y[scored]).mean()), 4),
        "validation_log_loss": round(discriminant.log_loss(tried[scored], y[scored]), 4),
        "validation_pictures": int(scored.sum()),
        "linear_validation_accuracy": round(float((on_plain.held_out[scored].argmax(1) == y[scored]).mean()), 4),
        "weight_of_plugged_map": weight,
        "temperature": round(temperature, 3),
        "plugs": {"sockets": len(sides), "numbers": plugs.numbers, "form": form, "mean_score_change": round(moved, 5)},
        "map": {"form": map_form, "mean_score_change": round(map_moved, 5)},
        **trained.report,
    }
    return Learned(head, tried.astype(np.float32), report)


def _require_room(task: Task, rom: Rom, sides: Mapping[str, int], room: int | None) -> None:
    """Raise ConfigError when the head would be too large even in its smallest form."""
    if room is None:
        return
    k, needed = len(task.classes), smallest(len(task.classes), rom, sides)
    if needed > room:
        raise ConfigError(
            f"'{task.name}': a head of {k} classes with plugs in {len(sides)} sockets takes {needed:,} bytes, {max(0, room):,} "
            f"are left beside anchors and card. Nothing was changed. Allow more, use fewer sockets (--sockets last:10), or "
            f"learn a linear head"
        )


def smallest(k: int, rom: Rom, sides: Mapping[str, int]) -> int:
    """Bytes of a head of k classes in its smallest form, about, without weights of its own."""
    channels = {s.name: s.channels for s in rom.image.sockets}
    taken = {name: channels[name] * (side**2 + 2) if side > 0 else 0 for name, side in sides.items()}
    for name, side in sides.items():
        if side == PICKS:  # a bit for each weight, and a gain for each channel
            taken[name] = channels[name] + 2 + masks.packed_bytes(rom.image.free[name].size)
    return k * (2 * rom.width + 6) + sum(100 + channels[name] + 2 + taken[name] for name in sides)


def _mix(plain: Any, plugged: Any, weight: float, temperature: float) -> NDArray[np.float64]:
    """The scores of a head from those of its two maps."""
    out: NDArray[np.float64] = ((1 - weight) * plain + weight * plugged) / temperature
    return out


def _blend(plain: Any, plugged: Any, y: Ints, held: NDArray[np.bool_]) -> tuple[float, float]:
    """Weight of the plugged map and temperature, by the log loss of the held-out pictures and what is expected anyway."""
    if held.sum() < _FEWEST_HELD_OUT:
        return 0.6, 1.0
    best = (np.inf, 0.6, 1.0)
    for weight in _WEIGHTS:
        for t in _TEMPERATURES:
            loss = discriminant.log_loss(_mix(plain, plugged, weight, t)[held], y[held])
            loss += _EXPECTED / held.sum() * (4 * (weight - 0.6) ** 2 + np.log(t) ** 2)
            best = min(best, (loss, weight, float(t)))
    return best[1], best[2]


def _compact(trained: Any, rom: Rom, pixels: Pixels, y: Ints, k: int, smallest: bool) -> tuple[Plugs, str, float, Floats]:
    """Plugs in their smallest acceptable form, the form, how far it moves the mean score, and features (n, d) with them.

    The change is measured on the training pictures, under the map fitted to the features of the exact plugs. The features
    come from the deployed runtime, so that the maps are fitted to what they will read.   smallest: whatever it costs.
    """
    exact = trained.features(trained.plugs)
    d = discriminant.fit(unit_sqrt(exact), y, k)
    z = unit_sqrt(exact)
    chosen, moved = packing.FORMS[-1], 0.0
    for form in packing.FORMS[:-1]:
        arrays, layout = packing.plug_arrays(trained.plugs, form)
        if not all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f"):
            continue
        change = float(np.abs((unit_sqrt(trained.features(packing.plugs_of(arrays, layout))) - z) @ d.w.T).mean())
        if smallest or change <= SCORE_BOUND:
            chosen, moved = form, change
            break
    arrays, layout = packing.plug_arrays(trained.plugs, chosen)
    plugs = packing.plugs_of(arrays, layout)
    return plugs, chosen, moved, rom.features(pixels, trained.over_rom(plugs))


def _smallest_map(w: NDArray[np.float64], z: Floats, smallest: bool) -> tuple[dict[str, NDArray[Any]], str, float]:
    """A map (k, d) in its smallest form whose mean score change on z (n, d) stays below the bound."""
    for form in filter(lambda form: packing.fits(w, form), packing.FORMS):
        stored = packing.store("w", w.astype(np.float32), form)
        moved = float(np.abs(z @ (packing.fetch("w", stored) - w.astype(np.float32)).T).mean())
        if smallest or moved <= SCORE_BOUND:
            return stored, form, moved
    return stored, form, moved


def scores(head: Head, features: Floats, plugged: Floats | None) -> Floats:
    """Calibrated logits (n, k) float32."""
    assert plugged is not None
    z = plugged
    if head.settings.get("reads", "both") == "both":
        z = np.concatenate([unit_sqrt(features), unit_sqrt(plugged)], 1)
    out: Floats = z @ packing.fetch("w", head.arrays).T + head.arrays["b"]
    return out


def plugs(head: Head) -> Plugs:
    """The head's plugs."""
    return packing.plugs_of(head.arrays, head.settings["plugs"])


def width(head: Head) -> int:
    """d of each set of features that the map takes."""
    columns = int(head.arrays["w"].shape[1])
    return columns if head.settings.get("reads") == "plugged" else columns // 2


def check(head: Head) -> None:
    """Raise BundleError unless the head has a map w (k, 2 d), b (k,), and plugs as its settings describe them.

    A head of the recipe "paper" reads plugged features as they are: w (k, d), `reads` "plugged" and `phi` "identity".
    """
    k, arrays = len(head.classes), head.arrays
    forms = {("both", "unit_sqrt"): 2, ("plugged", "identity"): 1}
    form = (head.settings.get("reads", "both"), head.settings.get("phi", "unit_sqrt"))
    if not all(isinstance(word, str) for word in form) or form not in forms:
        raise BundleError(f"a {head.method} head reads {list(forms)}, this one says {str(form)[:60]}")
    if "w" not in arrays or arrays["w"].ndim != 2 or arrays["w"].shape[1] % forms[form] or not arrays["w"].size:
        raise BundleError(f"a {head.method} head of {k} classes needs w ({k}, {forms[form]} d)")
    packing.check_rows("w", arrays, (k, arrays["w"].shape[1]))
    b = arrays.get("b")
    if b is None or b.shape != (k,) or b.dtype != np.float32:
        raise BundleError(f"a {head.method} head of {k} classes needs b ({k},) float32")
    used = {"w", "b"} | ({"w_step"} & set(arrays)) | packing.check_plugs(arrays, head.settings.get("plugs"))
    if set(arrays) != used or used == {"w", "b"}:
        raise BundleError(
            f"a {head.method} head holds arrays that belong to no plug, or no plugs: {sorted(set(arrays) ^ used)[:4]}"
        )
    if any(not float(np.abs(a).max(initial=0)) < packing.LARGEST for a in arrays.values()):
        raise BundleError(f"a {head.method} head holds numbers that scores cannot be made of")
    below = head.settings.get("unknown_below", 0.0)
    if isinstance(below, bool) or not isinstance(below, (int, float)) or not abs(below) < packing.LARGEST:
        raise BundleError(f"a {head.method} head's unknown_below must be a finite number")
