"""A sealed FP32 image -> an image of a lower precision, gated by its features and by accuracy before it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from safetensors.numpy import load

from edgecl.errors import ConfigError, RomError
from edgecl.rom import image as rom_image
from edgecl.rom.half import halve
from edgecl.rom.image import GRAPH, WEIGHTS, RomImage
from edgecl.rom.ort import OrtRom
from export import calibrate, gate, precision, verify
from export.gate import Verdict

KEEP = 0.02  # share of the weights that sensitive layers may keep in float32: 6 % of an INT8 file
_SENSED = 16  # pictures that sensitivity is measured on


def require_place(folder: Path) -> None:
    """Raise RomError unless an image may be written to `folder`: it is not there, is empty, or holds an image."""
    if folder.exists() and not (folder.is_dir() and ((folder / rom_image.MANIFEST).exists() or not any(folder.iterdir()))):
        raise RomError(f"{folder} is there already and is no ROM image; give a new or an empty folder")


def reduce(
    image: RomImage,
    folder: Path,
    to: str,
    *,
    calibration: Path | None = None,
    pictures: Path | None = None,
    labelled: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> RomImage:
    """Write `image` in the precision `to`, "fp16" or "int8", as a ROM of its own into `folder`.

    calibration: folder of pictures that INT8's ranges are measured on.   pictures: folder of pictures that features are
    compared on.   labelled: folder of tasks, TASK/train/CLASS/ and TASK/test/CLASS/, that accuracy is measured on. Without
    them, what comes with scikit-learn is used, and the manifest says so.
    INT8 has no sockets: heads that act inside the network were trained on float32 values that it does not have.
    Raises RomError when the gate does not hold, unless `force`; nothing is then written.
    """
    require_place(folder)
    if to not in gate.BOUNDS:
        raise ConfigError(f"there is no precision '{to}'; known are {', '.join(rom_image.PRECISIONS)}")
    if image.precision != "fp32":
        raise RomError(f"ROM {image.rom_id[:12]} is {image.precision} already; give an FP32 image")
    tasks, proxy = gate.labelled(labelled)
    seen = verify.sample_pictures(image.preprocess, pictures)
    with tempfile.TemporaryDirectory() as place, OrtRom(image) as reference:
        say(f"learning on FP32 for the gate: {sum(len(t.train) + len(t.test) for t in tasks)} pictures")
        before = gate.accuracy(reference, tasks)

        def judged(graph: bytes, quantised: dict[str, Any]) -> tuple[RomImage, Verdict]:
            draft = _write(Path(tempfile.mkdtemp(dir=place)) / "rom", image, to, graph, {}, quantised)
            with OrtRom(draft) as reduced:
                return draft, gate.judge(to, reference, reduced, seen, tasks, proxy, before)

        quantised: dict[str, Any] = {}
        if to == "fp16":
            graph = halve(image.read(GRAPH))
            _, verdict = judged(graph, {})
        else:
            graph, quantised, verdict = _int8(image, calibration, judged, say)
    failures = verdict.failures()
    say(f"gate of {to}: {verdict}")
    if failures and not force:
        raise RomError(
            f"{to} does not pass its gate: {'; '.join(failures)}. Nothing was written; calibrate with pictures like those it "
            f"will see (--calibration), use a higher precision, or write it all the same with --force"
        )
    if failures:
        say(f"WRITTEN BY FORCE, the gate does not hold: {'; '.join(failures)}")
    record = verdict.to_dict() | {"against": image.rom_id, "failures": failures, "forced": bool(failures)}
    return _write(folder, image, to, graph, record, quantised)


def _int8(
    image: RomImage,
    folder: Path | None,
    judged: Callable[[bytes, dict[str, Any]], tuple[RomImage, Verdict]],
    say: Callable[[str], None],
) -> tuple[bytes, dict[str, Any], Verdict]:
    """The quantised graph, what the manifest says of it, and the verdict.

    While the gate fails, the layers that gain most are kept in float32: one, two, four, as far as `KEEP` allows.
    """
    source, p = image.read(GRAPH), image.preprocess
    pictures = calibrate.calibration(p, folder)
    say(f"calibrating with {len(pictures.pictures)} pictures: {pictures.source}")
    ranges = calibrate.ranges(source, pictures.pictures, p)

    def attempt(keep: Sequence[str]) -> tuple[bytes, dict[str, Any], Verdict]:
        graph = precision.to_int8(source, ranges, keep)
        described = {
            "digest": precision.numbers_digest(graph),
            "calibration": pictures.to_dict(),
            "kept_in_float32": list(keep),
        }
        return graph, described, judged(graph, described)[1]

    best = attempt(())
    if not best[2].failures():
        return best
    some = pictures.pictures[:_SENSED]
    sizes = precision.layers(source)
    room = KEEP * sum(sizes.values())
    small = [name for name, size in sizes.items() if size <= room]
    say(f"the gate does not hold yet; measuring which of {len(small)} layers to keep in float32")
    gains = calibrate.sensitivity(
        lambda keep: precision.to_int8(source, ranges, keep), small, calibrate.features(source, some, p), some, p
    )
    order: list[str] = []
    for name in sorted(small, key=lambda name: (-gains[name], name)):
        if gains[name] > 0 and sum(sizes[n] for n in (*order, name)) <= room:
            order.append(name)
    count = 1
    while order and best[2].failures():
        best = attempt(order[:count])
        say(f"{min(count, len(order))} layers in float32: {'; '.join(best[2].failures()) or 'the gate holds'}")
        if count >= len(order):
            break
        count *= 2
    return best


def _write(folder: Path, image: RomImage, to: str, graph: bytes, record: dict[str, Any], quantised: dict[str, Any]) -> RomImage:
    return rom_image.write(
        folder,
        backbone=image.backbone,
        features=image.features,
        preprocess=image.preprocess,
        precision=to,
        graph=graph,
        weights=load(image.read(WEIGHTS)),
        parity=record,
        made_with={**image.made_with, "onnxruntime": str(ort.__version__)},
        sockets=() if to == "int8" else image.sockets,
        quantised=quantised,
        free={name: places for name, places in image.free.items() if places.any()} if to == "fp16" else None,
        compacted=image.compacted,
    )
