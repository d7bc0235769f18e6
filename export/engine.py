"""A sealed ROM -> TensorRT engines, for this machine's GPU or, with TensorRT-RTX, for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecl.errors import ConfigError, RomError, RuntimeUnavailable
from edgecl.rom import socketed, trt_api
from edgecl.rom.cuda import Gpu
from edgecl.rom.image import RomImage
from edgecl.rom.trt_build import PLAIN, Engine, Progress, Say, Target, engine
from edgecl.text import printable

SOCKETS = (PLAIN, *socketed.KINDS)


def engines(
    rom: Path,
    folder: Path,
    sms: Sequence[str] = (),
    sockets: Sequence[str] = (),
    say: Say = lambda line: None,
    progress: Progress = lambda stage, done, total: None,
) -> Iterator[Engine]:
    """The engines of the ROM image in `rom`, one after the other, built into `folder` or found there.

    sms: compute capabilities, "86"; none takes the GPU of this machine.   sockets: of SOCKETS; none takes all that the ROM has.
    A device finds them when `folder` is, or is copied into, `cache/sessions` of its home.
    Raises ConfigError for an unknown compute capability or kind of sockets, MissingDependency without a TensorRT that can do
    this, RuntimeUnavailable without a GPU where one is needed, RomError for a graph it cannot build. All but the last are
    raised before anything is built.
    """
    image = RomImage.open(rom)
    for kind in sockets:
        if kind not in SOCKETS:
            raise ConfigError(f"there are no sockets '{printable(kind, 40)}'; known: {', '.join(SOCKETS)}")
        if kind != PLAIN:
            socketed.inputs(image.sockets, kind)  # refuses a ROM without sockets
    trt = trt_api.find(build_without_gpu=bool(sms))
    targets = [Target(trt_api.check_sm(trt, _plain(sm))) for sm in dict.fromkeys(sms)] or [_here(trt)]
    kinds = tuple(sockets) or (SOCKETS if image.sockets else (PLAIN,))
    return _built(image, trt, targets, kinds, folder, say, progress)


def _built(
    image: RomImage,
    trt: trt_api.TensorRT,
    targets: Sequence[Target],
    kinds: Sequence[str],
    folder: Path,
    say: Say,
    progress: Progress,
) -> Iterator[Engine]:
    for target in targets:
        for kind in kinds:
            made = engine(image, kind, trt, target, folder, say, progress)
            if made.path is None:
                raise RomError(f"the engine was built but cannot be written into {folder}; give a folder with room: -o FOLDER")
            yield made


def _plain(sm: str) -> str:
    """86 from 86, 8.6, sm86 or sm_86."""
    return printable(sm, 20).strip().lower().removeprefix("sm").removeprefix("_").replace(".", "")


def _here(trt: trt_api.TensorRT) -> Target:
    try:
        gpu = Gpu()
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(f"{error}; or name the GPU to build for, as in --sm 86 (needs TensorRT-RTX)") from error
    try:
        if trt.rtx:
            trt_api.check_sm(trt, gpu.sm)
        return Target(gpu.sm, gpu.name, gpu.driver)
    finally:
        gpu.close()


def described(made: Engine) -> str:
    """One engine in two lines: what built it, for what, what it is, and where it lies."""
    f = made.facts
    inputs = ", ".join(f"{name} {what}" for name, what in f.inputs.items())
    outputs = ", ".join(f"{name} {what}" for name, what in f.outputs.items())
    convolutions = ", ".join(f"{n} in {kind}" for kind, n in f.convolutions.items())
    how = f"built in {f.seconds:.1f} s" if made.built else "found in the cache"
    return (
        f"{f.built_with}, compute capability {f.sm}, sockets {f.sockets}: {f.precision} (convolutions: {convolutions}; "
        f"{f.quantised} quantising layers), {f.bytes / 1e6:.1f} MB, {how}: {made.path}\n"
        f"  {inputs} -> {outputs}; batches of {f.batches[0]} to {f.batches[-1]}, tuned for {f.batches[1]}"
    )
