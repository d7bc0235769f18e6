"""A head learned on one ROM -> a head for another of the same backbone, such as its INT8 form.

Features of another precision are other features, so a head is bound to its ROM by `rom_id`. Two ways across: learn it again
from the task's pictures, which loses nothing but time; or carry the arrays over, and measure on pictures what that changes.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import registry
from edgecl.config import DeviceConfig
from edgecl.device import EdgeDevice
from edgecl.errors import BundleError, DataError, PictureError, Reason, RomMismatch
from edgecl.importing import OPINION
from edgecl.metrics.accuracy import softmax
from edgecl.pictures.folders import expand
from edgecl.pictures.reading import Progress, read_features, silent
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.types import Floats, task_name

MIN_PICTURES = 8  # fewer say nothing about what carrying a head over changes


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What carrying over may change, as shares of the pictures.

    Measured from FP32 to INT8 on 14 tasks: 0.93 to 1.0 of a task's pictures keep their label, 0.97 to 1.0 their task, and the
    joint accuracy falls by 0.4 points.
    """

    labels: float = 0.90  # least share that gets the same label
    mapper: float = 0.95  # least share that the mapper gives to the same task


@dataclasses.dataclass(frozen=True)
class Change:
    """What carrying heads over changes, measured with both ROMs on the same pictures.

    labels: share with the same best class.   mapper: share given to the same task.   known: share for which "known" or
    "unknown task" stays.   largest, mean: change of a class's probability.
    """

    pictures: int
    labels: float
    mapper: float
    known: float
    largest: float
    mean: float

    def failures(self, bounds: Bounds) -> list[str]:
        """What is out of bounds, as phrases."""
        found = []
        for word, value, least in (
            ("the same label", self.labels, bounds.labels),
            ("the same task", self.mapper, bounds.mapper),
        ):
            if not value >= least:
                found.append(f"{100 * value:.1f} % of {self.pictures} pictures get {word}, asked {100 * least:.0f} %")
        return found

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 5) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"on {self.pictures} pictures {100 * self.labels:.1f} % keep their label, {100 * self.mapper:.1f} % their task; "
            f"probabilities change by {self.mean:.3f} on average, {self.largest:.3f} at most"
        )


def relearn(bundle: Bundle, data: Path, to: Rom, config: DeviceConfig, progress: Progress = silent) -> Bundle:
    """The bundle's task, learned again on `to` by the same method and options from its pictures: head and anchors are fresh.

    data: the task's pictures, as `EdgeDevice.learn` takes them; their classes must be the head's.   config: of the device.
    Raises DataError for pictures of other classes, and RomMismatch for what `require_convertible` refuses.
    """
    require_convertible(bundle, to)
    options = dataclasses.asdict(config) | {"rom": to.image.folder}
    with tempfile.TemporaryDirectory(prefix="edgecl-convert-") as place, EdgeDevice(place, **options) as own:
        own.learn(bundle.task, data, **_learned_by(bundle), progress=progress)
        fresh = from_bytes(own.export(bundle.task))
    if set(fresh.head.classes) != set(bundle.head.classes):
        strange = sorted(set(fresh.head.classes) ^ set(bundle.head.classes))
        raise DataError(
            f"{data} has other classes than '{bundle.task}': {', '.join(strange[:5])}; give the task's own pictures"
        )
    return _told(fresh, bundle, {"how": "learned again", "from_signers": []})


def _learned_by(bundle: Bundle) -> dict[str, Any]:
    """Method and options by which the head was learned, as far as its bundle says so in words that mean something.

    What `auto` chose is learned again by that method. Words that a method does not know are refused by it.
    """
    said = bundle.provenance.get("learned_by")
    said = said if isinstance(said, dict) else {}
    method, seed = said.get("asked"), said.get("seed")
    of_this_head = isinstance(method, str) and registry.METHODS.get(method, ("", {}))[0] == registry.HEADS[bundle.head.method]
    options = {key: said[key] for key in ("recipe", "sockets") if isinstance(said.get(key), str)}
    return {
        "method": method if of_this_head else bundle.head.method,
        "seed": seed if isinstance(seed, int) and not isinstance(seed, bool) else 0,
        **options,
    }


def carry(bundle: Bundle, change: Change, to: Rom) -> Bundle:
    """The bundle with the same arrays, bound to `to`; `change` is what `measure` said and goes into its report."""
    if bundle.head.plugs:
        raise RomMismatch(
            f"head '{bundle.task}' ({bundle.head.method}) acts inside the network and is not carried over; learn it again with "
            f"--data"
        )
    bundle.require_width(to.width)
    head = dataclasses.replace(bundle.head, rom_id=to.rom_id)
    how = {"how": "carried over", "from_signers": sorted(bundle.makers - {""})}
    return _told(dataclasses.replace(bundle, head=head), bundle, {**how, **change.to_dict()})


def measure(bundles: Sequence[Bundle], source: Rom, to: Rom, pictures: Sequence[Any], mapper: str) -> dict[str, Change]:
    """What carrying each of `bundles` over would change, task by task.

    pictures: paths or whatever `decode` takes, like those that the device will see.   mapper: name; it knows all bundles.
    A head is judged on the pictures that the mapper gives to its task, on all of them where these are too few.
    """
    if plugged := [bundle.task for bundle in bundles if bundle.head.plugs]:
        raise RomMismatch(f"heads that act inside the network are not carried over: {', '.join(plugged)}; use --data")
    reading = read_features(source, pictures)
    if len(reading.kept) < MIN_PICTURES:
        raise DataError(
            f"{len(reading.kept)} readable pictures are too few to measure what converting changes; give {MIN_PICTURES} or "
            f"more like those that the device sees"
        )
    before = reading.features
    after = read_features(to, [pictures[i] for i in reading.kept]).features
    knows = registry.load("mapper", registry.MAPPERS, mapper)(source.width)
    for bundle in bundles:
        knows.add(bundle.task, bundle.anchor(mapper))
    a, b = knows.assign(before), knows.assign(after)
    found = {}
    for bundle in bundles:
        rows = np.flatnonzero(a.task == knows.tasks.index(bundle.task))
        rows = rows if len(rows) >= MIN_PICTURES else np.arange(len(before))
        x, y = _probabilities(bundle, before[rows]), _probabilities(bundle, after[rows])
        found[bundle.task] = Change(
            pictures=len(rows),
            labels=float((x.argmax(1) == y.argmax(1)).mean()),
            mapper=float((a.task == b.task)[rows].mean()),
            known=float((a.known == b.known)[rows].mean()),
            largest=float(np.abs(x - y).max()),
            mean=float(np.abs(x - y).mean()),
        )
    return found


def require_convertible(bundle: Bundle, to: Rom) -> None:
    """Raise RomMismatch for a head that acts inside the network where `to` has no sockets for it, or stands on others."""
    if bundle.head.over:
        raise RomMismatch(
            f"head '{bundle.task}' picks from the weights of {bundle.head.over[-1]}, which are for ROM "
            f"{bundle.head.rom_id[:12]}; learn both anew on {to.rom_id[:12]}, the lower one first"
        )
    if bundle.head.plugs and to.image.precision == "int8":
        raise RomMismatch(
            f"head '{bundle.task}' ({bundle.head.method}) acts inside the network, and an INT8 ROM has no sockets for it: its "
            f"plugs are made of float32 values. Keep it on FP32 or FP16, or learn the task there by a method without plugs"
        )


def convert(
    device: EdgeDevice,
    to: Rom,
    tasks: Sequence[str] = (),
    *,
    data: Path | None = None,
    pictures: Path | None = None,
    force: bool = False,
    bounds: Bounds | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Bundle], dict[str, Change]]:
    """Bundles for `to` of the tasks in force on `device`, and, where they were carried over, what that changes. Stores nothing.

    tasks: names; empty takes all that are not on `to` already.   data: folder of the tasks (DATA/TASK) or, for one task, its
    own; the heads are learned again.   pictures: folder; the heads are carried over and measured on these.
    Raises DataError when a task's pictures are missing, RomMismatch when carrying over changes more than `bounds`, unless
    `force`, or where a head cannot be converted.
    """
    if (data is None) == (pictures is None):
        raise DataError(
            "give the tasks' pictures to learn the heads again (--data), or pictures like those that the device sees, to carry "
            "them over and measure what that changes (--pictures)"
        )
    current = device.bank.current()
    opinions = {name for name, action in device.bank.actions().items() if action == OPINION}
    names = [task_name(name) for name in tasks] or sorted(set(current) - opinions)
    if asked := opinions & set(names):
        raise BundleError(
            f"'{min(asked)}' is a second opinion, which is another device's; it is not converted. Convert it there"
        )
    if unknown := [name for name in names if name not in current]:
        raise device.bank.unknown(unknown[0])
    bundles = [from_bytes(device.bank.get(current[name])) for name in names]
    bundles = [bundle for bundle in bundles if bundle.head.rom_id != to.rom_id]
    barred = device.trust.barred()
    for bundle in bundles:
        require_convertible(bundle, to)
        if why := barred(bundle):  # this device's signature would make it serve again
            raise BundleError(f"'{bundle.task}' is not converted: {why}", Reason.REVOKED)
    _ = device.trust.signer  # a key that cannot be used is better known now than after the learning
    if data is not None:
        places = {bundle.task: _place(data, bundle.task, len(bundles) == 1) for bundle in bundles}
        learned = {bundle.task: relearn(bundle, places[bundle.task], to, device.config, progress) for bundle in bundles}
        return {task: device.trust.sign(bundle) for task, bundle in learned.items()}, {}
    for bundle in bundles:
        bundle.head.require_rom(device.rom.rom_id, bundle.task)
    listed = list(expand([str(pictures)]))
    found = [path for path in listed if isinstance(path, Path)]
    if not found and (failed := [error for error in listed if isinstance(error, PictureError)]):
        raise failed[0]
    changes = measure(bundles, device.rom, to, found, device.config.mapper) if bundles else {}
    refused = [f"'{task}': {'; '.join(f)}" for task, change in changes.items() if (f := change.failures(bounds or Bounds()))]
    if refused and not force:
        raise RomMismatch(
            f"carried over to ROM {to.rom_id[:12]}, heads would answer otherwise than before: {'. '.join(refused)}. Learn them "
            f"again with --data, or carry them over all the same with --force"
        )
    return {bundle.task: device.trust.sign(carry(bundle, changes[bundle.task], to)) for bundle in bundles}, changes


def _place(data: Path, task: str, alone: bool) -> Path:
    if (data / task).is_dir():
        return data / task
    if alone and data.exists():
        return data
    raise DataError(f"there are no pictures of '{task}' in {data}: it has no folder of that name; name the tasks to convert")


def _probabilities(bundle: Bundle, features: Floats) -> Floats:
    return softmax(bundle.head.scores(features))


def _told(new: Bundle, old: Bundle, how: Mapping[str, Any]) -> Bundle:
    """`new` with a line in its provenance that says where it comes from, and without a signature: it is to be signed here."""
    origin = {"from_rom": old.head.rom_id, "from_digest": digest(old.to_bytes()), **how}
    return dataclasses.replace(new, provenance={**new.provenance, "converted": origin}, signer="", sequence=0, signature="")
